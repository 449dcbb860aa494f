"""One group of a real run, before and after the update that trained on it: what the tutorials look at token by token.

    python bench/one_group.py --out results/DATE-one-group

The default laptop run, stopped after `step` steps.  Of the groups written in that step, those are considered that stand
in its last mini-batch, so that three updates have moved the policy before their own, and of whose answers a quarter to
three quarters are right; the one with the shortest prompt is written to group.json, with the log-prob of every token
under the policy that wrote it (old), under the reference, and just before and just after its update.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prorl_mini as mini
from prorl_lab.run_folder import read_json


@dataclass
class Args:
    seed: int = 0
    step: int = 10
    run: Path = Path("runs/one-group")  # where the run folder goes
    out: Path = Path("runs")  # where group.json goes


@dataclass
class WatchedRun(mini.Run):
    """A run that notes one group of its last step."""

    group: list = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)

    def logprobs(self, groups: list[list[mini.Sample]]) -> None:
        fresh = [group for group in groups if group[0].old_logp is None]  # surplus was written by an older policy
        mini.add_logprobs(self, groups)
        last = {id(sample) for sample in mini.mini_batches(groups, self.config.updates_per_step)[-1]}
        self.group = min(
            (g for g in fresh if id(g[0]) in last and 0.25 <= sum(s.reward for s in g) / len(g) <= 0.75),
            key=lambda group: len(group[0].prompt), default=[],
        )  # fmt: skip

    def update(self, samples: list[mini.Sample]) -> dict[str, float]:
        if self.state.step + 1 < self.config.steps or not any(s is self.group[0] for s in samples):
            return mini.update(self, samples)
        before = self._logp()
        stats = mini.update(self, samples)
        self.seen = {"num_tokens": sum(len(s.answer) for s in samples), "num_answers": len(samples), **stats}
        self.seen["answers"] = [
            {
                "text": self.tokenizer.decode(s.answer),
                "tokens": [self.tokenizer.decode([token]).strip() for token in s.answer],
                **{"reward": s.reward, "advantage": s.advantage, "truncated": s.truncated},
                **{"old_logp": short(s.old_logp), "ref_logp": short(s.ref_logp)},
                **{"logp": short(old), "logp_after": short(new)},
            }
            for s, old, new in zip(self.group, before, self._logp(), strict=True)
        ]
        return stats

    def _logp(self) -> list[Any]:
        """Log-probs of the group's answers under the policy as it is, in the group's order."""
        scored = {id(s): logp for s, logp, _ in mini.score_samples(self.policy, self.group, self.config)}
        return [scored[id(sample)] for sample in self.group]


def short(values: Any) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def main(args: Args) -> None:
    runs = []

    def make(*parts: Any) -> WatchedRun:
        runs.append(WatchedRun(*parts))
        return runs[0]

    # The rule of drawing that the recorded group was written under.
    config = mini.Config(
        seed=args.seed, steps=args.step, draw="rounds", eval_every=0, boundary_prompts=0, out=str(args.run)
    )
    mini.train(config, make)
    prompt = runs[0].tokenizer.decode(runs[0].group[0].prompt)
    args.out.mkdir(parents=True, exist_ok=True)
    whole = {"args": {"seed": args.seed, "step": args.step}, "config": read_json(args.run / "config.json"),
             "prompt": prompt, **runs[0].seen}  # fmt: skip
    (args.out / "group.json").write_text(json.dumps(whole) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args))
