"""A run as one page that needs no network: state, curves, resets, stages, last answers, health (`status --html`).

While the run may go on, the page asks to be loaded again.  Answers, and all else that comes from a model or a file, are
text: the template escapes them, and control characters are taken out.
"""

import base64
import http.server
import io
import time
from pathlib import Path
from typing import Any

import jinja2

from prorl_lab import report, samples
from prorl_lab.errors import UserError
from prorl_lab.files import whole
from prorl_lab.log import as_a_run_wrote
from prorl_scale import status

MORE = {"truncated": "answers cut off, share", "grad_norm": "norm of the gradient, before clipping"}
SIZE = (4.2, 2.9)  # inches of a panel: as wide as a telephone shows without making its letters small


def page(folder: Path, refresh: float) -> tuple[str, bool]:
    """The page, and whether there may be more to see later.  refresh: seconds until it is loaded again.

    Raises UserError where `folder` is not a run's.
    """
    source, now = status.look(folder)
    run = status.facts(source, now)
    before, after = status.lines(run, folder, now)
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template.filters |= {"short": status.short, "clean": lambda text: samples.clean(str(text), 3 * samples.KEPT)}
    html = template.get_template("live.html").render(
        run=run,
        name=folder.resolve().name,
        lines=grouped([*before[1:], *after]),
        figures_title=status.figures_title(run),
        answers_title=status.answers_title(run) if run.answers else None,
        panels=panels(source.rows) if run.step else {},
        stages=report.stages_caption(source.rows, [stage["name"] for stage in source.stages]),
        share=min(1.0, run.step / run.steps),
        refresh=refresh if run.alive else None,
        now=now,
        clock=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)),
    )
    return html, run.alive


def grouped(lines: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Lines with those that have no label of their own put under the one before.

    >>> grouped([("a", "1"), ("", "2"), ("b", "3")])
    [('a', ['1', '2']), ('b', ['3'])]
    """
    made: list[tuple[str, list[str]]] = []
    for label, text in lines:
        if label:
            made.append((label, []))
        made[-1][1].append(text)
    return made


def panels(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Title and figure, as the address of an SVG that holds itself, of each metric that the run has measured."""
    titles = {**report.panels(rows), **MORE}
    return {
        title: svg(key, title, rows)
        for key, title in titles.items()
        if key == "solved" or any(row.get(key) is not None for row in rows)
    }


def svg(key: str, title: str, rows: list[dict[str, Any]]) -> str:
    pyplot = report.pyplot()
    figure, axis = pyplot.subplots(figsize=SIZE)
    report.draw_panel(axis, key, title, rows)
    axis.set_xlabel(report.step_label(rows))
    if axis.get_legend():  # within so small a panel it would hide a curve
        handles, names = axis.get_legend_handles_labels()
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.36), "ncols": 2}
        axis.legend(handles, names, fontsize=8, frameon=False, **below)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    pyplot.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


# ---------------------------------------------------------------- to a file, and to a browser


def show(given: Any) -> int:
    """What --html and --serve do.  Raises UserError."""
    return serve(given.run, given.serve) if given.serve is not None else write(given.run, given.html, given.every)


def write(folder: Path, path: Path, every: float | None) -> int:
    """Write the page, and where `every` says so again and again for as long as the run goes on.

    path: `Path()` for the run folder's own.
    """
    path = folder / "status.html" if path == Path() else path
    while True:
        with as_a_run_wrote(folder):
            html, alive = page(folder, every or status.EVERY)
        put(html, path)
        if not every or not alive:
            break
        print(f"{'page':17}{path}, again in {every:g} s (Ctrl-C ends that)", flush=True)
        try:
            time.sleep(every)
        except KeyboardInterrupt:
            return 130
    print(f"{'page':17}{path}")
    return 0


def put(html: str, path: Path) -> None:
    """Replaced as a whole: a browser may be reading the one before."""
    try:
        with whole(path) as file:
            file.write(html.encode(errors="replace"))
    except OSError as error:
        raise UserError(f"can't write {path} ({error.strerror}): give another --html FILE") from error


def serve(folder: Path, port: int) -> int:
    """Answer a browser on this machine, and no other, with the page as it is then."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                return self.send_error(404)
            try:
                with as_a_run_wrote(folder):
                    html, _ = page(folder, status.EVERY)
            except UserError as error:
                return self.send_error(500, "no run", str(error))
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode(errors="replace"))
            return None

        def log_message(self, *_: Any) -> None:
            pass

    try:
        server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"can't listen on port {port} ({error}): give --serve another") from error
    with server:
        print(f"{'page':17}http://127.0.0.1:{server.server_port} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
