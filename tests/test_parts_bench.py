"""Which shares of the score's parts: judged by the detector's own fusion, on figures made by hand."""

import numpy as np
import pytest
import torch
from anomalies import KINDS
from parts import NAMED, WAYS, best_of, figures, mean_over_sets, scores_of, table

from distillation.score import LENGTH, SHARES, ScoreFusion

GOOD = np.linspace(-1.0, 1.0, 40)


def pictures(shift: dict[str, float]) -> dict[str, np.ndarray]:
    """Every part as of good pictures, but for these, so many deviations above."""
    return {name: GOOD + shift.get(name, 0.0) for name in SHARES}


def test_the_score_is_the_detectors() -> None:
    fusion = ScoreFusion([*SHARES], LENGTH)
    fusion.fit([10.0] * len(SHARES), [2.0] * len(SHARES))
    parts = {"map": np.array([3.0]), "words": np.array([-1.0])}
    parts = {name: parts.get(name, np.array([0.0])) for name in SHARES}
    theirs = fusion(torch.tensor([[10.0 + 2.0 * float(parts[name][0]) for name in SHARES]]))
    assert scores_of(parts, SHARES)[0] == pytest.approx(float(theirs))


def test_what_one_part_alone_hears_is_found_by_it_and_counts_in_the_whole() -> None:
    seen = {"good": pictures({})} | {kind: pictures({"words": 9.0}) for kind in KINDS}
    alone, deaf = figures(seen, NAMED["words alone"]), figures(seen, NAMED["map alone"])
    assert alone == {"made": 1.0, "stopped": 1.0}
    assert deaf["made"] == pytest.approx(0.5) and deaf["stopped"] == 0.0
    assert figures(seen, SHARES)["made"] == 1.0


def test_the_columns_of_the_trays_count_as_one_set() -> None:
    sets = {"a": {"made": 0.9, "stopped": 0.0}, "trays": {"made": 0.6, "logical": 0.9, "structural": 0.9}}
    assert mean_over_sets(sets) == pytest.approx((0.9 + 0.8) / 2)


def test_the_table_has_what_has_a_name_and_the_best_of_the_grid() -> None:
    results = {way: {"a": {"made": i / len(WAYS), "stopped": 0.0}} for i, way in enumerate(WAYS)}
    rows = table(results, best_of(results)).columns[0].cells
    shown = [str(cell) for cell in rows]
    assert set(NAMED) <= set(shown) and len(shown) == len(NAMED) + 12
    assert shown[0] == list(WAYS)[-1]
