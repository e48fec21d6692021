"""Region of interest and resize: the same function trains and runs, so the two can never differ."""

import cv2
import numpy as np

from edge.errors import DataError
from edge.frame import Pixels

Roi = tuple[int, int, int, int]  # x, y, width, height in camera pixels

# Between two samples that lie 1.5 pixels apart a pixel still counts half; at 1.95 it would count a twentieth.
BILINEAR_UP_TO = 1.5


def preprocess(pixels: Pixels, input_size: tuple[int, int], roi: Roi | None = None) -> Pixels:
    """Cut the region of interest and resize to the model's (height, width).

    Takes and gives uint8 (H, W, 3) BGR. Halves each side that is at least twice too long, until none is; the
    last step is bilinear up to BILINEAR_UP_TO, by area averaging above it. So every pixel counts, and a thin
    scratch cannot get lost between two samples. The aspect ratio is not kept, as in MVTec AD and LOCO
    practice. Colour order and normalisation are inside the engine. Raises DataError when the ROI does not
    lie inside the picture.
    """
    return resize(pixels if roi is None else crop(pixels, roi), input_size)


def crop(pixels: Pixels, roi: Roi) -> Pixels:
    """The region of interest, (height, width, 3), not copied. Raises DataError when it leaves the picture."""
    x, y, width, height = roi
    if x + width > pixels.shape[1] or y + height > pixels.shape[0]:
        where = f"ROI {roi} on a picture of {pixels.shape[1]}x{pixels.shape[0]}"
        raise DataError("the region of interest leaves the picture", where, "Set the ROI anew.")
    return pixels[y : y + height, x : x + width]


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture at (height, width), as `preprocess` describes it; contiguous."""
    height, width = size
    while pixels.shape[:2] != (height, width):
        step = (_next_side(pixels.shape[0], height), _next_side(pixels.shape[1], width))
        pixels = _resize(pixels, step)
    return np.ascontiguousarray(pixels)


def _next_side(side: int, wanted: int) -> int:
    """Half of a side that is at least twice too long (its bilinear value is then the mean of two pixels)."""
    return side // 2 if side >= 2 * wanted else wanted


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    factors = [have / wanted for have, wanted in zip(pixels.shape[:2], size, strict=True)]
    safe = all(factor <= BILINEAR_UP_TO or factor == 2 for factor in factors)
    method = cv2.INTER_LINEAR if safe else cv2.INTER_AREA
    return cv2.resize(pixels, size[::-1], interpolation=method)  # type: ignore[return-value]
