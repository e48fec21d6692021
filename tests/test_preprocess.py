"""What the model sees: the right part of the picture, at the right size, without aliasing."""

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from edge.picture.preprocess import preprocess


@pytest.mark.parametrize("size", [(256, 256), (300, 280), (480, 640), (1024, 1280), (100, 90), (2160, 3840)])
def test_any_picture_becomes_the_input_size(size: tuple[int, int]) -> None:
    pixels = preprocess(np.full((*size, 3), 77, np.uint8), (256, 192))
    assert pixels.shape == (256, 192, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert (pixels == 77).all()


def test_the_region_is_cut_before_the_resize() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[20:60, 50:90] = 200
    assert (preprocess(picture, (40, 40), (50, 20, 40, 40)) == 200).all()
    with pytest.raises(DataError, match="leaves the picture"):
        preprocess(picture, (40, 40), (180, 20, 40, 40))


@pytest.mark.parametrize("size", [(1024, 1280), (480, 640), (300, 2000)])
def test_fine_stripes_become_grey_and_not_moire(size: tuple[int, int]) -> None:
    """One pixel black, one white: what passes over pixels shows stripes or one colour; the mean is grey."""
    stripes = np.zeros((*size, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(preprocess(stripes, (256, 256)).astype(int) - 127).max() <= 2


@pytest.mark.parametrize("size", [(480, 640), (700, 500), (1024, 1280), (300, 2000)])
def test_a_line_of_one_pixel_leaves_its_trace_wherever_it_lies(size: tuple[int, int]) -> None:
    for column in range(100, 140):
        picture = np.zeros((*size, 3), np.uint8)
        picture[:, column] = 255
        assert preprocess(picture, (256, 256)).max() >= 20


def test_a_smooth_picture_is_within_two_grey_levels_of_area_averaging() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = cv2.resize(noise, (1280, 960), interpolation=cv2.INTER_CUBIC)
    area = cv2.resize(smooth, (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(preprocess(smooth, (256, 256)).astype(int) - area).max() <= 2
