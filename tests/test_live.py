"""The page of a run (`status --html`, `--serve`): what is on it, that answers stay text, and how a browser shows it."""

import html
import html.parser
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from prorl_lab.errors import UserError
from prorl_scale import live, status
from tests.test_status import NOW, ROWS, STAGES, folder, hold, row  # noqa: F401  `folder` is a fixture

HOSTILE = (
    "</pre><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\x1b[2J\u202e{{ 7 * 7 }}"
)


@pytest.fixture
def run(folder, monkeypatch):  # noqa: F811
    """A run at work, with hostile text wherever a model, a file or a task may have put some."""
    made = folder(rows=[*ROWS, {"event": "warning", "step": 60, "rule": "kl", "message": HOSTILE}], recipe=HOSTILE)
    answer = {"tokens": 9, "truncated": True, "text": HOSTILE + "\ud800 " + "word " * 400 + "w" * 400}
    answers = {
        "best": {"reward": 1.0, **answer},
        "median": {"reward": 0.25, **answer},
        "worst": {"reward": 0.0, **answer},
    }
    kept = {"step": 60, "split": "validation", "tier": HOSTILE, "prompt": HOSTILE, "answers": answers}
    (made / "samples.jsonl").write_text(2 * (json.dumps(kept) + "\n"))
    monkeypatch.setattr(status.time, "time", lambda: NOW)
    return made


class Tags(html.parser.HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def of_tag(page, name):
    return [attributes for tag, attributes in Tags(page).tags if tag == name]


def test_what_is_on_the_page(run):
    page, alive = live.page(run, 10)
    assert alive
    text = Tags(page).text
    facts = status.facts(status.read_run(run, NOW), NOW)
    for before_or_after in status.lines(facts, run, NOW):
        for label, value in before_or_after[1:]:
            assert label in text
            assert value in text or value.endswith("{{ 7 * 7 }}")
    assert "stages: 1: short   2: wide" in text
    images = of_tag(page, "img")
    assert [image["alt"] for image in images][:2] == ["share solved", "entropy, nats per token, answers trained on"]
    assert len(images) == 5  # of the six one was not measured
    assert text.count("median, reward 0.25, 9 tokens, cut off") == 2


def test_answers_stay_text(run):
    page, _ = live.page(run, 10)
    assert len(of_tag(page, "script")) == 1  # our own
    assert page.count("owned") == Tags(page).text.count("owned") >= 16
    assert not [image for image in of_tag(page, "img") if not image["src"].startswith("data:image/svg+xml;base64,")]
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", page)
    assert "{{ 7 * 7 }}" in page  # never a template of ours


def test_nothing_comes_from_a_network(run):
    page, _ = live.page(run, 10)
    assert not re.findall(r"https?://", page)
    assert not of_tag(page, "link")


@pytest.mark.parametrize(
    ("holder", "refreshes"), [("here", True), ("unknown", True), ("killed", False), ("nobody", False)]
)
def test_it_loads_itself_again_while_the_run_may_go_on(run, holder, refreshes):
    hold(run / "lock", holder)
    page, alive = live.page(run, 7)
    again = [meta["content"] for meta in of_tag(page, "meta") if meta.get("http-equiv") == "refresh"]
    assert alive is refreshes
    assert again == (["7"] if refreshes else [])


def test_a_run_without_a_step(folder, capsys):  # noqa: F811
    made = folder(rows=[], checkpoint=None, stages=[])
    assert status.main([str(made), "--html"]) == 0
    page = (made / "status.html").read_text(encoding="utf-8")
    assert "none kept yet" in page
    assert not of_tag(page, "img")
    assert f"page             {made / 'status.html'}" in capsys.readouterr().out
    assert not (made / "status.png").exists()


def test_a_page_that_can_t_be_written_whole_leaves_the_one_before(run, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    live.put("before", page)

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"page.html \(No space left on device\): give another --html FILE"):
        live.put("after", page)
    assert page.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("page")] == ["page.html"]


def test_the_file_is_written_until_the_run_ends(run, tmp_path, monkeypatch):
    """Twice: while it is at work, and once more when it is over."""
    waits = []

    def wait(seconds):
        waits.append(seconds)
        hold(run / "lock", "nobody")

    monkeypatch.setattr(live.time, "sleep", wait)
    assert status.main([str(run), "--html", str(tmp_path / "page.html"), "--every", "3"]) == 0
    assert waits == [3.0]
    assert "ended before its last step" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.tmp"))


@pytest.fixture
def server(run):
    """Its address, while it is served."""
    found = []
    make = live.http.server.HTTPServer

    def listen(*args):
        found.append(make(*args))
        return found[0]

    patch = pytest.MonkeyPatch()
    patch.setattr(live.http.server, "HTTPServer", listen)
    thread = threading.Thread(target=live.serve, args=(run, 0))
    thread.start()
    while not found:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{found[0].server_port}"
    found[0].shutdown()
    thread.join()
    patch.undo()


def test_it_is_served_as_it_is_then(server, run):
    def get(path="/"):
        return urllib.request.urlopen(server + path, timeout=60).read().decode()

    assert "step 60 of 100" in get()
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row(61)) + "\n")
    assert "step 61 of 100" in get()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/config.json")  # nothing but the page
    (run / "metrics.jsonl").unlink()
    with pytest.raises(urllib.error.HTTPError, match="no run"):
        get()


def test_a_port_that_is_taken(server, run, capsys):
    assert status.main([str(run), "--serve", server.rpartition(":")[2]]) == 1
    assert "give --serve another" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_in_a_browser(run, tmp_path, width):
    """Headless Chromium: figures are there, nothing is wider than the screen, letters are not small, no answer runs."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium found")
    page, _ = live.page(run, 10_000)
    probe = (
        "onload = () => { const page = frames[0].document, images = [...page.images];"
        "document.body.append(JSON.stringify({broken: images.filter(i => !i.naturalWidth).length,"
        # Letters of a figure are of 8 points and more in its own width.
        "small: images.filter(i => 8 * 96 / 72 * i.width / i.naturalWidth < 9).length, figures: images.length,"
        "wide: page.documentElement.scrollWidth > page.documentElement.clientWidth, title: page.title})) }"
    )
    frame = f'<iframe width="{width}" height="900" srcdoc="{html.escape(page)}"></iframe>'  # no window is so narrow
    (tmp_path / "frame.html").write_text(f"<body>{frame}<script>{probe}</script></body>", encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    found = json.loads(re.findall(r'\{"broken".*?\}(?=</body>)', done.stdout)[-1])
    title = f"{run.name}: step 60 of 100"
    assert found == {"broken": 0, "small": 0, "figures": 5, "wide": False, "title": title}
