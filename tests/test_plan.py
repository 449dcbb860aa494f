"""`--dry-run`: shapes against real models, memory against torch's own tracker, tokens against a table by hand."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from prorl_lab import hub, laptop, shapes
from prorl_lab.errors import UserError
from prorl_mini import Sample
from prorl_scale import batch, memory, missing, plan, policy, recipes, train
from prorl_scale.config import Config

ROOT = Path(__file__).parents[1]
R1 = hub.SHAPES[recipes.R1_DISTILL]
SMALL = shapes.Shape(64, 2, 4, 2, 16, 160, 300, tied=True)
DOMAINS = ("math", "code", "stem", "puzzle", "instruction")


def model_of(shape):
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
    ))  # fmt: skip


def start(name, **changes):
    return Config(**{**recipes.find(name).settings, **changes}, recipe=name)


# ---------------------------------------------------------------- shapes and memory


@pytest.mark.parametrize("shape", [R1, SMALL])
def test_weights_are_those_of_transformers(shape):
    with torch.device("meta"):
        model = model_of(shape)
    assert shape.weights == sum(weight.numel() for weight in model.parameters())
    assert shape.layer_weights == sum(weight.numel() for weight in model.model.layers[0].parameters())
    assert shapes.shape_of(model.config) == shape
    if shape is R1:
        assert round(shape.weights / 1e9, 2) == 1.78  # what the hub says of the model


def test_activations_are_what_autograd_saves(monkeypatch):
    """Bytes of every tensor that the backward pass of a layer holds, weights and rotary tables left out."""
    monkeypatch.setattr(policy, "_mask", lambda query, key, window: None)  # a GPU's kernel needs no mask
    model = model_of(SMALL).bfloat16()
    model.set_attn_implementation(policy.ATTENTION)
    samples = [Sample([1] * 8, [2] * 120), Sample([3] * 16, [4] * 240)]
    packed = batch.pack(samples, "cpu")
    hidden = torch.randn(1, packed.ids.shape[1], SMALL.hidden, dtype=torch.bfloat16, requires_grad=True)
    rotary = model.model.rotary_emb(hidden, packed.positions)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *rotary, hidden)}
    saved = {}

    def save(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model.model.layers[0](hidden, position_embeddings=rotary, pieces=packed.pieces, attention_mask=None)
    measured = sum(size for size, _ in saved.values())
    expected = packed.ids.shape[1] * shapes.layer_activations(SMALL, half=True)
    assert expected == pytest.approx(measured, rel=0.1)


def test_what_checkpointing_saves_and_what_shards_divide():
    """28 layers keep their input, 3,072 bytes a token, in place of all they compute with."""
    with_, without = (
        memory.update_moments(R1, 32, 1000, True, on, gpu=True)["backward pass of a layer"] for on in (True, False)
    )
    kept = "activations kept for the backward pass"
    assert with_[kept] == 28 * 1000 * 1536 * 2
    assert without[kept] == 28 * with_["activations of the layer, recomputed"]
    assert sum(memory.shards(R1, 32).values()) == pytest.approx(16 * R1.weights / 32)
    moments = [memory.update_peak(R1, 32, tokens, True, True, gpu=True)[0] for tokens in (10, 32768)]
    assert moments == ["end of the backward pass", "backward pass of a layer"]  # few tokens: only weights count


def test_room_for_keys_and_values():
    """Of the 1.5B model: 2 heads of 128, keys and values, 28 layers, 2 bytes = 28,672 bytes a token."""
    assert memory.cache_tokens(R1, 2 * R1.weights + 28_672 * 1000 + 5) == 1000
    assert memory.cache_tokens(R1, R1.weights) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "checkpointing"),
    [({}, True), ({"layers": 4, "vocabulary": 20_000}, False), ({"layers": 2, "tied": True}, True)],
    ids=["1.5B", "without checkpointing", "tied"],
)
def test_peak_of_an_update_against_torch_s_tracker(changes, checkpointing):
    """One of 32 ranks, the trainer's own code on fake tensors; results/2026-11-27-plan has the figures."""
    asked = {"world": 32, "tokens": 32768, "checkpointing": checkpointing, "shape": changes}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fake_ranks", json.dumps(asked)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=3000,
    )  # fmt: skip
    measured = json.loads(done.stdout.splitlines()[-1])
    shape = dataclasses.replace(R1, **changes)
    _, update = memory.update_peak(shape, 32, 32768, half=True, checkpointing=checkpointing, gpu=False)
    stay = memory.shards(shape, 32)
    estimate = sum(update.values()) + sum(stay.values()) - stay["reference, shard"]  # which the tracker does not see
    print(f"estimate {estimate / 1e9:.3f} GB, measured {measured['Total'] / 1e9:.3f} GB")
    assert estimate == pytest.approx(measured["Total"], rel=0.15)


# ---------------------------------------------------------------- stages and tokens


def test_stages_of_the_published_recipe_by_hand():
    plans = plan.stage_plans(start("prorl-1.5b"))
    assert [(p.first, p.last) for p in plans[:3]] == [(1, 564), (565, 904), (905, 1042)]
    assert (plans[-1].first, plans[-1].last) == (2251, 2411)
    assert [p.batch for p in plans] == [4096] * 5 + [8192] * 2 + [4096]
    assert [p.most for p in plans] == [4096 * 8192] * 5 + [8192 * 8192] * 2 + [4096 * 16384]
    by_hand = (1687 * 4096 * 8192 + (256 + 307) * 8192 * 8192 + 161 * 4096 * 16384) / 2
    assert plan.run_tokens(plans, 2411) == (by_hand, by_hand)
    # 1,024 answers of 4,096 and 64 prompts of 2,048 tokens, over 32 GPUs and in parts of 32,768: 4.125.
    assert plan.microbatches(plans[0], start("prorl-1.5b"), 32) == 5


def test_what_is_written_beside_what_is_trained_on():
    """45 % of groups kept: 2.2 times as much, at once or in rounds; where hardly any is kept, the bound."""
    config = start("prorl-1.5b", expect_kept=0.45)
    (at_once,) = plan.written_lines(config)
    assert "2.2 times the column 'expected', in one round" in at_once
    assert "never more than 10 times" in at_once
    (in_rounds,) = plan.written_lines(dataclasses.replace(config, draw="rounds"))
    assert "2.2 times the column 'expected', in 2.2 rounds of all prompts, on average" in in_rounds
    assert "10 times the column" in plan.written_lines(dataclasses.replace(config, expect_kept=0.01))[0]
    assert plan.written_lines(dataclasses.replace(config, dynamic_sampling=False)) == []


def test_a_shorter_run_has_stages_without_steps():
    plans = plan.stage_plans(start("prorl-1.5b", steps=700))
    assert [p.steps for p in plans] == [564, 136, 0, 0, 0, 0, 0, 0]
    assert plan.run_tokens(plans, 700)[0] == 700 * 4096 * 8192 / 2


def test_stages_that_end_at_resets_give_a_range():
    plans = plan.stage_plans(start("prorl-1.5b-auto"))
    assert [(p.first, p.last) for p in plans[:2]] == [(1, None), (None, None)]
    assert plans[-1].last == 3000
    assert plan.run_tokens(plans, 3000) == (3000 * 4096 * 8192 / 2, 3000 * 8192 * 8192 / 2)


# ---------------------------------------------------------------- what must be there


@pytest.fixture
def model(tmp_path):
    """A folder with all that a model needs, its weights in two files."""
    folder = tmp_path / "model"
    model_of(SMALL).config.save_pretrained(folder)
    (folder / "tokenizer.json").touch()
    parts = {f"weight {i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    for part in parts.values():
        (folder / part).touch()
    return folder


@pytest.fixture
def data(tmp_path):
    """A prepared folder: one part per domain."""
    folder = tmp_path / "prepared" / "data"
    rows = {"train": 10, "validation": 2}
    parts = [{"name": f"{domain}-0", "domain": domain, "rows": rows} for domain in DOMAINS]
    for split in rows:
        (folder / split).mkdir(parents=True)
        for part in parts:
            (folder / split / f"{part['name']}.parquet").touch()
    (folder / "manifest.json").write_text(json.dumps({"rows": dict.fromkeys(DOMAINS, rows), "parts": parts}))
    return folder


def test_a_model_folder_must_be_whole(model):
    assert missing.missing_model(str(model)) is None
    for name in ("config.json", "tokenizer.json", "model-00002-of-00002.safetensors"):
        (model / name).rename(model / "away")
        assert ("tokenizer" if "token" in name else name) in missing.missing_model(str(model)).what
        (model / "away").rename(model / name)
    (model / "model.safetensors.index.json").unlink()
    assert "weights" in missing.missing_model(str(model)).what


def test_a_model_of_the_hub_is_looked_for_in_the_cache(model, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", partial(hub.snapshot_download, cache_dir=tmp_path / "cache"))
    found = missing.missing_model("some/model")
    assert found.remedy == "hf download some/model"
    repository = tmp_path / "cache" / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots").mkdir()
    model.rename(repository / "snapshots" / ("a" * 40))
    assert missing.missing_model("some/model") is None
    assert hub.known_shape("some/model")[0] == SMALL
    assert "no such folder" in missing.missing_model("./some/model").what


def test_data_must_have_the_domains_of_every_stage(data):
    """Instruction following is trained on from run 3 alone, and validated from the start."""
    config = start("prorl-1.5b", task=str(data))
    assert missing.missing_data(config) is None
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["rows"]["instruction"]["train"] = 0
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert missing.missing_data(config).what.endswith("no train rows of instruction")
    manifest["rows"]["instruction"]["train"] = 10
    (data / "manifest.json").write_text(json.dumps(manifest))
    (data / "train" / "code-0.parquet").unlink()
    assert missing.missing_data(config).what.endswith(f"no {Path('train') / 'code-0.parquet'}")
    (data / "manifest.json").unlink()
    found = missing.missing_data(config)
    assert "not wholly prepared" in found.what
    assert found.remedy == f"python -m prorl_scale.data prepare --recipe prorl-1.5b --out {data}"


def test_other_tasks():
    config = Config(model="some/model", task="leg_counting,maze")
    assert missing.missing_data(config) is None
    config.task = "leg_countin"
    assert "unknown task" in missing.missing_data(config).what
    config.task = "nowhere/questions.jsonl"
    assert "nowhere/questions.jsonl" in missing.missing_data(config).what


# ---------------------------------------------------------------- the command


def test_dry_run_says_all_that_is_missing(tmp_path, monkeypatch, capsys):
    """Without torchrun; the model is known by a table, since the hub is out of reach.  Nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", partial(hub.snapshot_download, cache_dir=tmp_path / "no-cache"))
    monkeypatch.delitem(os.environ, "RANK", raising=False)
    assert train.main(["--recipe", "prorl-1.5b", "--dry-run"]) == 1
    shown = capsys.readouterr()
    assert "hf download deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B" in shown.out
    assert "python -m prorl_scale.data prepare --recipe prorl-1.5b --out data/prorl-1.5b" in shown.out
    assert "nothing is started" in shown.out.splitlines()[0]
    # For somebody who decides on money: where it would run, what is fetched, whether it fits, and what it takes.
    for part in (
        "planned for 32 processes, each on H100 (--gpus, --gpu), of which this machine has none",
        "3.6 GB to fetch, if it lies there in bfloat16",
        "  fits: at most 40.9 GB in any stage, where 90% of 80 GB may be planned with",
    ):
        assert part in shown.out
    for part in ("run 8", "2251 to 2411", "256 x 32 = 8,192", "52.6 billion", "1.78 billion weights"):
        assert part in shown.out
    assert "a table in prorl_lab/hub.py" in shown.out
    assert shown.err == "error: model and data missing: see above what makes it whole\n"
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_what_is_there(model, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "check_start", lambda config: None)  # these files are empty
    there = ["--recipe", "prorl-1.5b", "--dry-run", "--model", str(model), "--task", str(data)]
    assert train.main([*there, "--gpus", "8"]) == 0
    shown = capsys.readouterr().out
    assert "model and data are there" in shown
    assert "8 processes, each on H100" in shown
    assert f"{SMALL.weights / 1e9:.2f} billion weights over 8" in shown
    assert train.main([*there, "--microbatch-tokens", "100000000"]) == 1
    shown = capsys.readouterr()
    assert "more than 80 GB" in shown.out
    assert "  does not fit: at most " in shown.out
    assert "more than 90% of 80: see above what else could be set" in shown.err
    assert train.main([*there, "--gpu", "24", "--gpu-memory", "0.95"]) == 1
    assert "a GPU would take 22.8 GB, more than 90% of 24" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert train.main(["--recipe", "laptop", "--dry-run"]) == 0
    assert "per process" in capsys.readouterr().out


def test_price_of_a_run(monkeypatch, tmp_path, capsys):
    """GPU-hours times what one costs; said nowhere where no price is given."""
    monkeypatch.chdir(tmp_path)
    args = ["--recipe", "prorl-1.5b", "--dry-run"]
    train.main([*args, "--gpu-price", "2.5"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  the whole run:"))
    hours, money = (
        float(figure.replace(",", "")) for figure in re.search(r"(\S+) GPU-hours.* (\S+) in money", line).groups()
    )
    assert money == pytest.approx(2.5 * hours, rel=1e-3)
    train.main(args)
    assert "in money" not in capsys.readouterr().out
    assert train.main([*args, "--gpu-price", "-1"]) == 1
    assert "--gpu-price" in capsys.readouterr().err


def test_dry_run_refuses_what_the_run_would_refuse(tmp_path, monkeypatch, capsys):
    """Once the prompts can be read: of a task that does not fit the context, and of a row in a file."""
    monkeypatch.chdir(tmp_path)
    tokenizer = laptop.build_tokenizer()
    laptop.build_model(laptop.WarmUp(), len(tokenizer)).save_pretrained("tiny")
    tokenizer.save_pretrained("tiny")
    questions = [f"{number} + 1?" for number in range(60)] + ["amber " * 100 + "?"]
    Path("long.jsonl").write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in questions))
    before = {path.name for path in tmp_path.iterdir()}
    args = ["--dry-run", "--model", "tiny", "--device", "cpu", "--max-new-tokens", "28", "--max-prompt-tokens", "100"]
    for task, says in {
        "leg_counting": "a prompt of 264 tokens exceeds --max-prompt-tokens 100",
        "long.jsonl": "long.jsonl, line 61",
    }.items():
        assert train.main([*args, "--task", task]) == 1
        assert says in capsys.readouterr().err
    assert train.main(["--dry-run", "--max-prompt-tokens", "5"]) == 1  # of the laptop model and its task
    assert "exceeds --max-prompt-tokens 5" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == before


def test_dry_run_checks_the_context_with_what_was_left_open(model, data, monkeypatch, capsys):
    """A model of 1,024 tokens and the default prompts of as many: vLLM would not start."""
    monkeypatch.setattr(plan, "check_start", lambda config: None)  # these files are empty
    told = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**told, "max_position_embeddings": 1024}))
    there = ["--dry-run", "--model", str(model), "--task", str(data), "--max-new-tokens", "16"]
    assert train.main(there) == 1
    assert "give --max-prompt-tokens 1008" in capsys.readouterr().err
    assert train.main([*there, "--max-prompt-tokens", "1008"]) == 0


def test_dry_run_checks_the_settings(capsys):
    assert train.main(["--recipe", "prorl-1.5b", "--dry-run", "--gpus", "0"]) == 1
    assert train.main(["--recipe", "prorl-1.5b", "--dry-run", "--eps-low", "1.5"]) == 1
    errors = capsys.readouterr().err
    assert "--gpus is 0" in errors
    assert "--eps-low 1.5" in errors


def test_a_folder_that_is_no_decoder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UserError, match="no decoder"):
        hub.known_shape(str(tmp_path))
