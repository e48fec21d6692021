"""The heat map speaks in fixed colours: the same heat looks the same on every picture."""

import numpy as np
import pytest

from edge.picture.overlay import HOTTEST, LIMIT_COLOUR, OPAQUE, heatmap_overlay


def grey(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def with_spot(value: float, size: int = 16) -> np.ndarray:
    anomaly_map = np.zeros((size, size), np.float32)
    anomaly_map[4:12, 4:12] = value
    return anomaly_map


def test_calm_maps_leave_the_picture_untouched() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    for calm in (np.zeros((16, 16), np.float32), np.full((16, 16), 0.59, np.float32), with_spot(-50)):
        assert np.array_equal(heatmap_overlay(picture, calm, 1.0), picture)


def test_the_picture_given_is_not_changed_and_may_be_read_only() -> None:
    picture = grey(40, 40)
    picture.flags.writeable = False
    result = heatmap_overlay(picture, with_spot(5), 1.0)
    assert (picture == 128).all()
    assert result.shape == picture.shape
    assert not np.array_equal(result, picture)


@pytest.mark.parametrize("limit", [1e-6, 0.5, 3000.0])
def test_the_limit_has_one_colour_whatever_the_scale(limit: float) -> None:
    centre = heatmap_overlay(grey(160, 160, 0), with_spot(limit), limit)[80, 80].astype(float)
    assert centre / centre.max() == pytest.approx(np.array(LIMIT_COLOUR) / max(LIMIT_COLOUR), abs=0.02)


def test_heat_beyond_the_end_of_the_scale_looks_the_same_and_keeps_the_part_visible() -> None:
    hot = heatmap_overlay(grey(160, 160), with_spot(HOTTEST), 1.0)
    assert np.array_equal(heatmap_overlay(grey(160, 160), with_spot(1e30), 1.0), hot)
    difference = hot[80, 80].astype(int) - heatmap_overlay(grey(160, 160, 28), with_spot(9), 1.0)[80, 80]
    assert difference == pytest.approx([100 * (1 - OPAQUE)] * 3, abs=2)


def test_the_place_is_right_for_any_picture_size_and_ratio() -> None:
    anomaly_map = np.zeros((32, 32), np.float32)
    anomaly_map[20:24, 8:12] = 3
    for height, width in ((32, 32), (320, 640), (101, 57), (16, 16)):
        changed = np.argwhere((heatmap_overlay(grey(height, width), anomaly_map, 1.0) != 128).any(axis=2))
        assert (changed.mean(axis=0) + 0.5) / (height, width) == pytest.approx((22 / 32, 10 / 32), abs=0.03)


def test_only_the_region_of_interest_is_touched() -> None:
    result = heatmap_overlay(grey(100, 200), np.full((16, 16), 5, np.float32), 1.0, roi=(50, 20, 60, 40))
    changed = (result != 128).any(axis=2)
    assert changed[20:60, 50:110].all()
    assert changed.sum() == 40 * 60


def test_what_cannot_be_judged_is_hot_and_nothing_fails() -> None:
    picture = grey(160, 160)
    hot = heatmap_overlay(picture, with_spot(HOTTEST), 1.0)
    assert np.array_equal(heatmap_overlay(picture, with_spot(np.nan), 1.0)[80, 80], hot[80, 80])
    assert np.array_equal(heatmap_overlay(picture, with_spot(np.inf), 1.0), hot)
    assert np.array_equal(heatmap_overlay(picture, with_spot(1), 0.0), hot)  # no limit set yet


def test_the_limit_is_outlined_in_light_and_dark() -> None:
    for value in (0, 255):
        result = heatmap_overlay(grey(160, 160, value), with_spot(5), 1.0)
        assert (result == 255).all(axis=2).any()
        assert (result == 20).all(axis=2).any()
