"""The simulated line: repeatable, fair, and broken exactly where it was told to be."""

import time
from itertools import pairwise

import numpy as np
import pytest

from edge.cameras import camera_opener, open_camera
from edge.cameras.conveyor import Fault, parse_script
from edge.cameras.parts import DEFECTS, SIDE, render_part, render_with_mask
from edge.errors import CameraLost, CameraTimeout, EndOfStream
from edge.picture.health import image_fault
from edge.verdict import Reason


def test_the_same_part_looks_the_same_in_any_order() -> None:
    forward = [render_part(3, index, "surplus") for index in range(3)]
    for index in (2, 0, 1):
        assert np.array_equal(forward[index], render_part(3, index, "surplus"))
    assert not np.array_equal(render_part(3, 0), render_part(3, 1))
    assert not np.array_equal(render_part(3, 0), render_part(4, 0))


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_its_mask_and_nothing_else(defect: str) -> None:
    """Shadows reach a little beyond the piece; far from the mask not one bit differs."""
    for index in range(12):
        good = render_part(0, index).astype(int)
        bad, mask = render_with_mask(0, index, defect)
        assert mask.shape == (SIDE, SIDE) and set(np.unique(mask)) == {0, 255}
        change = np.abs(bad - good).max(axis=2)
        assert change[mask > 0].mean() > 20, f"part {index}: nobody would see this {defect}"
        rows, columns = np.nonzero(change)
        where = np.argwhere(mask)
        low, high = where.min(0) - 26, where.max(0) + 26
        assert rows.min() >= low[0] and rows.max() <= high[0]
        assert columns.min() >= low[1] and columns.max() <= high[1]


def test_good_parts_vary_like_parts_do() -> None:
    parts = [render_part(0, index).astype(np.float32) for index in range(8)]
    means = [part.mean() for part in parts]
    assert 1 < max(means) - min(means) < 25  # light
    change = [np.abs(a - b).mean() for a, b in pairwise(parts)]
    assert np.mean(change) < 25  # still the same product


def test_a_good_part_has_an_empty_mask_and_an_unknown_defect_is_refused() -> None:
    assert not render_with_mask(0, 0)[1].any()
    with pytest.raises(ValueError, match="rust"):
        render_part(0, 0, "rust")


def test_defects_come_at_their_rate_and_of_the_kinds_asked_for() -> None:
    script = parse_script("conveyor:?seed=1&defects=0.25&kinds=scratch,missing")
    found = [script.defect(index) for index in range(800)]
    assert 150 < sum(kind is not None for kind in found) < 250
    assert set(found) == {None, "scratch", "missing"}


def test_labels_tell_the_truth_and_the_line_ends() -> None:
    camera = open_camera("conveyor:?fps=0&count=6&start=40&defects=0.5")
    script = parse_script("conveyor:?defects=0.5")
    labels = [camera.read(1).label for _ in range(6)]
    assert labels == [script.defect(index) or "good" for index in range(40, 46)]
    assert not camera.live
    with pytest.raises(EndOfStream):
        camera.read(1)


def test_a_pace_is_kept_and_a_part_that_is_not_due_times_out() -> None:
    camera = open_camera("conveyor:?fps=20")
    assert camera.live
    started = time.monotonic()
    for _ in range(4):
        camera.read(1)
    assert time.monotonic() - started >= 0.149  # three intervals of 50 ms
    slow = open_camera("conveyor:?fps=0.1")  # so slow that no machine oversleeps the next part
    slow.read(1)
    with pytest.raises(CameraTimeout):
        slow.read(0.001)
    camera.read(1)


def test_freeze_black_and_blur_come_and_go() -> None:
    camera = open_camera("conveyor:?fps=0&count=12&faults=freeze@2:2,black@5:1,blur@7:1")
    pixels = [camera.read(1).pixels for _ in range(12)]
    faults = [image_fault(now, before) for now, before in zip(pixels[1:], pixels, strict=False)]
    assert {i + 1: fault for i, fault in enumerate(faults) if fault} == {
        2: Reason.FRAME_FROZEN, 3: Reason.FRAME_FROZEN, 5: Reason.FRAME_BLANK,
    }  # fmt: skip
    sharpness = [np.abs(np.diff(p.astype(int), axis=1)).mean() for p in pixels]
    assert sharpness[7] < 0.3 * sharpness[6] and sharpness[8] > 0.8 * sharpness[6]


def test_an_unplugged_camera_comes_back_behind_the_lost_part() -> None:
    open_line = camera_opener("conveyor:?fps=0&count=5&faults=unplug@2:2")
    camera = open_line()
    seen = [camera.read(1).pixels for _ in range(2)]
    for _ in range(2):
        with pytest.raises(CameraLost):
            camera.read(1)
    camera.close()
    for _ in range(2):
        with pytest.raises(CameraLost):
            open_line()
    camera = open_line()
    seen += [camera.read(1).pixels for _ in range(2)]
    assert all(np.array_equal(a, render_part(0, i)) for a, i in zip(seen, (0, 1, 3, 4), strict=True))
    with pytest.raises(EndOfStream):
        camera.read(1)


def test_fault_syntax() -> None:
    assert parse_script("conveyor:?faults=freeze@30,unplug@60:3").faults == (
        Fault("freeze", 30, 10), Fault("unplug", 60, 3),
    )  # fmt: skip
