"""Tables, figures and text to files: CSV, PNG, SVG, and one HTML page with the figures inside."""

import base64
import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from tqdm import tqdm

from prorl_lab.errors import UserError
from prorl_lab.run_folder import write_json

from . import figures

SHOWN = 500  # rows of a table on the page; its CSV file has all
TEXT = 700  # characters of a prompt or an answer on the page


@dataclass
class Table:
    """`name` is the CSV file's; `text` names the columns that hold prompts and answers, which the page leaves out."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Any]]
    text: tuple[str, ...] = ()
    on_page: bool = True

    def shown(self) -> tuple[list[tuple[str, bool]], list[list[Any]]]:
        """Columns, each with whether it holds text, and rows for the page."""
        kept = [i for i, column in enumerate(self.columns) if column not in self.text]
        is_text = [any(isinstance(row[i], str) for row in self.rows) for i in kept]
        columns = list(zip([self.columns[i] for i in kept], is_text, strict=True))
        return columns, [[row[i] for i in kept] for row in self.rows[:SHOWN]]


@dataclass
class Plot:
    """A figure and its caption, in which {key} stands for a fact of the section."""

    name: str
    figure: Figure
    caption: str


@dataclass
class Example:
    """A prompt and an answer, shown as they are."""

    title: str
    prompt: str
    answer: str


@dataclass
class Section:
    """One chapter of the page.  `facts` are the numbers in its sentences; {key} in a sentence stands for one."""

    anchor: str
    title: str
    text: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


def number(value: Any) -> str:
    """How a cell is shown: three digits after the point; 0.0004 would vanish and keeps two digits of its own.

    >>> number(0.87913), number(12), number(0.000423), number(-1e-9), number(None), number("a")
    ('0.879', '12', '0.00042', '0.000', '', 'a')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if abs(value) < 1e-4:
        return "0.000"
    return f"{value:.3f}" if abs(value) >= 1e-3 else f"{value:.2g}"


def spoken(value: Any) -> str:
    """How a number stands in a sentence: as in a cell, without zeros at its end.

    >>> spoken(0.95), spoken(1.0), spoken(100), spoken(0.879)
    ('0.95', '1', '100', '0.879')
    """
    return number(value).rstrip("0").rstrip(".") if isinstance(value, float) else number(value)


def clean(text: str, most: int) -> str:
    """Model output fit for a page or a cell: no control characters, cut to `most` characters."""
    text = "".join(c if c in "\n\t" or c.isprintable() or c.isspace() else "\ufffd" for c in text[:most])
    text = text.replace("\r", "\n").replace("\x0b", "\n").replace("\x0c", "\n")
    return text.translate({i: "\ufffd" for i in (*range(9), *range(14, 32))})


def cell(value: Any) -> Any:
    """A value for CSV.  Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if isinstance(value, bool):
        return number(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return "'" + value
    return value


def write_csv(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell(value) for value in row] for row in rows)


def filled(section: Section, sentence: str) -> Markup:
    """A sentence with its facts, each marked with the name under which facts.csv has it."""
    marked = {
        key: Markup('<span data-fact="{}.{}">{}</span>').format(section.anchor, key, spoken(value))
        for key, value in section.facts.items()
    }
    return Markup(sentence).format(**marked)


def check_folder(folder: Path) -> None:
    """Raise UserError unless `folder` is new, empty, or an analysis, which may be replaced."""
    if folder.exists() and not (folder / "facts.csv").exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} holds something else: give --out a new folder, or one that an analysis made")


def write(folder: Path, title: str, sections: list[Section], absent: list[str], config: dict[str, Any]) -> None:
    """Everything into `folder`, which appears, or is replaced, as a whole.  Raises UserError for a foreign folder."""
    check_folder(folder)
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "figures").mkdir(parents=True)
    for section in sections:
        for table in section.tables:
            write_csv(unfinished / f"{table.name}.csv", table.columns, table.rows)
        for plot in tqdm(section.plots, f"figures, {section.anchor}", leave=False, disable=None):
            figures.save(plot.figure, unfinished / "figures" / plot.name)
    facts = [[section.anchor, key, value] for section in sections for key, value in section.facts.items()]
    write_csv(unfinished / "facts.csv", ["section", "fact", "value"], facts)
    write_json(unfinished / "config.json", config)
    (unfinished / "index.html").write_text(html(unfinished, title, sections, absent), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def html(folder: Path, title: str, sections: list[Section], absent: list[str]) -> str:
    """The page; the figures are read from `folder`."""

    def image(name: str) -> str:
        return "data:image/png;base64," + base64.b64encode((folder / "figures" / f"{name}.png").read_bytes()).decode()

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"number": number, "cut": lambda text: escape(clean(text, TEXT))}
    template = page.get_template("page.html")
    return template.render(
        title=title, sections=sections, absent=absent, filled=filled, image=image, shown=SHOWN, length=TEXT
    )
