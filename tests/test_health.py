"""Pictures that must not be judged are told from pictures that only look dull."""

import numpy as np
import pytest

from edge.cameras.parts import render_part
from edge.picture.health import age_fault, image_fault
from edge.verdict import Reason

RNG = np.random.default_rng(0)


def flat(level: int, noise: float = 0.0) -> np.ndarray:
    levels = level + RNG.normal(0, noise, (240, 320, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [flat(0), flat(255), flat(128), flat(4, noise=3), flat(254, noise=1), np.empty((0, 0, 3), np.uint8)],
    ids=["black", "white", "one grey", "lamp off", "washed out", "empty"],
)
def test_pictures_that_show_nothing(pixels: np.ndarray) -> None:
    assert image_fault(pixels, None) is Reason.FRAME_BLANK


def test_hot_pixels_do_not_hide_a_dark_picture() -> None:
    dark = flat(3, noise=2)
    dark[::97, ::89] = 255
    assert image_fault(dark, None) is Reason.FRAME_BLANK


@pytest.mark.parametrize(
    "pixels",
    [flat(120, noise=2), flat(40, noise=3), render_part(0, 0)],
    ids=["plain sheet", "dark sheet", "part"],
)
def test_dull_is_not_blank(pixels: np.ndarray) -> None:
    assert image_fault(pixels, None) is None


def test_frozen_means_every_byte() -> None:
    part = render_part(0, 0)
    assert image_fault(part, part.copy()) is Reason.FRAME_FROZEN
    for y, x in ((0, 0), (5, 5), (319, 319), (160, 157)):  # sampled or not
        other = part.copy()
        other[y, x, 1] ^= 1
        assert image_fault(part, other) is None


def test_another_size_is_not_frozen_and_frozen_goes_before_blank() -> None:
    assert image_fault(flat(120, noise=2), render_part(0, 0)) is None
    assert image_fault(flat(0), flat(0)) is Reason.FRAME_FROZEN


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (33, 65, 3)])
def test_any_size_is_judged(shape: tuple[int, int, int]) -> None:
    assert image_fault(np.zeros(shape, np.uint8), None) is Reason.FRAME_BLANK


def test_an_old_picture_is_stale_and_one_at_its_limit_is_not() -> None:
    assert age_fault(captured_ns=0, now_ns=500_000_000, max_age_ms=500) is None
    assert age_fault(captured_ns=0, now_ns=500_000_001, max_age_ms=500) is Reason.FRAME_STALE
