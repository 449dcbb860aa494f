"""How large the gradient of the KL penalty is beside the surrogate's, over a run, with and without resets.

    python bench/kl_gradient.py --seeds 0 --out results/DATE-kl-gradient

The paper says that the KL term may come to dominate the loss, which is its reason for the reset.  Here every update
takes its gradient apart: that of the surrogate alone, and that of the penalty alone, coefficient included.  They are
taken before clipping and before Adam, at the same weights on the same mini-batch, and the update itself is mini's own.
The runs are those of the study `kl-reset`: its common flags and its arms, coefficient by coefficient.  A run whose rows
are there is not made again.
"""

import csv
import io
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from measure import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prorl_mini as mini
from prorl_lab import cli, settings, studies
from prorl_lab.files import whole, write_json
from prorl_lab.study import slug

ARMS = tuple(arm for arm in studies.STUDIES["kl-reset"].arms if arm != "no KL" and "kept" not in arm)


@dataclass
class Args:
    seeds: tuple[int, ...] = (0,)
    arms: tuple[str, ...] = ARMS
    runs: Path = Path("runs/kl-gradient")
    out: Path = Path("runs/kl-gradient")  # where ARM-SEED.csv and settings.json go


@dataclass
class Measured(mini.Run):
    rows: list[dict] = field(default_factory=list)
    parts: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def loss(self, logp: Any, old_logp: Any, ref_logp: Any, advantages: Any, *rest: Any) -> Any:
        """mini's loss; its two terms' gradients are added to `parts`, as micro-batches add up to the mini-batch."""
        self._add("surrogate", mini.penalized_loss(logp, old_logp, None, advantages, *rest)[0])
        self._add("penalty", mini.penalized_loss(logp, old_logp, ref_logp, torch.zeros_like(advantages), *rest)[0])
        return mini.penalized_loss(logp, old_logp, ref_logp, advantages, *rest)

    def _add(self, name: str, loss: torch.Tensor) -> None:
        gradient = torch.autograd.grad(loss, list(self.policy.parameters()), retain_graph=True)
        self.parts[name] = [a + b for a, b in zip(self.parts.get(name, [0.0] * len(gradient)), gradient, strict=True)]

    def update(self, samples: list[mini.Sample]) -> dict[str, float]:
        self.parts.clear()
        result = mini.update(self, samples)
        surrogate, penalty = (torch.cat([g.flatten() for g in self.parts[n]]) for n in ("surrogate", "penalty"))
        row = {"step": self.state.step + 1, "resets": self.state.resets, "kl": result["kl"]}
        row |= {"surrogate": surrogate.norm().item(), "penalty": penalty.norm().item()}
        # 1: the penalty pulls where the reward pushes; -1: it pulls straight back
        row["cosine"] = torch.nn.functional.cosine_similarity(surrogate, penalty, dim=0).item()
        self.rows.append(row)
        return result


def measure(arm: str, seed: int, args: Args) -> list[dict]:
    """Four rows a step, one per update."""
    study = studies.STUDIES["kl-reset"]
    given = [*shlex.split(f"{study.common} {study.arms[arm]} --boundary-prompts 0"), "--seed", str(seed)]
    given += ["--threads", "1", "--out", str(args.runs / f"{slug(arm)}-{seed}")]
    run = mini.start_run(settings.resolve(cli.parse(mini.Config, given)), Measured)
    with run.folder:
        while run.state.step < run.config.steps:
            mini.train_step(run)
            run.reset_if_due()
    return run.rows


def as_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    return text.getvalue()


def main(args: Args) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "settings.json", {"arms": args.arms, "seeds": args.seeds, "machine": machine()})
    for seed in args.seeds:
        for arm in args.arms:
            kept = args.out / f"{slug(arm)}-{seed}.csv"
            if not kept.exists():
                text = as_csv(measure(arm, seed, args))
                with whole(kept) as file:  # half a file would count as a run that is done
                    file.write(text.encode())


if __name__ == "__main__":
    main(tyro.cli(Args))
