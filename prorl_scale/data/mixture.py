"""Draw training prompts from prepared files: in an order that the seed fixes, from a place that a checkpoint keeps."""

import json
import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet


class Mixture:
    """Prompts of several domains, mixed by weight.

    Which prompt comes at a position depends on the files, the seed and the weights alone.  Each domain is used up, in
    an order of its own, before any of its prompts comes again.

    Args:
        folder: what `prepare` wrote.
        seed: of the order.
        weights: share of each domain; by default that of its rows.  A domain that is left out is not drawn.
        split: "train" or "validation".
        left_out: ids of rows that are never drawn.
        keep: of the prompts (chat messages) those for which this is true; by default all.

    Raises FileNotFoundError without prepared files, ValueError for a weighted domain that they do not have.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        weights: dict[str, float] | None = None,
        split: str = "train",
        keep: Callable[[list[dict[str, str]]], bool] | None = None,
        left_out: Collection[str] = (),
    ):
        files = sorted(Path(folder, split).glob("*.parquet"))
        if not files:
            raise FileNotFoundError(f"no {split} files in {folder}: run `python -m prorl_scale.data prepare` first")
        self.seed = seed
        # Tables, not lists: as Python objects the tests of 24,000 programs would fill the memory, once per process.
        table = pyarrow.concat_tables([parquet.read_table(file) for file in files])
        if left_out:
            table = table.filter(compute.invert(compute.is_in(table["id"], pyarrow.array(sorted(left_out)))))
        if keep:
            table = table.filter(
                pyarrow.array([keep(prompt) for prompt in table["prompt"].to_pylist()], pyarrow.bool_())
            )
        domains = sorted(set(table["domain"].to_pylist()))
        self.rows = {domain: table.filter(compute.field("domain") == domain) for domain in domains}
        self._orders: dict[str, tuple[int, list[int]]] = {}  # domain: (epoch, order of its rows)
        self.position, self.taken = 0, dict.fromkeys(self.rows, 0)
        self.set_weights(weights)

    def set_weights(self, weights: dict[str, float] | None) -> None:
        """Change the shares, as a new stage of training may; None: those of the rows.

        Raises ValueError for an unknown domain or no share.
        """
        weights = weights or {domain: len(rows) for domain, rows in self.rows.items()}
        if unknown := sorted(set(weights) - set(self.rows)):
            raise ValueError(f"no rows of domain {', '.join(unknown)}: there are {', '.join(sorted(self.rows))}")
        if not any(weight > 0 for weight in weights.values()) or any(weight < 0 for weight in weights.values()):
            raise ValueError("weights must not be negative, and one must be above 0")
        self.weights = {domain: weights[domain] for domain in sorted(weights)}

    def take(self, count: int) -> list[dict[str, Any]]:
        """The next rows, `reference` and `meta` as objects."""
        return [self._next() for _ in range(count)]

    def _next(self) -> dict[str, Any]:
        draw = random.Random(f"{self.seed}/{self.position}")
        (domain,) = draw.choices(list(self.weights), list(self.weights.values()))
        self.position += 1
        self.taken[domain] += 1
        return self.row(domain, self.taken[domain] - 1)

    def row(self, domain: str, number: int) -> dict[str, Any]:
        """Row `number` of a domain in its own order, whatever was taken; past the last they come again in another."""
        epoch, place = divmod(number, len(self.rows[domain]))
        (row,) = self.rows[domain].slice(self._order(domain, epoch)[place], 1).to_pylist()
        return {**row, "reference": json.loads(row["reference"]), "meta": json.loads(row["meta"])}

    def _order(self, domain: str, epoch: int) -> list[int]:
        """The order of a domain's rows in one epoch; the last one is kept, since shuffling takes a while."""
        if self._orders.get(domain, (None, []))[0] != epoch:
            order = list(range(len(self.rows[domain])))
            random.Random(f"{self.seed}/{domain}/{epoch}").shuffle(order)
            self._orders[domain] = (epoch, order)
        return self._orders[domain][1]

    def state_dict(self) -> dict[str, Any]:
        """The cursor, for a checkpoint."""
        rows = {domain: len(some) for domain, some in self.rows.items()}
        cursor = {"seed": self.seed, "position": self.position, "taken": dict(self.taken)}
        return {**cursor, "weights": dict(self.weights), "rows": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.  Raises ValueError if the seed, the domains or their rows are others."""
        rows = {domain: len(some) for domain, some in self.rows.items()}
        if state["seed"] != self.seed or state.get("rows", rows) != rows or state["taken"].keys() != rows.keys():
            raise ValueError("this cursor belongs to another seed or to other data")
        self.position, self.taken = state["position"], dict(state["taken"])
        self.set_weights(state["weights"])
