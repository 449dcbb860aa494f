"""Tables and panels that several sections use."""

from collections.abc import Callable

from .. import figures
from ..page import Plot, Table
from ..sources import Source, Unit


def wide_table(source: Source, name: str, title: str) -> Table:
    """pass@k of each unit and model, a column per k."""
    ks = sorted({k for unit in source.units for k in unit.ks})
    known = source.units[0].rows is not None
    rows = []
    for unit in source.units:
        for model in source.models:
            at = dict(zip(unit.ks, unit.values[model].tolist(), strict=True))
            size = [len(unit.rows), unit.n] if known else []
            rows.append([unit.set, unit.tier or "all", model, *size, *(at.get(k) for k in ks)])
    size = ["prompts", "answers per prompt"] if known else []
    return Table(name, title, ["set", "tier", "model", *size, *(f"pass@{k}" for k in ks)], rows)


def band_table(source: Source, name: str) -> Table:
    rows = [
        [unit.set, unit.tier or "all", model, k, *map(float, row)]
        for unit in source.units
        for model in source.models
        for k, *row in zip(unit.ks, unit.values[model], unit.low[model], unit.high[model], strict=True)
    ]
    columns = ["set", "tier", "model", "k", "pass@k", "low", "high"]
    return Table(name, "pass@k with bands", columns, rows, on_page=False)


def titles(units: list[Unit]) -> list[str]:
    """What stands above each panel: the tiers alone where all are of one set."""
    one = len({unit.set for unit in units}) == 1
    return [unit.tier.strip() if one and unit.tier else unit.label for unit in units]


def panels(units: list[Unit]) -> list[dict]:
    return [
        {"title": title, "ks": unit.ks, "values": unit.values, "low": unit.low, "high": unit.high}
        for title, unit in zip(titles(units), units, strict=True)
    ]


def in_figures(name: str, units: list, draw: Callable[[list], figures.Figure], caption: str) -> list[Plot]:
    """As many figures as the panels need."""
    parts = [units[i : i + figures.PANELS] for i in range(0, len(units), figures.PANELS)]
    names = [name] + [f"{name}_{i}" for i in range(2, len(parts) + 1)]
    return [Plot(n, draw(part), caption) for n, part in zip(names, parts, strict=True)]


def sizes(source: Source) -> dict[str, object]:
    """The facts that captions need: how many prompts and answers."""
    prompts = [len(unit.rows) for unit in source.units]
    n = [unit.n for unit in source.units]
    return {
        "prompts_low": min(prompts),
        "prompts_high": max(prompts),
        "prompts_all": sum(len(unit.rows) for unit in source.sets),
        "n": str(n[0]) if len(set(n)) == 1 else f"{min(n)} to {max(n)}",
        "panels": len(source.units),
    }
