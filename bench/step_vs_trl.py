"""One training step of `prorl_mini.py` and of `prorl_scale` against TRL's GRPOTrainer: same model, same work, same
machine, same minutes.

    python bench/step_vs_trl.py --out results/<date-name>/step_vs_trl.json

See bench/README.md for what is measured and how to read the result.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from measure import machine
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, logging, set_seed

HERE = Path(__file__).resolve().parent
PARTS = ("generate", "reward", "logprobs", "update", "push", "rest")


@dataclass
class Args:
    """Time one rollout step (generate, score, update) of each trainer, turn by turn."""

    out: Path | None = None  # where the result goes, as JSON; not given: only printed
    sides: tuple[Literal["mini", "scale", "trl"], ...] = ("mini", "trl")  # scale needs vLLM
    threads: int = 1  # torch threads, on all sides
    repeats: int = 5  # turns of each side; a turn is a process of its own
    steps: int = 8  # timed steps per turn
    warmup: int = 2  # steps before them that are thrown away
    trl_python: Path | None = None  # an interpreter with TRL; not given: bench/.venv-trl, made when missing
    microbatch: int = 64  # answers per forward and backward pass, on all sides
    prompts: int = 16
    answers: int = 16
    prompt_tokens: int = 8
    answer_tokens: int = 12
    updates: int = 4
    temperature: float = 1.2
    kl_coef: float = 1e-3
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    hidden: int = 256  # width of the model
    layers: int = 4
    vocabulary: int = 128


def check(args: Args) -> None:
    if args.prompts % args.updates or args.prompts // args.updates * args.answers % args.microbatch:
        sys.exit(
            f"error: {args.prompts} x {args.answers} answers do not fall into {args.updates} updates of whole groups, "
            f"each cut into micro-batches of {args.microbatch}: choose numbers that divide"
        )
    if args.trl_python and not args.trl_python.exists():
        sys.exit(f"error: no interpreter at {args.trl_python}: leave --trl-python out, and one with TRL is made")


def make_model(folder: Path, args: Args) -> int:
    """A random Llama (3.4M parameters by default), its tokenizer of one token a word; returns the parameters' number.

    The end token is one number beyond the model's vocabulary, so it is never sampled and every answer has full length.
    """
    logging.set_verbosity_error()  # transformers finds that odd, and says so
    logging.disable_progress_bar()
    words = {f"w{i}": i for i in range(args.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel({**words, "<eos>": args.vocabulary}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="w0")
    set_seed(0)
    config = LlamaConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        intermediate_size=3 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64,
        num_key_value_heads=args.hidden // 64,
        max_position_embeddings=args.prompt_tokens + args.answer_tokens,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=args.vocabulary,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return model.num_parameters()


def make_prompts(args: Args) -> list[str]:
    """Enough prompts that no step repeats one; all of the same length, so that no side pads."""
    draw = random.Random(0)
    count = args.prompts * (args.warmup + args.steps + 1)
    return [" ".join(f"w{draw.randrange(1, args.vocabulary)}" for _ in range(args.prompt_tokens)) for _ in range(count)]


def trl_python(args: Args) -> Path:
    """The interpreter of TRL's own environment, which is made on the first run."""
    if args.trl_python:
        return args.trl_python
    folder = HERE / ".venv-trl"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"making {folder} (once)", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "requirements-trl.txt"], check=True)
        ready.touch()  # after the installation, or one that was cut off would count as made
    return python


def take_turn(side: str, python: Path, settings: Path, threads: int, root: Path = HERE.parent) -> dict[str, Any]:
    """Run one side in a process of its own; returns what it measured.  root: the working tree whose code it runs."""
    result = settings.with_name(f"{side}.json")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(root),  # ours; bench/ itself is on the path of a script in it
    }
    command = [python, root / "bench" / f"worker_{side}.py", settings, result]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: the turn of {side} failed, its last words were:\n{(done.stdout + done.stderr)[-3000:]}")
    return json.loads(result.read_text(encoding="utf-8"))


def check_equal_work(side: str, turn: dict[str, Any], args: Args) -> None:
    """A time means nothing unless both sides did the same."""
    want = {"updates": args.updates, "answer_tokens": args.prompts * args.answers * args.answer_tokens}
    for step in turn["steps"]:
        got = {key: step[key] for key in want}
        if got != want:
            sys.exit(f"error: a step of {side} had {got} instead of {want}, so the two sides can't be compared")
    if len(turn["steps"]) != args.steps or turn["threads"] != args.threads:
        sys.exit(f"error: {side} ran {len(turn['steps'])} steps on {turn['threads']} threads, not what was asked")


def summarize(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over all timed steps of one side; the steps themselves stay beside them."""
    steps = [step for turn in turns for step in turn["steps"]]
    return {
        "seconds": statistics.median(step["seconds"] for step in steps),
        "cpu_seconds": statistics.median(step["cpu_seconds"] for step in steps),
        "fastest": min(step["seconds"] for step in steps),
        "split": {part: statistics.median(step["parts"].get(part, 0.0) for step in steps) for part in PARTS},
        "updates_per_step": steps[0]["updates"],
        "answer_tokens_per_step": steps[0]["answer_tokens"],
        "versions": turns[0]["versions"],
        "turns": [turn["steps"] for turn in turns],
    }


def compare(turns: dict[str, list[dict[str, Any]]], args: Args, parameters: int, before: dict) -> dict[str, Any]:
    """What each side took, and of our sides its share of TRL's time."""
    sides = {side: summarize(taken) for side, taken in turns.items()}
    ratios = {}
    for side in set(sides) - {"trl"} if "trl" in sides else ():
        pairs = zip(turns[side], turns["trl"], strict=True)
        ratios[side] = {
            "seconds": sides[side]["seconds"] / sides["trl"]["seconds"],
            "cpu_seconds": sides[side]["cpu_seconds"] / sides["trl"]["cpu_seconds"],
            "seconds_by_turn": [summarize([a])["seconds"] / summarize([b])["seconds"] for a, b in pairs],
        }
    return {
        "of_trl": ratios,
        "settings": {key: value for key, value in asdict(args).items() if key not in ("out", "trl_python")},
        "parameters": parameters,
        "machine": {"before": before, "after": machine()},
        "sides": sides,
    }


def report(result: dict[str, Any]) -> str:
    """The table, and the line that counts."""
    rows = [f"{'median seconds':16}" + "".join(f"{name:>10}" for name in ("step", "cpu", "fastest", *PARTS))]
    for side, values in result["sides"].items():
        numbers = [values["seconds"], values["cpu_seconds"], values["fastest"], *values["split"].values()]
        rows.append(f"{side:16}" + "".join(f"{number:10.3f}" for number in numbers))
        rows.append(
            f"{'':16}  {values['answer_tokens_per_step']} answer tokens, {values['updates_per_step']} updates a step"
        )
    for side, ratio in result["of_trl"].items():
        low, high = min(ratio["seconds_by_turn"]), max(ratio["seconds_by_turn"])
        rows.append(
            f"{side} takes {ratio['seconds']:.2f} of TRL's time (turn by turn {low:.2f} to {high:.2f}; "
            f"of its processor time {ratio['cpu_seconds']:.2f})"
        )
    busy = any(side["cpu_seconds"] < 0.9 * side["seconds"] for side in result["sides"].values())
    if busy and result["settings"]["threads"] == 1:
        rows.append("the machine was busy with other things: the ratio of processor time is the one to trust")
    return "\n".join(rows)


def main(args: Args) -> None:
    check(args)
    pythons = {side: trl_python(args) if side == "trl" else Path(sys.executable) for side in args.sides}
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in pythons}
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        parameters = make_model(Path(folder) / "model", args)
        settings = Path(folder) / "settings.json"
        plain = {key: value for key, value in asdict(args).items() if not isinstance(value, Path)}
        extra = {"model": str(Path(folder) / "model"), "prompt_texts": make_prompts(args)}
        settings.write_text(json.dumps(plain | extra), encoding="utf-8")
        for repeat in range(args.repeats):  # turn by turn, so that a busy minute hits all
            for side, python in pythons.items():
                turn = take_turn(side, python, settings, args.threads)
                check_equal_work(side, turn, args)
                turns[side].append(turn)
                print(
                    f"turn {repeat + 1}/{args.repeats}  {side:5} {summarize([turn])['seconds']:.3f} s a step",
                    flush=True,
                )
    result = compare(turns, args, parameters, before)
    print(report(result))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args))
