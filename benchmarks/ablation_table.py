"""The figures of benchmarks/ablation.py as a table: AUROC x 100, mean, difference to the default."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ablation_rows import DEFAULT
from rich.table import Table

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # row -> set -> figures
OTHERS = ("logical", "structural")


def rich_table(results: Results) -> Table:
    """For the terminal."""
    heads, *lines = cells(results)
    table = Table(*heads)
    for line in lines:
        table.add_row(*line)
    return table


def markdown(results: Results) -> str:
    """For docs/method.md."""
    heads, *lines = cells(results)
    return "".join(f"| {' | '.join(line)} |\n" for line in [heads, ["---"] * len(heads), *lines])


def cells(results: Results) -> list[list[str]]:
    """Heads, then one line for each row. A row that lacks a set has no mean: it compares with nothing."""
    base = results.get(DEFAULT, {})
    others = [(name, kind) for name, found in base.items() for kind in OTHERS if kind in found]
    heads = ["row", *base, "mean", "difference", *(f"{name} {kind}" for name, kind in others)]
    lines = []
    for row, by_set in results.items():
        values = [_figure(by_set, name, "image_auroc") for name in base]
        mean, base_mean = (_mean(found, list(base)) for found in (by_set, base))
        gain = None if mean is None or base_mean is None else mean - base_mean
        difference = "-" if gain is None else f"{100 * gain:+.1f}"
        beside = [_figure(by_set, name, kind) for name, kind in others]
        lines.append([row, *map(_text, values), _text(mean), difference, *map(_text, beside)])
    return [heads, *lines]


def _figure(by_set: Mapping[str, Mapping[str, Any]], name: str, figure: str) -> float | None:
    return by_set.get(name, {}).get(figure)


def _mean(by_set: Mapping[str, Mapping[str, Any]], names: list[str]) -> float | None:
    if any(name not in by_set for name in names):
        return None
    return float(np.mean([by_set[name]["image_auroc"] for name in names]))


def _text(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
