"""What a run leaves for people to read: answers of its evaluations, and the card of the model that it made."""

import json
import re
import subprocess
from types import SimpleNamespace

import pytest
import yaml

import prorl_mini as mini
from prorl_lab import card, samples, tasks
from prorl_lab.files import read_json
from prorl_lab.run_folder import commit_of
from tests.launch import ROOT
from tests.test_mini import ToyTask, make_run  # noqa: F401  a fixture


def sample(reward, text="answer", truncated=False):
    return SimpleNamespace(reward=reward, answer=list(text), truncated=truncated)


@pytest.mark.parametrize(
    ("rewards", "picked"),
    [
        ([0.2, 1.0, 0.5, 0.0, 0.7], {"best": 1, "median": 2, "worst": 3}),
        ([0.0, 1.0, 0.0, 0.0], {"best": 1, "median": 2, "worst": 3}),
        ([0.0, 1.0], {"best": 1, "worst": 0}),
        ([0.5], {"best": 0}),
        ([None, 0.5, None], {"best": 1}),  # what could not be judged is neither good nor bad
        ([None], {}),
        ([], {}),
    ],
)
def test_best_median_and_worst(rewards, picked):
    group = [sample(reward) for reward in rewards]
    places = {id(one): place for place, one in enumerate(group)}
    assert {name: places[id(one)] for name, one in samples.extremes(group).items()} == picked


def test_a_few_prompts_spread_over_the_tiers():
    problems = [tasks.Problem(f"tier {i // 16}", f"question {i}", {}) for i in range(12 * 16)]
    kept = samples.rows(problems, [[sample(1.0)]] * len(problems), lambda problem, some: ["x" * 5000] * len(some))
    assert [row["tier"] for row in kept] == [f"tier {i}" for i in (0, 2, 4, 6, 8, 10)]
    text = kept[0]["answers"]["best"]["text"]
    assert text.startswith("x" * 2000 + " ... 1000 characters left out ... x")
    assert samples.rows([], [], None) == []


@pytest.mark.parametrize("count", [1, 5, 6, 7, 13, 1000])
def test_no_more_prompts_than_that(count):
    problems = [tasks.Problem("toy", "?", {})] * count
    kept = samples.rows(problems, [[sample(1.0)]] * count, lambda problem, some: ["y"])
    assert min(count, 4) <= len(kept) <= samples.PROMPTS


def test_a_chat_is_kept_with_its_roles():
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1?"}]
    assert samples.as_text(chat) == "system: be brief\nuser: 1+1?"


def test_hostile_text_does_nothing_to_a_terminal():
    shown = samples.one_line("\x1b[2J\x1b]0;title\x07 \u202eright\r\nnext\x00\ud800", 200)
    assert not [c for c in shown if not c.isprintable()]
    assert shown.endswith("next\ufffd\ufffd")


def test_an_evaluation_leaves_its_answers(make_run):  # noqa: F811
    run = make_run(eval_every=1, eval_prompts=3, eval_answers=4, boundary_prompts=2, boundary_answers=2)
    with run.folder:
        mini.validate(run)
        mini.measure_boundary(run, "base")
    path = run.folder.path / samples.FILE
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["split"] for row in kept] == 3 * ["validation"] + 2 * ["held-out"]
    assert kept[0].keys() == {"step", "split", "tier", "prompt", "answers"}
    assert kept[0]["prompt"] == "apple"
    for row in kept:
        rewards = [answer["reward"] for answer in row["answers"].values()]
        assert rewards == sorted(rewards, reverse=True)
        for answer in row["answers"].values():
            assert answer["reward"] == ToyTask().score([(tasks.Problem("", "", {"contrast": True}), answer["text"])])[0]
    assert samples.last(run.folder.path) == kept[3:]
    path.write_text(path.read_text() + '{"step": 0, "spl')  # of a run at work
    assert samples.last(run.folder.path) == kept[3:]


def test_a_folder_without_answers(tmp_path):
    assert samples.last(tmp_path) == []


# ---------------------------------------------------------------- model card


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of the toy kind."""
    out = tmp_path_factory.mktemp("card") / "run"
    args = "--warm-up-steps 0 --steps 3 --prompts-per-step 2 --answers-per-prompt 4 --max-new-tokens 3 --eval-every 1"
    args += " --eval-prompts 2 --eval-answers 2 --boundary-prompts 2 --boundary-answers 2 --reset-every 2"
    args += " --reset-min-spacing 1 --no-dynamic-sampling --kl-kind k2"
    patch = pytest.MonkeyPatch()
    patch.setattr(tasks, "load_task", lambda config, stop_ids: ToyTask())
    assert mini.main([*args.split(), "--out", str(out), "--base-cache", str(out.parent / "base")]) == 0
    patch.undo()
    return out


def test_the_card_says_how_the_model_was_made(finished):
    text = (finished / "last/README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {"library_name": "transformers", "tags": ["prorl"]}
    about = body.split("## Evaluation")[0].splitlines()
    facts = dict(line.strip("| ").split(" | ") for line in about if line.startswith("| ") and line.strip("| "))
    assert facts["base model"].startswith("laptop")
    assert facts["steps"] == "3 of 3"
    assert facts["resets of the reference"] == "2"
    assert "--kl-kind k2" in facts["settings that are not the defaults"]
    assert str(finished.parent) not in text  # where it was made is nobody's business
    assert facts["verifiers"].startswith(f"version {read_json(finished / 'config.json')['verifiers']} ")
    toy = read_json(finished / "summary.json")["tiers"]["toy"]
    (row,) = [line for line in body.splitlines() if line.startswith("| toy")]
    assert all(f"{toy[stage]['pass@k'][k]:.3f} [" in row for stage in ("base", "middle", "final") for k in ("1", "2"))
    assert "Validation (pass@1" in body
    assert text.endswith("Licence of the base model: not stated.\n")


def test_the_commit_is_that_of_our_own_checkout(tmp_path):
    """Installed into an environment inside another project, git would name that project's."""
    assert re.fullmatch(r"[\w.-]+", commit_of(ROOT))
    installed = tmp_path / "site-packages"
    installed.mkdir()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert commit_of(installed) is None


def test_the_card_of_the_copy_says_that_it_is_one(finished):
    assert "untrained" in (finished / "base/README.md").read_text()


@pytest.mark.parametrize(
    ("card_of_base", "licence"),
    [
        ("---\nlicense: apache-2.0\nlanguage: en\n---\n# A model\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", "qwen-research"),
        ("# A model without a head\n", "not stated"),
        ("---\n- a list\n---\n", "not stated"),
        ("---\n[broken\n---\n", "not stated"),
        (None, "not stated"),
    ],
)
def test_the_licence_is_that_of_the_base(finished, tmp_path, card_of_base, licence):
    """A run from our own export carries it on."""
    if card_of_base is not None:
        (tmp_path / "README.md").write_text(card_of_base)
    config = mini.settings.resolve(mini.Config(device="cpu"))
    config.model = str(tmp_path)
    text = card.text(config, finished, "last")
    assert f"Licence of the base model: {licence}." in text
    (tmp_path / "README.md").write_text(text)
    assert card.licence_of(tmp_path) == licence


def test_a_model_of_the_hub_is_named_in_the_head(finished):
    config = mini.settings.resolve(mini.Config(device="cpu"))
    config.model = "owner/model"
    assert yaml.safe_load(card.text(config, finished, "last").split("---")[1])["base_model"] == "owner/model"
