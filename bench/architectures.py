"""Every architecture that transformers builds as a causal language model: right, or refused in one sentence?

    python bench/architectures.py --out results/DATE-architectures [--only llama gemma2] [--vllm llama gemma2]

A tiny model of each family, from its default config with some changes of size (`prorl_lab.probe.tiny`) and random
weights, goes through the door as a user's folder does.  What gets in is compared with the same weights in memory, one
row at a time with written-out attention: padded and with shared prompts in mini, packed in scale, and, for the families
named by --vllm (about 40 seconds each), in vLLM as loaded and after a push of weights that were changed.

Writes families.json and table.md.  Exit code 1 where one is wrong or ends in a traceback.
"""

import argparse
import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

sys.path.insert(0, str(Path(__file__).parents[1]))
import prorl_mini
from prorl_lab import models, probe
from prorl_lab.errors import UserError, first_line
from prorl_scale import batch, policy

CLOSE = 1e-3  # nats; the same limit as the probe's
TEN = ("llama", "qwen3", "mistral", "gemma2", "gpt_oss", "gpt2", "phi3", "granite", "qwen3_next", "bert")
# What a default config leaves open and every real one of the family says.
GIVEN = {
    "nemotron": {"num_key_value_heads": 8},
    **{key: {"head_dim": 128, "num_key_value_heads": 8} for key in ("ministral", "hunyuan_v1_dense", "hunyuan_v1_moe")},
    "deepseek_v2": {"num_experts_per_tok": 6, "n_routed_experts": 64, "first_k_dense_replace": 1},
    "dots1": {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1, "n_shared_experts": 2},
}
# Where a default config leaves out what makes the family: layers of both kinds, windows that are used.
MORE = {
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "falcon": {"alibi": False},
}
MARKS = ("right", "refused", "not built", "not tried", "wrong", "traceback")


def family(kind: str) -> Any:
    """A tiny model of this family with weights that all matter.  Raises whatever its classes raise."""
    config = probe.tiny(CONFIG_MAPPING[kind](**GIVEN.get(kind, {})))
    for name, value in MORE.get(kind, {}).items():
        setattr(config, name, value)
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    model.config.validate()  # what a folder of it would be refused for
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
        model(input_ids=torch.tensor([draw(20, 0)]), use_cache=False)
    return model


def draw(count: int, seed: int) -> list[int]:
    return torch.randint(4, 48, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def rows() -> list[prorl_mini.Sample]:
    """Longer than every border of a tiny copy; two share their prompt."""
    pieces = ((11, 1, 29, 2), (11, 1, 6, 3), (23, 4, 25, 5))
    return [prorl_mini.Sample(draw(p, s), draw(a, t)) for p, s, a, t in pieces]


@torch.no_grad()
def truth(model: Any) -> list[torch.Tensor]:
    """Log-probs of each answer: one row, no cache, attention written out where the class has it."""
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation("eager")
    except Exception:  # noqa: BLE001 - a class with one implementation says so in its own way
        model.set_attn_implementation(before)
    found = []
    for sample in rows():
        ids = torch.tensor([sample.prompt + sample.answer])
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        found.append(prorl_mini.token_logprobs(logits, ids[:, 1:], 1.2)[0, len(sample.prompt) - 1 :])
    return found


def save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    inner = Tokenizer(WordLevel({f"w{i}": i for i in range(48)}, unk_token="w3"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w3", eos_token="w2", pad_token="w0")
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def in_mini(loaded: Any) -> torch.Tensor:
    both = []
    for mode in (False, True):
        samples = prorl_mini.make_batch(rows(), "cpu")
        logp, _ = prorl_mini.answer_logprobs(loaded.train(mode), samples, 1.2)
        both.append(logp[samples.mask])
    loaded.eval()
    return torch.stack(both)


@torch.no_grad()
def in_scale(loaded: Any) -> torch.Tensor:
    policy.check_packing(loaded)
    return policy.Scorer(loaded)(batch.pack(rows(), "cpu"), 1.2)[0]


def judged(score: Any, want: torch.Tensor) -> str:
    """ "right", or what is not, in one line."""
    try:
        gap = (score() - want).abs().max().item()
    except UserError as error:
        return f"refused: {reason(error)}"
    except Exception as error:  # noqa: BLE001 - which of them there are is what is looked for
        return f"traceback: {type(error).__name__}: {first_line(error)[:160]}"
    return "right" if gap < CLOSE else f"wrong: {gap:.2g} nats"


def reason(error: UserError) -> str:
    """Its sentence without the folder's name and the advice."""
    text = str(error).partition("trained here: ")[2] or str(error).partition(" ")[2]
    return re.sub(r"'[^']*/tmp\w+'", "'FOLDER'", text.partition("; choose another")[0])


def try_family(kind: str, with_vllm: bool) -> dict[str, str]:
    try:
        model = family(kind)
        want = torch.cat(truth(model))
    except Exception as error:  # noqa: BLE001 - a default config need not be one that can be built
        return {"mini": f"not built: {type(error).__name__}: {first_line(error)[:160]}"}
    with tempfile.TemporaryDirectory() as name:
        folder, loaded = Path(name), []
        save(model, folder)
        settings = SimpleNamespace(model=name, dtype="float32", device="cpu", gradient_checkpointing=False, seed=0)

        def mini() -> torch.Tensor:
            loaded.append(models.load_policy(settings)[0])
            return in_mini(loaded[0])

        found = {"mini": judged(mini, want)}
        if found["mini"] == "right":
            found["scale"] = judged(lambda: in_scale(loaded[0]), want)
        if with_vllm and found.get("scale") == "right":
            found["vllm"] = in_child(folder)
    return found


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def in_child(folder: Path) -> str:
    """vLLM in a process of its own: it can be started once, and leaves its traces."""
    world = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **world},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    last = [line for line in done.stdout.splitlines() if line.startswith("verdict ")]
    if last:
        return last[-1].removeprefix("verdict ")
    return f"traceback: {(done.stderr.strip() or 'no output').splitlines()[-1][:160]}"


def child(folder: str) -> None:
    """Load, start vLLM, push, change all weights, push again; print a verdict."""
    import torch.distributed as dist

    from prorl_scale import config, rollout

    dist.init_process_group("gloo")
    settings = config.Config(
        model=folder, dtype="float32", device="cpu", gradient_checkpointing=False, rollout_batch=4, max_new_tokens=16,
        base_cache=folder,
    )  # fmt: skip
    samples = [prorl_mini.Sample(s.prompt[:1], s.prompt[1:] + s.answer) for s in rows()]

    def gap() -> float:
        ours = policy.score_samples(scorer, samples, 500, 1.0)
        theirs = engine.score([s.prompt + s.answer for s in samples])
        return (theirs - torch.cat([logp for logp, _ in ours])).abs().mean().item()  # as the canary takes it

    try:
        scorer, _, _ = policy.load(settings, folder)
        engine = rollout.Engine(folder, settings, [2], 96)
        gaps = [gap()]
        if gaps[0] > CLOSE:
            raise UserError(
                f"trained here: vLLM makes another model of the same files, by {gaps[0]:.2g} nats a token, so the "
                "canary stops a run at its start"
            )
        for change in (0.0, 0.05):
            with torch.no_grad():
                for weight in scorer.parameters():
                    weight.mul_(1 + change)
            engine.push(policy.full_weights(scorer, torch.float32))
            gaps.append(gap())
        steps = zip(("as loaded", "after a push", "after a push of changed weights"), gaps, strict=True)
        off = [f"{gap:.2g} nats {when}" for when, gap in steps if not gap < CLOSE]
        verdict = f"wrong: {'; '.join(off)}" if off else "right"
    except UserError as error:
        verdict = f"refused: {reason(error)}"
    except Exception as error:  # noqa: BLE001 - as in `judged`
        verdict = f"traceback: {type(error).__name__}: {first_line(error)[:160]}"
    print(f"\nverdict {verdict}", flush=True)
    os._exit(0)  # vLLM's own end takes seconds


def mark(verdict: str | None) -> str:
    return (verdict or "not tried").partition(":")[0]


def table(found: dict[str, dict[str, str]]) -> str:
    """Markdown: a line for each family, why it is refused, and sums."""
    lines = ["| family | mini | scale | vLLM, with pushes | why not |", "|---|---|---|---|---|"]
    for kind, verdicts in found.items():
        cells = [mark(verdicts.get(where)) if where in verdicts else "" for where in ("mini", "scale", "vllm")]
        why = next((v.partition(": ")[2] for v in verdicts.values() if mark(v) != "right"), "")
        lines.append(f"| {kind} | {' | '.join(cells)} | {why.replace('|', '/')} |")
    sums = [
        f"- {where}: " + ", ".join(f"{n} {name}" for name in MARKS if (n := count(found, where, name)))
        for where in ("mini", "scale", "vllm")
    ]
    return "\n".join([*sums, "", *lines, ""])


def count(found: dict[str, dict[str, str]], where: str, name: str) -> int:
    return sum(mark(verdicts[where]) == name for verdicts in found.values() if where in verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    parser.add_argument("--vllm", nargs="*", default=[])
    parser.add_argument("--child")
    args = parser.parse_args()
    set_verbosity_error()
    disable_progress_bar()
    torch.set_num_threads(1)
    if args.child:
        child(args.child)
    found = {}
    for kind in args.only:
        found[kind] = try_family(kind, kind in args.vllm)
        print(kind, json.dumps(found[kind]), flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / "families.json"
        before = json.loads(path.read_text())["families"] if path.exists() else {}
        merged = {kind: {**before.get(kind, {}), **verdicts} for kind, verdicts in found.items()}
        merged = {**before, **merged}
        versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
        path.write_text(json.dumps({"versions": versions, "families": dict(sorted(merged.items()))}, indent=1) + "\n")
        (args.out / "table.md").write_text(table(dict(sorted(merged.items()))))
    bad = [kind for kind, verdicts in found.items() if {mark(v) for v in verdicts.values()} & {"wrong", "traceback"}]
    print(f"{len(found)} families; wrong or a traceback: {', '.join(bad) or 'none'}")
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
