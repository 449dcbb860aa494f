"""Two gloo processes and a mistake, or a process that fails: one sentence from rank 0, exit code 1, nobody hangs."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from transformers import CONFIG_MAPPING, LlamaConfig, LlamaForCausalLM

from prorl_lab import laptop
from prorl_lab.errors import UserError
from prorl_scale import rollout
from prorl_scale.evaluate import sampler
from tests.launch import NO_VLLM, QUICK, fails, rows, run, saved, steps
from tests.test_run import assert_equal


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Where the untrained base model is cached."""
    return tmp_path_factory.mktemp("base-models")


@pytest.fixture
def quick(base, tmp_path):
    """The arguments of a run into tmp_path/run."""
    return [*QUICK, "--base-cache", base, "--out", tmp_path / "run"]


# ------------------------------------------------------------------ bad input


def test_model_folder_without_weights(tmp_path):
    """Found by rank 0 while the other waits."""
    laptop.build_tokenizer().save_pretrained(tmp_path / "model")
    args = ["--real-task", "--model", tmp_path / "model", "--task", "leg_counting", "--out", tmp_path / "run"]
    assert "Hugging Face" in fails("stand-in", *args)


def test_unknown_flag(tmp_path):
    """One sentence, once; the report behind it is torchrun's."""
    code, out, err = run("stand-in", "--no-such-flag", "--out", tmp_path / "run")
    assert code == 1
    assert (out + err).count("no-such-flag") <= 2  # the parser names it, and may suggest what is like it
    assert "exitcode  : 1" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_prompt_longer_than_the_context(quick):
    assert "are more than the model's context of 128: give --max-prompt-tokens 2" in fails(
        "stand-in", *quick, "--max-new-tokens", "126"
    )


def test_vllm_missing_on_one_rank(quick):
    """The rank that lacks it has no voice; rank 0 tells."""
    assert "vLLM can't be imported" in fails("stand-in", *quick, fault="no-vllm")


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """A run of one step on one process."""
    out = tmp_path_factory.mktemp("finished") / "run"
    code, _, err = run("stand-in", *QUICK, "--base-cache", base, "--out", out, "--steps", "1", processes=1)
    assert code == 0, err[-5000:]
    return out


def test_checkpoint_of_another_model(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(out / "base")
    wider = laptop.build_model(laptop.WarmUp(width=64), len(laptop.build_tokenizer()))
    wider.save_pretrained(out / "base")
    laptop.build_tokenizer().save_pretrained(out / "base")
    line = fails("stand-in", "--resume", out, "--steps", "2")
    assert "does not fit this model" in line
    assert "resume it with the model it was made from" in line


def test_run_that_was_never_saved_begins_from_the_start(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    for checkpoint in (out / "checkpoints").iterdir():
        checkpoint.rename(checkpoint.with_suffix(".tmp"))  # killed in the first save
    code, _, err = run("stand-in", "--resume", out, processes=1)
    assert code == 0, err[-5000:]
    assert rows(out) == rows(finished)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.9, 1.0])
def test_damaged_checkpoint_is_set_aside_and_the_one_before_it_goes_on(finished, tmp_path, place):
    """A file cut at some byte, or of its length and not as it was written."""
    out = shutil.copytree(finished, tmp_path / "run")
    newest = out / "checkpoints/step-000001"
    victim = sorted(path for path in newest.iterdir() if path.name != "manifest.json")[int(place * 2)]
    data = victim.read_bytes()
    victim.write_bytes(data[: int(place * len(data))] if place < 1 else data[:-1] + bytes([data[-1] ^ 1]))
    code, said, err = run("stand-in", "--resume", out, processes=1)
    assert code == 0, err[-5000:]
    (line,) = [line for line in said.splitlines() if "is damaged" in line]
    assert "going on from the one before it" in line
    assert rows(out) == rows(finished)
    assert "step-000001.damaged" in saved(out)


@pytest.mark.slow
def test_number_of_processes_that_divides_nothing(quick, finished, tmp_path):
    """Five prompts, 40 answers, two evaluation prompts: none is a multiple of three, and nothing has to be.

    What an evaluation measures does not depend on that number.
    """
    code, _, err = run("stand-in", *quick, "--steps", "2", processes=3)
    assert code == 0, err[-5000:]
    assert [row["step"] for row in steps(tmp_path / "run")] == [1, 2]
    of_base = [[r for r in rows(f) if r.get("event") in ("evaluation", "boundary") and r["step"] == 0]
               for f in (tmp_path / "run", finished)]  # fmt: skip
    assert len(of_base[0]) == 2
    assert of_base[0] == of_base[1]


# ------------------------------------------------------------------ failures while running


def test_full_disk_while_saving_in_the_background(quick, tmp_path):
    """On rank 1 alone, at the save of step 3; told on the next occasion, and the checkpoint before is still there."""
    line = fails("stand-in", *quick, "--save-every", "3", fault="full-disk")
    assert "can't save to" in line
    assert "free some space, then --resume" in line
    assert "step-000000" in saved(tmp_path / "run")
    assert "step-000003" not in saved(tmp_path / "run")


def test_rank_that_dies_ends_all(quick, tmp_path):
    """SIGKILL to rank 1 in step 3, while rank 0 is in a collective or enters one."""
    assert "another process ended" in fails("stand-in", *quick, fault="die")
    assert [row["step"] for row in steps(tmp_path / "run")] == [1, 2]


@pytest.mark.slow
def test_rank_that_hangs_ends_all(quick, tmp_path):
    """Rank 1 is silent in step 3; the time-out of the collective ends rank 0, and torchrun then ends rank 1."""
    assert "was silent for 0.5 minutes" in fails("stand-in", *quick, "--timeout-minutes", "0.5", fault="hang")
    assert [row["step"] for row in steps(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize("fault", ["nan", pytest.param("nan-gradient", marks=pytest.mark.slow)])
def test_nan_on_one_rank_skips_on_all_and_stops_with_a_checkpoint(quick, tmp_path, fault):
    """In its loss, or in its gradient alone, from step 3 on.

    The weights stay as they were, on every rank, and the run gives up after K such steps.
    """
    args = ["--max-bad-steps", "2", "--steps", "20", "--save-every", "2", "--reset-every", "0"]
    line = fails("stand-in", *quick, *args, fault=fault)
    assert "2 steps in a row had no contrast or a loss that is not finite" in line
    healthy, ill = steps(tmp_path / "run")[:2], steps(tmp_path / "run")[2:]
    assert [row["skipped_updates"] for row in healthy] == [0, 0]
    assert [row["step"] for row in ill] == [3, 4]
    assert all(row["skipped_updates"] == ill[0]["skipped_updates"] > 0 for row in ill)
    assert saved(tmp_path / "run")[-2:] == ["step-000002", "step-000004"]
    dcp_to_torch_save(tmp_path / "run/checkpoints/step-000004", tmp_path / "whole.pt")
    dcp_to_torch_save(tmp_path / "run/checkpoints/step-000002", tmp_path / "before.pt")
    stopped, before = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "before.pt"))
    assert_equal(stopped, before)


# ------------------------------------------------------------------ a real full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a tmpfs is not possible here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_disk_that_fills_up(base, small_disk):
    line = fails("stand-in", *QUICK, "--base-cache", base, "--out", small_disk / "run", "--keep-checkpoints", "9")
    assert "free some space, then --resume" in line
    assert "No space left" in line or "as on a full disk" in line  # not torch's "unexpected pos 704 vs 598"
    assert json.loads((small_disk / "run/config.json").read_text())


def test_weights_that_vllm_does_not_know_are_one_sentence():
    """BioGPT's head, in vLLM 0.32: "There is no module or parameter named ...", and a list of all there are."""

    def refuse(*args, **kwargs):
        raise ValueError("There is no module named 'output_projection'; there are " + "a, " * 500)

    engine = object.__new__(rollout.Engine)
    engine.gpu, engine.has_head, engine.llm = False, True, SimpleNamespace(collective_rpc=refuse)
    with pytest.raises(UserError, match=r"(?s)^vLLM does not take .*output_projection.{0,99}with prorl_mini.py$"):
        engine.push([])


def starts_engine(folder):
    config = SimpleNamespace(device="cpu", dtype="float32", seed=0, rollout_batch=1)
    rollout.Engine(folder, config, [], 8)


def starts_sampler(folder):
    settings = dict.fromkeys(("dtype", "seed", "max_seqs", "temperature", "top_p", "n", "max_tokens"))
    sampler.Sampler(folder, SimpleNamespace(device="cpu", **settings), [], 8)


@pytest.mark.parametrize(
    ("start", "advice"), [(starts_engine, "with prorl_mini.py"), (starts_sampler, "another model")]
)
@pytest.mark.parametrize("place", ["constructor", "first token"])
@pytest.mark.parametrize(
    "error", [OSError("no image processor"), ValueError("1 validation error\n  no image processor"), AssertionError()]
)
def test_a_vllm_that_does_not_start_is_one_sentence(monkeypatch, start, advice, place, error):
    """Models of other kinds than text end in whatever vLLM or transformers raises (Fuyu, GOT-OCR2).

    A size of heads that its CPU kernels lack is found at the first token, see below.
    """

    def refuse(*args, **kwargs):
        raise error

    late = SimpleNamespace(LLM=lambda *args, **kwargs: SimpleNamespace(generate=refuse), SamplingParams=dict)
    early = SimpleNamespace(LLM=refuse, SamplingParams=dict)
    for module in (rollout, sampler):
        monkeypatch.setattr(module, "import_vllm", lambda: late if place == "first token" else early)
    monkeypatch.setattr(rollout, "refuse_experts", lambda config: None)
    monkeypatch.setattr(rollout.AutoConfig, "from_pretrained", lambda folder: None)
    with pytest.raises(UserError, match=rf"^vLLM does not start on folder \([^\n]*(image|Assertion)[^\n]*{advice}$"):
        start("folder")


@NO_VLLM
@pytest.mark.slow
def test_heads_that_vllm_has_no_kernel_for_are_told_at_the_start(tmp_path):
    """vLLM's CPU build finds out at the first token, which was the first answer: a traceback, after all the waiting."""
    tokenizer = laptop.build_tokenizer()
    tokenizer.save_pretrained(tmp_path / "model")
    sizes = {"num_hidden_layers": 1, "intermediate_size": 64, "vocab_size": len(tokenizer), "eos_token_id": 1}
    model = LlamaForCausalLM(LlamaConfig(hidden_size=64, num_attention_heads=4, **sizes))  # heads of 16
    model.save_pretrained(tmp_path / "model")
    rows = [json.dumps({"question": f"{n} + {n} = ?", "answer": str(2 * n)}) for n in range(40)]
    (tmp_path / "sums.jsonl").write_text("\n".join(rows))
    args = ["--model", tmp_path / "model", "--max-prompt-tokens", "64", "--max-new-tokens", "8"]
    said = fails("as-it-is", *args, "--task", tmp_path / "sums.jsonl", "--out", tmp_path / "run")
    assert re.search(r"vLLM does not start on \S+ \(.*head_dim=16.*\): .* trains with prorl_mini.py$", said)


@pytest.mark.parametrize(
    ("kind", "sizes", "many"),
    [
        ("mixtral", {}, True),
        ("hunyuan_v1_moe", {"num_experts": 1}, True),
        ("hunyuan_v1_dense", {}, False),
        ("llama", {}, False),
    ],
)
def test_mixtures_of_experts_are_refused_where_vllm_ruins_them(kind, sizes, many):
    with pytest.raises(UserError, match="mixture of experts") if many else contextlib.nullcontext():
        rollout.refuse_experts(CONFIG_MAPPING[kind](**sizes))
