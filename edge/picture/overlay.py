"""The heat map over the picture: what the operator sees and what is kept of a rejected part."""

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import AnomalyMap, Pixels
from edge.picture.preprocess import Roi

# The colour scale is fixed to the limit, never to the picture's own largest value: good parts look good.
# At `limit` the heat is LIMIT_COLOUR everywhere and always; from HOTTEST limits on it no longer changes.
HOTTEST = 2.0
LIMIT_COLOUR = (0, 165, 255)  # BGR, orange
OPAQUE = 0.6  # how much of the picture the hottest colour covers: the part stays recognisable

#                value / limit   B    G    R   opacity
STOPS = np.array([
    [0.00,       80, 220, 255,  0.00],
    [0.60,       80, 220, 255,  0.00],   # calm places stay untouched
    [1.00,        0, 165, 255,  0.42],
    [1.40,        0,  60, 255,  0.54],
    [2.00,       90,   0, 200,  OPAQUE],
])  # fmt: skip


def heatmap_overlay(pixels: Pixels, anomaly_map: AnomalyMap, limit: float, roi: Roi | None = None) -> Pixels:
    """Lay the map over the picture and outline where it reaches `limit`.

    `pixels` is uint8 (H, W, 3) BGR of any size, left as it is; the map is (h, w) of the model and covers the
    ROI, or the whole picture. `limit` is on the map's scale and above zero. NaN is shown as hottest: what
    cannot be judged is not calm. Gives a new picture of the same size.
    """
    overlay = pixels.copy()
    x, y, width, height = roi or (0, 0, pixels.shape[1], pixels.shape[0])
    window = overlay[y : y + height, x : x + width]
    heat = _heat(anomaly_map, limit, (window.shape[0], window.shape[1]))
    window[:] = _blend(window, heat)
    _outline(window, heat)
    return overlay


def _heat(anomaly_map: AnomalyMap, limit: float, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Map values as steps of the colour scale, (H, W), 0..255 for 0..HOTTEST limits."""
    ratio = np.asarray(anomaly_map, np.float32) / max(limit, 1e-12)
    ratio = np.clip(np.nan_to_num(ratio, nan=HOTTEST), 0, HOTTEST)
    enlarged = cv2.resize(ratio, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged * (255 / HOTTEST) + 0.5, np.uint8)


def _blend(window: Pixels, heat: npt.NDArray[np.uint8]) -> Pixels:
    premultiplied, remaining = _colour_table()
    # In 1/256 steps; 255 * 256 fits 16 bits.
    mixed = window.astype(np.uint16) * remaining[heat][..., None] + premultiplied[heat]
    return np.asarray(mixed >> 8, np.uint8)


def _colour_table() -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """For each step of heat: colour times opacity (256, 3), and what remains of the picture (256,)."""
    ratio = np.arange(256) * (HOTTEST / 255)
    opacity = np.interp(ratio, STOPS[:, 0], STOPS[:, 4])
    colour = np.column_stack([np.interp(ratio, STOPS[:, 0], STOPS[:, i]) for i in (1, 2, 3)])
    covered = np.rint(opacity * 256)
    return np.asarray(colour * covered[:, None], np.uint16), np.asarray(256 - covered, np.uint16)


def _outline(window: Pixels, heat: npt.NDArray[np.uint8]) -> None:
    """A dark line with a light one inside: seen on any picture, and without telling colours apart."""
    at_limit = (heat >= round(255 / HOTTEST)).astype(np.uint8)
    contours, _ = cv2.findContours(at_limit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(window.shape[:2]) / 400))
    # A slice of a picture is not contiguous, and OpenCV draws into contiguous arrays only.
    drawn = np.ascontiguousarray(window)
    cv2.drawContours(drawn, contours, -1, (20, 20, 20), thickness * 3)
    cv2.drawContours(drawn, contours, -1, (255, 255, 255), thickness)
    window[:] = drawn
