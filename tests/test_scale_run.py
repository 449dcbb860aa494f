"""A run of prorl_scale on two gloo processes: the folder, kill and resume, the canary, settings that can't work.

With vLLM, or with prorl_mini's sampler in its place (tests/scale_run.py) where vLLM is not what is tested.
"""

import json
import shutil
import signal
import subprocess

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import prorl_mini as mini
from prorl_lab import laptop
from prorl_lab.cli import stored_settings
from prorl_lab.errors import UserError
from prorl_scale import distributed, train
from prorl_scale.config import Config
from prorl_scale.rollout import Canary
from tests.launch import (
    LIMIT,
    NO_VLLM,
    QUICK,
    ROOT,
    SHORT,
    fails,
    kill_everything,
    our_tracebacks,
    rows,
    run,
    saved,
    start,
    steps,
    wait_for_line,
)
from tests.scale_run import StandIn, faulty
from tests.test_run import assert_equal

KINDS = [  # sampler, arguments: with vLLM it is `make scale-cpu` in short
    pytest.param(("stand-in", QUICK), id="stand-in", marks=pytest.mark.slow),
    pytest.param(("as-it-is", SHORT), id="vllm", marks=NO_VLLM),
]


@pytest.fixture(scope="module", params=KINDS)
def straight(request, tmp_path_factory):
    """An uninterrupted run of six steps on two processes -> (sampler, arguments, folder)."""
    sampler, args = request.param
    out = tmp_path_factory.mktemp("scale") / "straight"
    args = [*args, "--base-cache", out.parent / "base-models"]
    code, _, err = run(sampler, *args, "--out", out)
    assert code == 0, err[-5000:]
    return sampler, args, out


def test_folder_holds_what_the_contract_names(straight):
    _, _, folder = straight
    steps = [r for r in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if "event" not in r]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    promised = (
        "step reward reward_unfiltered solved length truncated entropy kl clip_low clip_high grad_norm groups_kept "
        "groups_generated resets skipped_updates tokens seconds seconds_generate seconds_reward seconds_logprobs "
        "seconds_update seconds_push canary peak_memory sampler_gap outside_bounds learning_rate tokens_wasted "
        "groups_surplus ledger"
    )
    for row in steps:
        assert set(promised.split()) <= set(row)
        assert row["canary"] < 1e-5
        assert row["sampler_gap"] is None or row["sampler_gap"] < 1e-5 or row["groups_surplus"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 6
    assert summary["resets"] == sum(row.get("event") == "reset" for row in rows(folder)) >= 2
    assert all(set(stages) == {"base", "middle", "final"} for stages in summary["tiers"].values())
    assert (folder / "curve.png").stat().st_size > 10_000
    settings = json.loads((folder / "config.json").read_text())["settings"]
    Config(**settings)


def test_ledger_counts_every_rank(straight):
    """Prompts of a round are spread over both processes, and all are counted."""
    _, args, folder = straight
    prompts, answers = (int(args[args.index(name) + 1]) for name in ("--prompts-per-step", "--answers-per-prompt"))
    for row in steps(folder):
        assert row["groups_generated"] % prompts == 0
        assert sum(tier["generated"] for tier in row["ledger"].values()) == row["groups_generated"]
        assert row["tokens"] >= row["groups_generated"] * answers


def test_exports_open_in_transformers(straight):
    _, _, folder = straight
    base, last = (AutoModelForCausalLM.from_pretrained(folder / name).state_dict() for name in ("base", "last"))
    assert base.keys() == last.keys()
    assert any(not torch.equal(base[name], last[name]) for name in base)
    AutoTokenizer.from_pretrained(folder / "last")


@pytest.fixture(scope="module")
def killed(straight):
    """The same run with SIGKILL to all processes in step 5, when the last save was at 3 or 4 -> its folder."""
    sampler, args, expected = straight
    out = expected.parent / "killed"
    process = start(sampler, *args, "--out", out)
    wait_for_line(process, "step     4")
    kill_everything(process)
    assert not (out / "summary.json").exists()
    (out / "checkpoints/step-000005.tmp").mkdir()  # as if killed while saving: never picked up
    return out


def test_kill_and_resume_equals_an_uninterrupted_run(straight, killed, tmp_path):
    sampler, _, expected = straight
    out = shutil.copytree(killed, tmp_path / "killed")
    if sampler == "as-it-is":  # -o: what is installed here will do
        command = ["make", "-o", ".venv/scale-ready", "scale-cpu", f"SCALE={out}"]
        code = subprocess.run(command, cwd=ROOT, timeout=LIMIT, check=False).returncode
    else:
        code, _, _ = run(sampler, "--resume", out)
    assert code == 0
    assert rows(out) == rows(expected)
    assert (out / "samples.jsonl").read_text() == (expected / "samples.jsonl").read_text() != ""
    weights = (load_file(f / "last/model.safetensors") for f in (out, expected))
    assert_equal(*weights)
    plain = (torch.load(f / "checkpoints/step-000006/plain.pt", weights_only=True) for f in (out, expected))
    ours, theirs = plain
    assert_equal({**ours["state"], "seconds": 0}, {**theirs["state"], "seconds": 0})
    assert_equal(ours["generators"], theirs["generators"])


@pytest.mark.slow
def test_resume_on_another_number_of_processes(straight, killed, tmp_path):
    """Two processes, killed in step 5, go on as one: the steps before are the same, the rest runs to the end."""
    sampler, _, expected = straight
    out = shutil.copytree(killed, tmp_path / "killed")
    code, _, err = run(sampler, "--resume", out, processes=1)
    assert code == 0, err[-5000:]
    assert steps(out)[:3] == steps(expected)[:3]
    assert [row["step"] for row in steps(out)] == [1, 2, 3, 4, 5, 6]
    assert all(row["canary"] < 1e-5 for row in steps(out))


# ------------------------------------------------------------------ saving and stopping


@pytest.mark.slow
def test_kill_while_saving_leaves_the_checkpoint_before(tmp_path):
    """The second save takes a minute and training goes on meanwhile; the kill in its midst loses only that save."""
    out = tmp_path / "run"
    process = start("stand-in", *QUICK, "--base-cache", tmp_path, "--out", out, fault="slow-save")
    wait_for_line(process, "step     5")
    assert saved(out) == ["step-000000", "step-000003.tmp"]
    kill_everything(process)
    code, _, err = run("stand-in", "--resume", out, "--steps", "4")
    assert code == 0, err[-5000:]
    assert [row["step"] for row in steps(out)] == [1, 2, 3, 4]
    assert stored_settings(out)["steps"] == 4
    assert saved(out) == ["step-000000", "step-000003", "step-000004"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--no-async-save", "--offload-reference"]], ids=["background", "foreground"])
def test_ctrl_c_saves_and_resumes(tmp_path, more):
    """Ctrl-C reaches torchrun, which hands it on to every rank; they stop after the same step."""
    out = tmp_path / "run"
    args = [*QUICK, "--steps", "1000", "--save-every", "1000", "--base-cache", tmp_path, "--out", out, *more]
    process = start("stand-in", *args)
    wait_for_line(process, "step     3")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert f"stopped; state saved: continue with --resume {out}" in err
    assert not our_tracebacks(err), err[-5000:]
    done = len(steps(out))
    assert saved(out) == ["step-000000", f"step-{done:06d}"]
    code, _, err = run("stand-in", "--resume", out, "--steps", done + 1)
    assert code == 0, err[-5000:]
    assert [row["step"] for row in steps(out)] == list(range(1, done + 2))


# ------------------------------------------------------------------ canary


@NO_VLLM
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param("skip", "did not arrive", marks=pytest.mark.slow),
        pytest.param("permute", "disagree", marks=pytest.mark.slow),
        ("stale", "did not"),
    ],
)
def test_fault_in_the_push_of_one_rank_stops_all_at_that_step(tmp_path, fault, says):
    line = fails("vllm", *QUICK, "--base-cache", tmp_path, "--out", tmp_path / "run", fault=fault)
    assert line.startswith("error: canary: ")
    assert says in line
    assert [row["step"] for row in steps(tmp_path / "run")] == [1]


@pytest.fixture
def alone(monkeypatch):
    """A world of one, without processes."""
    monkeypatch.setattr(distributed, "exchange", lambda mine: [mine])


@pytest.mark.parametrize("learning_rate", [1e-7, 1e-3])
@pytest.mark.parametrize(("fault", "says"), [("skip", "did not arrive"), ("permute", "disagree"), ("stale", "did not")])
def test_canary_tells_the_faults_apart(alone, tmp_path, fault, says, learning_rate):
    """Also where the update is so small that stale weights lie far within the tolerance."""
    model = laptop.build_model(laptop.WarmUp(), 202)
    model.save_pretrained(tmp_path)
    engine = faulty(StandIn, fault)(tmp_path, mini.Config(max_new_tokens=3), [1])
    canary = Canary([[5, 6, 7, 8], [9, 10, 11]], tolerance=1e-4)
    for push in (1, 2, 3):
        for weight in model.parameters():
            weight.data.add_(learning_rate * torch.randn(weight.shape))
        engine.push(model.state_dict().items())
        ours = trainer_scores(model, canary.rows)
        if push < 3:
            assert canary.check(engine.score(canary.rows), ours) < 1e-6
    with pytest.raises(UserError, match=says):
        canary.check(engine.score(canary.rows), ours)


@torch.no_grad()
def trainer_scores(model, rows):
    return torch.cat(
        [mini.token_logprobs(model(torch.tensor([r])).logits[:, :-1], torch.tensor([r[1:]]), 1.0)[0] for r in rows]
    )


def test_canary_stops_on_nan_and_allows_a_step_without_an_update(alone):
    canary, scores = Canary([[1, 2]], tolerance=1e-4), torch.tensor([-1.0])
    assert canary.check(scores, scores) == 0
    assert canary.check(scores, scores) == 0  # neither moved
    with pytest.raises(UserError, match="disagree by nan"):
        canary.check(scores * float("nan"), scores * float("nan"))


# ------------------------------------------------------------------ one sentence for each mistake


def refused(capsys, *args):
    """Exit code 1 and one sentence on standard error -> the sentence."""
    capsys.readouterr()
    assert train.main([str(a) for a in args]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture
def as_rank(monkeypatch):
    """What torchrun tells a process."""

    def become(rank):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))

    return become


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--recipe", "laptob"], "unknown recipe 'laptob': give --recipe one of laptop"),
        (["--dtype", "float64"], "vLLM does not compute in float64"),
        (["--dtype", "bfloat16"], "give --dtype float32"),
        (["--device", "cuda"], "no GPU found"),
        (["--keep-checkpoints", "0"], "give at least 1"),
        (["--answers-per-prompt", "1"], "at least 2"),
        (["--resume", "no/such/run"], "is not a run folder"),
    ],
)
def test_settings_that_cannot_work(capsys, as_rank, args, says):
    if "cuda" in args and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    as_rank(0)
    assert says in refused(capsys, *args)


def test_only_rank_0_speaks(capsys, as_rank):
    as_rank(1)
    assert train.main(["--recipe", "laptob"]) == 1
    assert train.main(["--no-such-flag"]) == 1
    assert capsys.readouterr() == ("", "")


def test_without_torchrun(capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert "torchrun --nproc-per-node 1 -m prorl_scale.train" in refused(capsys, "--recipe", "laptop")
