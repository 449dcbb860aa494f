"""`--dry-run` of one device: what it counts, the nearest settings that fit, and that the run accepts what it passes."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest
from transformers import Qwen2Config

import prorl_mini as mini
import prorl_v2 as v2
from prorl_lab import devices, dry_run, hub, laptop, memory, settings
from prorl_lab.errors import UserError

README = (Path(__file__).parents[1] / "README.md").read_text()
NAMES = ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder to run in, and a hub's cache without anything."""
    monkeypatch.chdir(tmp_path)

    def offline(*_, **__):
        raise OSError("no network, and nothing in the cache")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    return tmp_path


def config_folder(name):
    """The model's config.json and nothing else, as a folder of that name below."""
    shape = hub.SHAPES[name]
    Qwen2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied, max_position_embeddings=131_072,
    ).save_pretrained(name)  # fmt: skip


def files():
    return sorted(path.relative_to(Path.cwd()) for path in Path.cwd().rglob("*"))


# ---------------------------------------------------------------- the table of README


def rows():
    """(arguments, GB at the peak of training, those counted, answers side by side, seconds of a step) of README."""
    table = README.split("<!-- fits -->")[1].split("<!-- /fits -->")[0]
    for row in table.strip().splitlines()[2:]:
        command, *figures = (cell.strip(" `") for cell in row.strip("|").split("|"))
        yield shlex.split(command)[2:], *figures


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: " ".join(row[0][1:]))
def test_what_the_readme_says_fits_does(row, capsys):
    """From configs alone, and nothing is written."""
    args, planned, _, *others = row  # what is counted, and how, is in test_memory.py
    config_folder(args[args.index("--model") + 1])
    before = files()
    assert mini.main([*args, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    _, *training = (float(size) for size in re.findall(r"together +([\d.]+) GB", shown))
    side_by_side = re.search(r"keys and values of (\d+) answers", shown).group(1)
    seconds = re.search(r"  together ([\d.e+]+);", shown).group(1)
    assert [f"{max(training):.1f}", side_by_side, f"{float(f'{float(seconds):.2g}'):.0f}"] == [planned, *others]
    assert files() == before


def test_the_readme_has_both_models():
    told = [" ".join(args) for args, *_ in rows()]
    assert any(NAMES[0] in text and "--gpu 24" in text for text in told)
    assert any(NAMES[1] in text and "--gpu 80" in text for text in told)


# ---------------------------------------------------------------- the nearest that fits


def planned(name=NAMES[0], gpu="24", **changes):
    config, card = dry_run.planned(mini.Config(model=name, dry_run=True, gpu=gpu, **changes))
    return config, hub.SHAPES[name], card.memory


def test_without_them_it_does_not_fit_and_the_nearest_is_named_and_does(capsys):
    config_folder(NAMES[0])
    args = ["--model", NAMES[0], "--gpu", "24", "--dry-run"]
    assert mini.main(args) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    flags = re.search(r"the nearest that fits is (--.*)$", said).group(1).split()
    assert flags == ["--lora-rank", "32"]
    assert mini.main([*args, *flags]) == 0


def test_one_change_before_two_and_what_computes_the_same_before_what_does_not():
    config, shape, there = planned(adam_8bit=True, offload_reference=True)
    assert memory.nearest(shape, config, there) == {"microbatch_tokens": 4096}
    config, shape, there = planned(gpu="30", adam_8bit=True, microbatch_tokens=4096)
    assert memory.nearest(shape, config, there) == {"bfloat16_reference": True}
    config, shape, there = planned(NAMES[1], "24")
    assert memory.nearest(shape, config, there) == {}  # the weights alone are more
    config, shape, there = planned(gpu="24", lora_rank=32, max_new_tokens=8192)
    assert memory.nearest(shape, config, there) == {"boundary_answers": 16}  # which are written together


@pytest.mark.parametrize("there", [16e9, 24e9, 32e9, 40e9])
def test_the_nearest_fits_and_nothing_with_fewer_changes_does(there):
    config, shape, _ = planned()
    changes = memory.nearest(shape, config, there)
    assert changes
    assert memory.fits(shape, dataclasses.replace(config, **changes), there)
    for name in changes:
        fewer = {key: value for key, value in changes.items() if key != name}
        assert not memory.fits(shape, dataclasses.replace(config, **fewer), there)


def test_answers_fill_what_is_left():
    config, shape, there = planned(lora_rank=32)
    rows = memory.side_by_side(shape, config, there)
    writing = memory.moments(shape, config, rows)["while answers are written"]
    assert sum(writing.values()) <= 0.9 * there < sum(writing.values()) + memory.answer(shape, config)


# ---------------------------------------------------------------- one check for both


def test_what_is_wrong_is_the_same_sentence_in_both(capsys):
    """Of context, settings, task and rows; and the dry run writes nothing."""
    Path("rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": 3}\n')
    for args in (
        ["--max-new-tokens", "100000"], ["--max-prompt-tokens", "127"], ["--task", "leg_counting"],
        ["--task", "nothing.py"], ["--eps-low", "1.5"], ["--eval-sets", "nowhere", "1"], ["--lora-rank", "-1"],
        ["--bfloat16-reference"], ["--lora-rank", "4", "--offload-reference"], ["--adam-8bit", "--dtype", "float64"],
        ["--lora-rank", "4", "--reset-keeps-optimizer"], ["--model", "nowhere", "--task", "rows.jsonl"],
    ):  # fmt: skip
        before = files()
        assert mini.main([*args, "--dry-run"]) == 1
        planned = capsys.readouterr().err
        assert files() == before
        assert mini.main([*args, "--warm-up-steps", "0"]) == 1
        assert capsys.readouterr().err == planned, args


def test_rows_are_checked_with_the_model_s_own_tokenizer_and_without_its_weights(capsys):
    """One row of 60 is too long: both name its line; what the dry run passes with --skip-bad-rows is accepted."""
    model = laptop.base_model_folder(laptop.WarmUp(steps=0), Path("cache"))
    rows = [{"question": f"amber birch {number}", "answer": str(number)} for number in range(60)]
    rows[12]["question"] = "amber " * 3000
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = ["--model", str(model), "--task", "rows.jsonl", "--max-new-tokens", "10", "--device", "cpu", "--out", "run"]
    said = []
    capsys.readouterr()  # of the making of that model
    for more in (["--dry-run"], []):
        assert mini.main([*args, *more]) == 1
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert "rows.jsonl, line 13 can't be asked" in said[0]
    weights = next(model.glob("*.safetensors"))
    weights.rename("away")
    before = files()
    for more in ([], ["--lora-rank", "4"], ["--bfloat16-reference", "--dtype", "bfloat16"]):
        assert mini.main([*args, "--skip-bad-rows", "--dry-run", *more]) == 0
        assert "not checked: its weights" in capsys.readouterr().out
    assert files() == before
    Path("away").rename(weights)
    quick = ["--steps", "1", "--prompts-per-step", "2", "--eval-every", "0", "--boundary-prompts", "0"]
    assert mini.main([*args, "--skip-bad-rows", *quick]) == 1  # nothing to learn from; it got as far as that
    assert "no group ever had contrast" in capsys.readouterr().err


def test_the_laptop_model_and_v2(capsys):
    assert mini.main(["--dry-run"]) == 0
    assert "planned for this CPU, float32" in capsys.readouterr().out
    assert v2.main(["--dry-run", "--advantage", "batch", "--gpu", "H100"]) == 0
    assert "planned for H100, bfloat16" in capsys.readouterr().out
    assert v2.main(["--dry-run", "--lora-rank", "4", "--reset-to", "best"]) == 1
    assert "--reset-to best needs a reference of its own" in capsys.readouterr().err
    assert files() == []


def test_gpu_is_for_a_plan_and_has_to_be_known(capsys):
    for args, says in {
        "--gpu 24": "give that as well",
        "--gpu 24x --dry-run": "is not known: give GB",
        "--gpu -3 --dry-run": "is not known: give GB",
        "--device cuda --dry-run": "say which one to plan for with --gpu",
    }.items():
        assert mini.main(args.split()) == 1
        assert says in capsys.readouterr().err


def test_a_model_whose_shape_is_nowhere_is_told(capsys):
    assert mini.main(["--dry-run", "--model", "some/model", "--gpu", "24"]) == 1
    assert "give --model a folder with its config.json" in capsys.readouterr().err


def test_a_run_that_can_t_even_hold_what_stays_is_refused_before_it_loads(monkeypatch):
    config = dataclasses.replace(settings.resolve(mini.Config(model=NAMES[0])), device="cuda")
    monkeypatch.setattr(memory.torch.cuda, "get_device_properties", lambda _: devices.of("24"))
    monkeypatch.setattr(devices.Device, "total_memory", 24e9, raising=False)
    with pytest.raises(UserError, match=r"take 28.4 GB, and the GPU has 24.0: see what fits with --dry-run"):
        mini.models.load_policy(config)
    config.lora_rank = 32
    memory.check(config)


def test_a_resumed_run_is_planned_with_its_own_settings(place, capsys):
    stored = json.loads(json.dumps(dataclasses.asdict(settings.resolve(mini.Config(out="run", steps=7)))))
    Path("run").mkdir()
    Path("run/config.json").write_text(json.dumps({"settings": stored}))
    assert mini.main(["--resume", "run", "--dry-run"]) == 0
    assert "7 steps" in capsys.readouterr().out
