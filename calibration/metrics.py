"""Figures for whole pictures: AUROC, its bootstrap interval, the ROC curve. Larger scores are worse."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]  # (n,)


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Chance that an anomalous part scores above a good one; a tie counts half (Mann-Whitney U / n1 n0).

    `labels` and `scores` are (n,); a label is true where the part is anomalous. NaN without both kinds.
    """
    good, anomalous = divide(labels, scores)
    return auroc_of(good, anomalous)


def auroc_of(good: Scores, anomalous: Scores) -> float:
    """`auroc` of two lists of scores."""
    if good.size == 0 or anomalous.size == 0:
        return float("nan")
    ordered = np.sort(good)
    below = np.searchsorted(ordered, anomalous, side="left")
    not_above = np.searchsorted(ordered, anomalous, side="right")
    return float((below + not_above).sum() / (2 * good.size * anomalous.size))


def bootstrap_mean_auroc(
    good: Scores, groups: Sequence[Scores], seed: int, n: int = 1000
) -> tuple[float, float]:
    """95 % interval of the mean `auroc` of several kinds of anomaly, each against the same good parts.

    `n` seeded redraws, good and anomalous parts apart (stratified); NaN where a kind is empty. NOT covered:
    how the figure moves with the training's seed or with other parts. Percentile intervals of a figure at
    1.0 have no width: with few parts, read them as "not seen to fail", not as "cannot fail".
    """
    if good.size == 0 or not groups or any(group.size == 0 for group in groups):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = np.empty(n)
    for i in range(n):
        redrawn = rng.choice(good, good.size)
        values[i] = np.mean([auroc_of(redrawn, rng.choice(group, group.size)) for group in groups])
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def roc_curve(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Scores, Scores]:
    """(false reject rates, detection rates) from (0, 0) to (1, 1), one point for each distinct score.

    Both kinds must be there.
    """
    good, anomalous = divide(labels, scores)
    limits = np.unique(np.concatenate([good, anomalous]))[::-1]
    rejected = good.size - np.searchsorted(np.sort(good), limits, side="left")
    caught = anomalous.size - np.searchsorted(np.sort(anomalous), limits, side="left")
    return np.append(0.0, rejected / good.size), np.append(0.0, caught / anomalous.size)


def divide(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Scores, Scores]:
    """(scores of good parts, scores of anomalous parts). Raises ValueError on NaN or unequal lengths."""
    marks, values = np.asarray(labels, bool), np.asarray(scores, np.float64)
    if marks.shape != values.shape or marks.ndim != 1:
        raise ValueError(f"labels {marks.shape} and scores {values.shape} must be two lists of one length")
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {values.size} scores are NaN")
    return values[~marks], values[marks]
