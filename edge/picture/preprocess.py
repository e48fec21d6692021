"""Region of interest and resize: the same function trains and runs, so the two can never differ."""

import cv2
import numpy as np

from edge.errors import DataError
from edge.frame import Pixels

Roi = tuple[int, int, int, int]  # x, y, width, height in camera pixels
Size = tuple[int, int]  # height, width in pixels

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
    for step in steps(pixels.shape[:2], size):
        method = cv2.INTER_LINEAR if is_bilinear(pixels.shape[:2], step) else cv2.INTER_AREA
        pixels = cv2.resize(pixels, step[::-1], interpolation=method)  # type: ignore[assignment]
    return np.ascontiguousarray(pixels)


def steps(have: Size, wanted: Size) -> list[Size]:
    """The sizes that a picture goes through; none where it has the size already."""
    sizes = []
    while have != wanted:
        have = (_next_side(have[0], wanted[0]), _next_side(have[1], wanted[1]))
        sizes.append(have)
    return sizes


def is_bilinear(have: Size, step: Size) -> bool:
    """Whether a step is bilinear on both sides, else it averages areas."""
    factors = [side / next_side for side, next_side in zip(have, step, strict=True)]
    return all(factor <= BILINEAR_UP_TO or factor == 2 for factor in factors)


def _next_side(side: int, wanted: int) -> int:
    """Half of a side that is at least twice too long (its bilinear value is then the mean of two pixels)."""
    return side // 2 if side >= 2 * wanted else wanted
