"""Variations of a good part must still be that good part."""

import math

import numpy as np
import pytest

from distillation.augment import MAX_GAIN, MAX_OFFSET, MAX_SHIFT, MAX_TURN_DEGREES, augment, with_variants
from edge.frame import Pixels

TRIES = 50


def dots(height: int = 120, width: int = 160) -> Pixels:
    """White dots on grey, in a pattern that is its own mirror image in no direction."""
    picture = np.full((height, width, 3), 60, np.uint8)
    for x, y in [(30, 30), (80, 25), (120, 40), (40, 90)]:
        picture[y - 3 : y + 4, x - 3 : x + 4] = 220
    return picture


def centre(picture: Pixels, x: int, y: int, reach: int = 12) -> tuple[float, float]:
    """Centre of brightness around a place, so sharp that a fraction of a pixel shows."""
    part = picture[y - reach : y + reach + 1, x - reach : x + reach + 1, 0].astype(float)
    part -= np.median(part)
    part[part < part.max() / 10] = 0
    rows, columns = np.indices(part.shape) - reach
    return x + float((columns * part).sum() / part.sum()), y + float((rows * part).sum() / part.sum())


def distance(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def test_the_same_seed_gives_the_same_variation_and_another_one_another() -> None:
    first, again, other = (augment(dots(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("shape", [(64, 64), (96, 160), (161, 97)])
def test_size_type_and_layout_stay(shape: tuple[int, int]) -> None:
    picture = dots(*shape) if min(shape) > 95 else np.zeros((*shape, 3), np.uint8)
    before = picture.copy()
    varied = augment(picture, np.random.default_rng(0), flips=True)
    assert varied.shape == picture.shape and varied.dtype == np.uint8 and varied.flags.c_contiguous
    np.testing.assert_array_equal(picture, before)


def test_nothing_moves_further_than_the_limits_say() -> None:
    picture, rng = dots(), np.random.default_rng(0)
    height, width = picture.shape[:2]
    moved = []
    for _ in range(TRIES):
        varied = augment(picture, rng)
        for x, y in [(30, 30), (80, 25), (120, 40), (40, 90)]:
            turn = math.radians(MAX_TURN_DEGREES) * math.hypot(x - width / 2, y - height / 2)
            limit_x, limit_y = MAX_SHIFT * width + turn, MAX_SHIFT * height + turn
            now_x, now_y = centre(varied, x, y)
            assert abs(now_x - x) < limit_x + 0.3 and abs(now_y - y) < limit_y + 0.3
            moved.append(math.hypot(now_x - x, now_y - y))
    assert max(moved) > 1  # it does vary


def test_the_light_stays_near_what_it_was() -> None:
    for level in (0, 60, 128, 255):
        picture, rng = np.full((32, 32, 3), level, np.uint8), np.random.default_rng(0)
        for _ in range(TRIES):
            varied = augment(picture, rng).astype(float)
            assert varied.std() == 0  # one gain and one offset for the whole picture
            assert abs(varied.mean() - level) <= level * MAX_GAIN + MAX_OFFSET + 0.5


def test_a_part_is_never_mirrored_unless_asked() -> None:
    """A mirrored part is a wrong part: it must not be taught as a good one."""
    picture, rng = dots(), np.random.default_rng(0)
    mirrored = [picture[::-1], picture[:, ::-1], picture[::-1, ::-1]]
    for _ in range(TRIES):
        varied = augment(picture, rng)
        assert distance(varied, picture) < min(distance(varied, m) for m in mirrored)


def test_flips_on_request_come_in_all_four_ways() -> None:
    picture, rng = dots(), np.random.default_rng(0)
    ways = [picture, picture[::-1], picture[:, ::-1], picture[::-1, ::-1]]
    varied = [augment(picture, rng, flips=True) for _ in range(TRIES)]
    assert {int(np.argmin([distance(v, w) for w in ways])) for v in varied} == {0, 1, 2, 3}


def test_the_pictures_themselves_come_first_and_variants_follow() -> None:
    images = np.stack([dots(), dots()[:, ::-1]])
    several = with_variants(images, variants=3, seed=5)
    assert several.shape == (8, *images.shape[1:]) and several.dtype == np.uint8
    np.testing.assert_array_equal(several[:2], images)
    np.testing.assert_array_equal(several, with_variants(images, variants=3, seed=5))
    assert (several != with_variants(images, variants=3, seed=6)).any()
    assert len({v.tobytes() for v in several}) == 8
    for i, variant in enumerate(several):
        assert distance(variant, images[i % 2]) < distance(variant, images[1 - i % 2])


def test_no_variants_means_the_pictures_as_they_are() -> None:
    images = np.stack([dots()])
    np.testing.assert_array_equal(with_variants(images, variants=0, seed=0), images)
