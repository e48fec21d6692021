"""Figures against their definitions: brute force over every limit on tiny arrays, and examples by hand."""

import itertools

import numpy as np
import pytest

from calibration.metrics import auroc, bootstrap_mean_auroc, roc_curve
from calibration.pixel_metrics import (
    PixelCounts,
    Region,
    area_up_to,
    au_pro,
    au_spro,
    connected_regions,
    pixel_auroc,
    sortable_keys,
)


def brute_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    pairs = itertools.product(scores[labels == 1], scores[labels == 0])
    return float(np.mean([(bad > good) + 0.5 * (bad == good) for bad, good in pairs]))


def test_auroc_by_hand() -> None:
    assert auroc([0, 0, 1, 1], [1, 2, 3, 4]) == 1.0
    assert auroc([1, 1, 0, 0], [1, 2, 3, 4]) == 0.0
    assert auroc([0, 1], [5, 5]) == 0.5
    assert auroc([0, 0, 1, 1], [1, 3, 2, 4]) == 0.75  # three of four pairs in order
    assert np.isnan(auroc([0, 0], [1, 2]))


@pytest.mark.parametrize("seed", range(20))
def test_auroc_with_ties_is_the_share_of_ordered_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append([0, 1], rng.integers(0, 2, 30))
    scores = rng.integers(0, 8, 32).astype(float)
    assert auroc(labels, scores) == pytest.approx(brute_auroc(labels, scores))
    rates, caught = roc_curve(labels, scores)
    assert area_up_to(rates, caught, 1.0) == pytest.approx(auroc(labels, scores))
    assert (rates[0], caught[0], rates[-1], caught[-1]) == (0, 0, 1, 1)


def test_auroc_agrees_with_scikit_learn() -> None:
    reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500), np.round(rng.normal(size=500), 1)
    assert auroc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores))


@pytest.mark.parametrize(("labels", "scores"), [([0, 1], [np.nan, 1]), ([0, 1, 1], [1, 2])])
def test_broken_input_is_refused(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(ValueError, match="scores"):
        auroc(labels, scores)


def test_bootstrap_is_seeded_stratified_and_about_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 100)
    scores = rng.normal(size=200) + labels
    good, anomalous = scores[:100], scores[100:]
    low, high = bootstrap_mean_auroc(good, [anomalous], seed=1)
    assert (low, high) == bootstrap_mean_auroc(good, [anomalous], seed=1)
    assert low < auroc(labels, scores) < high
    assert high - low == pytest.approx(4 * 0.034, rel=0.25)  # Hanley and McNeil 1982 for 0.76, 100 + 100
    assert bootstrap_mean_auroc(np.array([0.0]), [np.array([1.0, 2.0])], seed=0) == (1.0, 1.0)
    assert np.isnan(bootstrap_mean_auroc(np.array([]), [np.array([1.0, 2.0])], seed=0)).all()


def test_bootstrap_of_a_mean_lies_between_its_kinds() -> None:
    good, easy, hard = np.arange(20.0), np.arange(20.0) + 18, np.arange(20.0) + 2
    low, high = bootstrap_mean_auroc(good, [easy, hard], seed=0)
    assert bootstrap_mean_auroc(good, [hard], seed=0)[1] < high
    assert low < bootstrap_mean_auroc(good, [easy], seed=0)[0]


def test_keys_keep_the_order_of_floats() -> None:
    values = np.array([-np.inf, -1e30, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.001, 70000.0, np.inf])
    keys = sortable_keys(values.astype(np.float32)[None])[0]
    assert (np.diff(keys) >= 0).all()
    assert keys[4] == keys[5]  # -0 is 0
    assert len(set(keys.tolist())) == len(values) - 1
    with pytest.raises(ValueError, match="NaN"):
        sortable_keys(np.full((2, 2), np.nan, np.float32))


def brute_overlap_area(maps: list[np.ndarray], regions: list[list[Region]], limit: float) -> float:
    """The definition, spelled out: mark everything from each limit on, count, and integrate."""
    normal = [
        m[~np.any([r.mask for r in rs], axis=0)] if rs else m.ravel()
        for m, rs in zip(maps, regions, strict=True)
    ]
    pooled = np.concatenate(normal)
    x, y = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        overlaps = [
            min((m[r.mask] >= threshold).sum() / r.saturation, 1)
            for m, rs in zip(maps, regions, strict=True)
            for r in rs
        ]
        x.append(float((pooled >= threshold).mean()))
        y.append(float(np.mean(overlaps)))
    return area_up_to(np.array(x), np.array(y), limit) / limit


def pictures(seed: int, levels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Five 16x16 maps with `levels` distinct values, half of them with two anomalous patches."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((5, 16, 16), bool)
    masks[1:4, 2:5, 3:9] = masks[1:3, 10:12, 10:15] = True
    maps = rng.integers(0, levels, masks.shape) + masks * (levels // 3)
    return list((maps / 8).astype(np.float32)), list(masks)


@pytest.mark.parametrize("levels", [6, 100])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_overlap_areas_follow_their_definition(levels: int, limit: float) -> None:
    maps, masks = pictures(levels, levels)
    parts = [list(connected_regions(mask)) for mask in masks]
    assert [len(p) for p in parts] == [0, 2, 2, 1, 0]
    assert au_pro(maps, masks, limit) == pytest.approx(brute_overlap_area(maps, parts, limit), abs=1e-9)
    saturated = [[Region(r.mask, r.saturation // 3) for r in p] for p in parts]
    expected = brute_overlap_area(maps, saturated, limit)
    assert au_spro(maps, saturated, limit) == pytest.approx(expected, abs=1e-9)
    assert au_spro(maps, saturated, limit) > au_pro(maps, masks, limit)


def test_pixel_auroc_follows_its_definition_within_1e_4() -> None:
    rng = np.random.default_rng(2)
    masks = rng.random((4, 64, 64)) < 0.1
    maps = (rng.gamma(2, size=masks.shape) + masks * 1.5).astype(np.float32)
    expected = auroc(masks.ravel(), maps.ravel())
    assert pixel_auroc(list(maps), list(masks)) == pytest.approx(expected, abs=1e-4)
    assert np.isnan(pixel_auroc(list(maps), list(masks & False)))


def test_thinning_a_long_curve_costs_less_than_1e_4() -> None:
    """More distinct values than steps of the curve: the drawn curve has fewer points, not another area."""
    rng = np.random.default_rng(4)
    masks = np.zeros((3, 256, 256), bool)
    masks[:2, 30:60, 30:90] = True
    maps = (rng.normal(size=masks.shape) + masks * 2).astype(np.float32)
    every_pixel = brute_overlap_area_fast(maps, masks, 0.3)
    assert au_pro(list(maps), list(masks), 0.3) == pytest.approx(every_pixel, abs=1e-4)


def brute_overlap_area_fast(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """Regions of one size: their mean overlap is the pooled detection rate."""
    rates, caught = roc_curve(masks.ravel(), maps.ravel())
    return area_up_to(rates, caught, limit) / limit


def test_spro_by_hand() -> None:
    """Ten pixels of a shelf are empty; marking two of them is enough to see it.

    Two anomalous pixels (9, 8) come before the first normal one (7): with saturation at 2 the overlap is 1
    without any false positive; at 4 it is 1/2, until the value 1 brings the rest.
    """
    anomaly_map = np.array([[9, 8, 1, 1, 1, 1, 1, 1, 1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    mask = np.arange(20)[None] < 10
    assert au_spro([anomaly_map], [[Region(mask, 2)]], 0.05) == 1.0
    assert au_spro([anomaly_map], [[Region(mask, 4)]], 0.05) == 0.5
    # From false positive rate 0.1 on, where the value 1 is reached, everything is found.
    assert au_spro([anomaly_map], [[Region(mask, 4)]], 0.2) == pytest.approx((0.5 * 0.1 + 0.1) / 0.2)


def test_a_pixel_inside_any_region_is_no_false_positive() -> None:
    anomaly_map = np.array([[5, 4, 0, 0]], np.float32)
    first, second = np.array([[True, False, False, False]]), np.array([[False, True, False, False]])
    assert au_spro([anomaly_map], [[Region(first, 1), Region(second, 1)]], 0.5) == 1.0
    assert au_spro([anomaly_map], [[Region(first, 1)]], 1 / 3) == 1.0


def test_counts_of_two_sets_add_up() -> None:
    maps, masks = pictures(7, 50)
    parts = [list(connected_regions(mask)) for mask in masks]
    both = PixelCounts.of(zip(maps[:2], parts[:2], strict=True)) + PixelCounts.of(
        zip(maps[2:], parts[2:], strict=True)
    )
    assert both.area_under_overlap(0.3) == pytest.approx(au_pro(maps, masks))
    assert both.pixel_auroc() == pytest.approx(pixel_auroc(maps, masks))


def test_without_regions_or_with_the_wrong_size() -> None:
    anomaly_map = np.zeros((4, 4), np.float32)
    assert np.isnan(PixelCounts.of([(anomaly_map, [])]).area_under_overlap(0.3))
    with pytest.raises(ValueError, match="differ in size"):
        PixelCounts().add(anomaly_map, [Region(np.ones((2, 2), bool), 4)])
