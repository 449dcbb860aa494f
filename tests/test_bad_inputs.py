"""Over a hundred mistakes on the command lines: each is one sentence that says what to do, and none goes on."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import prorl_mini
import prorl_v2
from prorl_lab import compare, flags, study
from prorl_lab.errors import UserError
from prorl_scale import recipes, status

TASK = "def problem(number):\n    return {'prompt': f'{number}?'}\n"
MINI = {  # arguments of prorl_mini.py: what the sentence says
    "--lr 1e-6": "no option --lr: did you mean --learning-rate?",
    "--learning-rat 1e-6": "did you mean --learning-rate?",
    "--batch-size 8": "did you mean --prompts-per-step?",
    "--group-size 8": "did you mean --answers-per-prompt?",
    "--max-tokens 8": "did you mean --max-new-tokens?",
    "--output-dir x": "did you mean --out?",
    "--beta 0.1": "did you mean --kl-coef?",
    "--epochs 3": "see --help",
    "--steps ten": "--steps takes a whole number, not 'ten'",
    "--steps 1.5": "--steps takes a whole number, not '1.5'",
    "--steps": "--steps takes a whole number, and none follows",
    "--steps --seed 1": "--steps takes a whole number, and none follows",
    "--steps 0": "--steps is 0: give at least 1",
    "--steps -3": "--steps is -3: give at least 1",
    "--seed 99999999999999999999999": "more than 64 bits hold",
    "--learning-rate fast": "--learning-rate takes a number, not 'fast'",
    "--learning-rate nan": "must be a finite number",
    "--learning-rate 0": "must be above 0",
    "--temperature 0": "must be above 0",
    "--temperature 0.001": "is below 0.01",
    "--device tpu": "--device takes one of auto, cpu, cuda, not 'tpu'",
    "--dtype int8": "--dtype takes one of auto, float32",
    "--loss-level word": "--loss-level takes one of token, sample",
    "--kl-kind k4": "--kl-kind takes one of k1, k2, k3",
    "--answers-per-prompt 1": "give at least 2",
    "--eps-low 1.5": "give less than 1",
    "--grad-clip -1": "above 0",
    "--eval-every 0 --reset-on-stall 3": "needs validation",
    "--eval-sets nowhere": "see --help",
    "--device cuda": "no GPU found",
    "--max-new-tokens 100000": "leaves no prompt room in the model's context of 128",
    "--max-prompt-tokens 127": "give --max-prompt-tokens 106",
    "--task leg_counting": "the laptop model knows 38 words",
    "--task nothing.py": "can't read nothing.py",
    "--task words.py": "has no function score",
    "--task words.py:Nobody": "has no Nobody",
    "--model nowhere --task laptop": "speaks the 38 words of the laptop model only",
    "--out file": "can't write to file",
    "--out file/below": "can't write to file/below",
    "--out old": "old holds another run: continue it with --resume old",
    "--resume nowhere": "nowhere is not a run folder",
    "--resume file": "file is not a run folder",
    "--resume broken": "broken is not a run folder",
    "--resume other": "was written by another version",
    "word": "word",
    "--no-seed": "no option --no-seed: did you mean --seed?",
    "--reset-steps 1 two": "two",
    "--track neptune": "--track takes one of off, tensorboard, wandb, trackio, not 'neptune'",
    "--tensorboard": "no option --tensorboard: did you mean --track?",
    "--gpu 24": "--gpu says what --dry-run plans for",
    "--dry-run --gpu pigeon": "give GB of memory, such as 24, or one of H100",
    "--lora-rank two": "--lora-rank takes a whole number, not 'two'",
    "--threads -1": "--threads must not be negative",
    "--chat-template-kwargs x": "give NAME=VALUE",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run in, with things that mistakes are made with."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a file")
    Path("words.py").write_text(TASK)
    for folder, config in {"old": {"settings": {}}, "broken": None, "other": {"settings": {"steps": 1}}}.items():
        Path(folder).mkdir()
        Path(folder, "config.json").write_text("{" if config is None else json.dumps(config))
    Path("old/metrics.jsonl").write_text('{"step": 1}\n')
    Path("rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    return tmp_path


def one_sentence(capsys, says: str) -> None:
    said = capsys.readouterr().err.strip()
    assert says in said
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("args", MINI)
def test_mini_says_what_to_do(place, capsys, args):
    before = {path.name for path in place.iterdir()}
    assert prorl_mini.main(args.split()) == 1
    one_sentence(capsys, MINI[args])
    assert {path.name for path in place.iterdir()} - {"runs"} == before  # a start that failed leaves no folder
    assert not list(place.glob("runs/*"))


V2 = {
    "--overlong-buffer 22": "must be less than --max-new-tokens 22",
    "--reset-to best --eval-every 0": "--reset-to best needs validation",
    "--reset-kl-above 1 --kl-coef 0": "watches the KL",
    "--advantage everyone": "--advantage takes one of group, batch",
}


STATUS = {
    "": "arguments are required: run: see --help",
    "nowhere": "nowhere is not a folder",
    "broken": "not a run folder",
    "other": "has no metrics.jsonl",
    "torn": "line 2 of metrics.jsonl is not JSON",
    "lists": "line 1 of metrics.jsonl is not JSON (no object)",
    "strange": "strange holds rows that no run writes (KeyError: 'seconds'): give a folder made by --out",
    "strange --html": "strange holds rows that no run writes",
    "begun --html nowhere/page.html": "can't write nowhere/page.html (No such file or directory): give another --html",
    "begun --figure a.png --html b.html": "not allowed with argument --figure",
    "begun --every 3": "goes with --html",
    "begun --html --every 0": "takes seconds above 0",
    "begun --serve 70000": "can't listen on port 70000",
    "begun --serve x": "invalid int value: 'x': see --help",
}
ROWS = {"torn": '{"step": 1}\n{"st\n{"step": 2}\n', "lists": "[1]\n[2]\n", "strange": '{"step": 1}\n', "begun": ""}


@pytest.fixture
def runs(place):
    """Run folders whose rows can't be used; and one that has none yet."""
    for name, rows in ROWS.items():
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps({"settings": {"steps": 3, "seed": len(name)}}))
        Path(name, "metrics.jsonl").write_text(rows)


COMPARE = {
    "": "arguments are required: RUN: see --help",
    "nowhere": "nowhere is not a run folder",
    "begun begun": "is given twice",
    "begun --out x.jpg": "give a name that ends in .png",
    "begun --out nowhere/x.png": "choose another --out",
    "torn": "line 2 of torn/metrics.jsonl is not JSON",
    "lists": "line 1 of lists/metrics.jsonl is not JSON",
    "strange": "strange holds rows that no run writes (KeyError: 'clip_low')",
}


STUDY = {
    "": "arguments are required: command: see --help",
    "rum": "invalid choice: 'rum'",
    "run nothing": "there is no study 'nothing': choose one of",
    "run clip --seeds x": "invalid int value: 'x': see --help",
    "run clip --seeds 0 0": "give each seed once",
    "run clip --jobs 0": "--jobs must be at least 1",
    "report clip --out nowhere": "0 seeds are whole",
}


PROGRAMS = {prorl_v2: V2, status: STATUS, compare: COMPARE, study: STUDY}


@pytest.mark.parametrize(("program", "args"), [(program, args) for program, some in PROGRAMS.items() for args in some])
def test_a_program_says_what_to_do(runs, capsys, program, args):
    assert program.main(args.split()) == 1
    one_sentence(capsys, PROGRAMS[program][args])


COMMANDS = {  # of programs whose first word is a command
    "prorl_scale.data": ("", "prepar"),
    "prorl_scale.rewards": ("", "chek", "check --gold 3", "check --domain art --gold 3 --answer 4"),
    "tutorials.build": ("", "pages"),
}


@pytest.mark.parametrize(("module", "args"), [(module, args) for module, some in COMMANDS.items() for args in some])
def test_a_command_that_is_none(place, capsys, module, args):
    program = importlib.import_module(module if module == "tutorials.build" else f"{module}.__main__")
    try:
        code = program.main(args.split())
    except SystemExit as left:
        code = left.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
    assert code not in (0, None)
    one_sentence(capsys, "--help" if "check " in args and "art" not in args else "")


@pytest.mark.parametrize("module", COMMANDS)
def test_help_is_no_mistake(capsys, module):
    program = importlib.import_module(module if module == "tutorials.build" else f"{module}.__main__")
    try:
        code = program.main(["--help"])
    except SystemExit as left:
        code = left.code
    assert code == 0
    assert capsys.readouterr().out.startswith("usage: python -m ")


def test_recipes_say_what_to_do(capsys):
    assert recipes.main(["show", "prorl-15b"]) == 1
    one_sentence(capsys, "unknown recipe 'prorl-15b'")
    assert recipes.main([]) == 1
    one_sentence(capsys, "usage: python -m prorl_scale.recipes list")
    assert recipes.main(["--help"]) == 0


SCALE = {
    "--dry-run --gpu-memory 2": "--gpu-memory 2.0 is a share",
    "--dry-run --recipe nothing": "unknown recipe 'nothing'",
    "--dry-run --mismatch always": "--mismatch takes one of off, tis, icepop",
    "--dry-run --gpus few": "--gpus takes a whole number, not 'few'",
    "--steps 3": "started by torchrun",
    "--dry-run --lora-rank 4": "--lora-rank is for one device",
    "--dry-run --gpu nothing": "is not known: give GB of memory",
    "--dry-run --max-prompt-tokens 127": "give --max-prompt-tokens 106",
}


@pytest.mark.parametrize("args", SCALE)
def test_scale_says_what_to_do(place, capsys, monkeypatch, args):
    train = pytest.importorskip("prorl_scale.train", reason="pip install -r requirements-rewards.txt")
    monkeypatch.delenv("RANK", raising=False)
    assert train.main(args.split()) == 1
    one_sentence(capsys, SCALE[args])


EVALUATE = {
    "--sets math": "models",
    "--models nowhere --sets math": "give NAME=DIR",
    "--models a=nowhere --sets math": "no Hugging Face folder there",
    "--models a=old --sets nothing": "unknown set 'nothing'",
    "--models a=old --sets rows.json": "a file of your own is named by its path",
    "--models a=old --sets none.jsonl": "there is no such file",
    "--models a=old --sets math --n zero": "--n takes a whole number",
    "--models a=old --sets math --n 0": "--n is 0",
    "--models a=old --sets math --samples 3": "no option --samples",
    "--models a=old --sets math --data-dir nowhere": "--data-dir nowhere: there is no such folder",
    "table": "see --help",
    "tabel old": "see --help",
    "table nowhere": "is not an evaluation",
}


@pytest.mark.parametrize("args", EVALUATE)
def test_evaluate_says_what_to_do(place, capsys, args):
    evaluate = pytest.importorskip("prorl_scale.evaluate.__main__", reason="pip install -r requirements-rewards.txt")
    assert evaluate.main(args.split()) == 1
    one_sentence(capsys, EVALUATE[args])


PREPARE = {
    "--out x --own nothing.txt": "--own nothing.txt: give a .jsonl",
    "--out x --recipe huge": "unknown recipe 'huge'",
    "--out x --source maths=file": "--source takes NAME=PATH",
    "--out x --files rows.jsonl": "no option --files",
    "--recipe tiny": "out",
    "--out file": "--out file is a file: give a folder",
}


@pytest.mark.parametrize("args", PREPARE)
def test_prepare_says_what_to_do(place, args):
    data = pytest.importorskip("prorl_scale.data.__main__", reason="pip install -r requirements-rewards.txt")
    with pytest.raises(SystemExit) as left:
        data.main(["prepare", *args.split()])
    assert str(left.value).startswith("error: ")
    assert PREPARE[args] in str(left.value)
    assert "\n" not in str(left.value)


def test_there_are_a_hundred_and_twenty_of_them():
    tables = (MINI, V2, STATUS, COMPARE, STUDY, SCALE, EVALUATE, PREPARE, *COMMANDS.values())
    assert sum(map(len, tables)) + 2 >= 120


@pytest.mark.parametrize(
    ("args", "value"),
    [("--binary-reward", True), ("--no-binary-reward", False), ("--binary-reward False", False),
     ("--binary-reward=true", True), ("", None)],
)  # fmt: skip
def test_a_switch_left_open_can_be_set_either_way(args, value):
    assert prorl_mini.cli.parse(prorl_mini.Config, args.split()).binary_reward is value


def test_help_shows_the_defaults_in_force(capsys):
    for model, expected in (("laptop", "(default: 100)"), ("other", "(default: 500)")):
        with pytest.raises(SystemExit):
            prorl_mini.cli.parse(prorl_mini.Config, ["--model", model, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert expected in text.split("--steps")[1].split("--")[0]


def test_what_tyro_says_becomes_one_sentence():
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        flags.read(prorl_mini.Config, ["--chat-template-kwargs"] * 2 + ["--eval-sets", "a", "b"])


@pytest.mark.parametrize("command", ["prorl_mini.py --help", "-m prorl_scale.recipes list", "-m prorl_lab.study list"])
def test_a_pipe_that_closes_is_no_error(command):
    """As `| head` does to a text that is longer than it wants."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, *command.split()], stdout=writer, stderr=subprocess.PIPE, cwd=Path(prorl_mini.__file__).parent
    )
    os.close(writer)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_without_a_broken_pipe_the_exit_code_is_kept():
    assert flags.piped(lambda: 3) == 3
