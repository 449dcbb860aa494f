"""All chapters as one page for a browser that has no network: formulas as MathML, figures and outputs inside.

Markdown is read by markdown-it-py (CommonMark, with the tables and $formulas$ that GitHub shows), formulas become
MathML by latex2mathml, code is coloured by Pygments.
"""

import base64
import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

LEXERS = {"python": "python", "console": "console", "pdb": "pycon"}
STYLE = """
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1.05rem/1.55 Georgia, serif; color: #222 }
h1 { margin-top: 5rem; border-bottom: 2px solid #2f6db3 } h1, h2 { font-family: sans-serif; line-height: 1.2 }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; font-size: .85rem; line-height: 1.35 }
pre.output { background: none; border-left: 3px solid #b9cfe4; margin-top: -.8rem }
code { font-size: .88em } img { max-width: 100% } math[display=block] { margin: 1rem 0 }
table { border-collapse: collapse; font-size: .9rem; display: block; overflow-x: auto }
td, th { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top }
"""


def code_block(text: str, language: str, _attributes: str) -> str:
    """A fenced block as HTML; "text" is what the block above it printed."""
    if language not in LEXERS:
        return f'<pre class="output">{html.escape(text)}</pre>'
    inner = highlight(text, get_lexer_by_name(LEXERS[language]), HtmlFormatter(nowrap=True))
    return f"<pre>{inner}</pre>"


def formula(text: str, options: dict) -> str:
    """A formula as MathML, which browsers draw by themselves."""
    mathml = convert(text, display="block" if options["display_mode"] else "inline")
    return mathml.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.17em"/>')  # as TeX sets it


def chapter(path: Path, slug, names: list[str]) -> str:
    """One chapter as HTML; its headings' anchors begin with the chapter's name, so that they differ over the page."""
    text = re.sub(r"^<!-- says\n.*?-->\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for name in names:
        text = re.sub(
            rf"\]\({re.escape(name)}(?:#([^)]*))?\)",
            lambda m, n=name: f"](#{Path(n).stem}{'-' * bool(m[1])}{m[1] or ''})",
            text,
        )
    text = re.sub(r"\]\((figures/[\w-]+\.png)\)", lambda m: f"]({data_url(path.parent / m[1])})", text)
    markdown = MarkdownIt("commonmark", {"html": True, "highlight": code_block}).enable("table")
    markdown.validateLink = lambda url: True  # figures are data: URLs, our own
    markdown.use(dollarmath_plugin, renderer=formula).use(
        anchors_plugin, max_level=2, slug_func=lambda h: f"{path.stem}-{slug(h)}"
    )
    return f'<section id="{path.stem}">{markdown.render(text)}</section>'


def data_url(figure: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(figure.read_bytes()).decode()


def page(paths: list[Path], slug) -> str:
    """The contents and the chapters, in this order, as one HTML document that needs nothing beside it."""
    names = [path.name for path in paths]
    body = "\n".join(chapter(path, slug, names) for path in paths)
    style = STYLE + HtmlFormatter(style="friendly").get_style_defs("pre")
    head = f'<meta charset="utf-8"><title>ProRL: the tutorials</title><style>{style}</style>'
    return f'<!doctype html><html lang="en">{head}\n{body}\n</html>\n'
