"""Region of interest and resize: the same function trains and runs, so the two can never differ."""

import cv2
import numpy as np

from edge.errors import DataError
from edge.frame import Pixels

Roi = tuple[int, int, int, int]  # x, y, width, height in camera pixels


def preprocess(pixels: Pixels, input_size: tuple[int, int], roi: Roi | None = None) -> Pixels:
    """Cut the region of interest and resize to the model's (height, width).

    Takes and gives uint8 (H, W, 3) BGR. Shrinks by area averaging (no aliasing), enlarges bilinearly; the
    aspect ratio is not kept, as in MVTec AD and LOCO practice. Colour order and normalisation are inside
    the engine. Raises DataError when the ROI does not lie inside the picture.
    """
    if roi is not None:
        x, y, width, height = roi
        if x + width > pixels.shape[1] or y + height > pixels.shape[0]:
            where = f"ROI {roi} on a picture of {pixels.shape[1]}x{pixels.shape[0]}"
            raise DataError("the region of interest leaves the picture", where, "Set the ROI anew.")
        pixels = pixels[y : y + height, x : x + width]
    height, width = input_size
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    return cv2.resize(  # type: ignore[return-value]
        pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
