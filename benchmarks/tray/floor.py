"""The empty tray and where its compartments are."""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 1104, 848  # canvas pixels; the picture shows the inner 1024 x 768, half as large
TRAY = (82, 70, 1022, 778)  # x0, y0, x1, y1
_X, _Y = (104, 376, 392, 712, 728, 1000), (96, 416, 432, 752)
CELLS = tuple((_X[2 * c], _Y[2 * r], _X[2 * c + 1], _Y[2 * r + 1]) for r in range(2) for c in range(3))
GRAIN = 1280  # pixels of the plastic's pattern, square

Canvas = npt.NDArray[np.uint8]  # (HEIGHT, WIDTH, 4): BGR premultiplied by alpha, then alpha
Plane = npt.NDArray[np.uint8]  # (HEIGHT, WIDTH)


def rounded(box: tuple[int, int, int, int], corner: int) -> Plane:
    """255 inside a box with round corners."""
    x0, y0, x1, y1 = box
    plane = np.zeros((HEIGHT, WIDTH), np.uint8)
    plane[y0 + corner : y1 - corner, x0 + corner : x1 - corner] = 255
    return cv2.dilate(plane, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * corner + 1, 2 * corner + 1)))


@cache
def bare_tray() -> Canvas:
    """Grey plastic with six compartments; the shadows of the walls and of the tray itself included."""
    outer = rounded(TRAY, 26)
    floor = np.max([rounded(box, 18) for box in CELLS], axis=0)
    walls = outer.astype(np.float32) - floor
    height = cv2.GaussianBlur(walls, (0, 0), 2.5)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * 0.6 + cv2.Sobel(height, cv2.CV_32F, 0, 1) * 0.8
    deep = cv2.GaussianBlur(np.roll(walls, (14, 10), (0, 1)), (0, 0), 9) / 255 * (floor / 255)
    tone = 116 + 22 * walls / 255 + np.clip(slope * 0.16, -46, 60)
    tone *= 1 - 0.5 * deep
    alpha = cv2.GaussianBlur(outer, (0, 0), 0.8).astype(np.float32)[..., None] / 255
    cover = np.maximum(
        alpha[..., 0], cv2.GaussianBlur(np.roll(outer, (16, 12), (0, 1)), (0, 0), 12) / 255 * 0.6
    )
    bgr = tone[..., None] * np.array([0.98, 1.0, 0.95]) * alpha
    return np.clip(np.dstack([bgr, cover * 255]) + 0.5, 0, 255).astype(np.uint8)


@cache
def grain() -> npt.NDArray[np.int16]:
    """(GRAIN, GRAIN, 4): the plastic's fine grain and slow clouds, to be added to the tray; alpha 0."""
    rng = np.random.default_rng(3)
    planes = []
    for sigma, strength in ((1.4, 5.0), (5.0, 2.5), (40.0, 4.0)):
        small = max(1, int(sigma // 4))
        noise = rng.standard_normal((GRAIN // small, GRAIN // small)).astype(np.float32)
        soft = cv2.resize(cv2.GaussianBlur(noise, (0, 0), sigma / small), (GRAIN, GRAIN))
        planes.append(soft / soft.std() * strength)
    tone = sum(planes)[..., None]
    return np.dstack([tone, tone, tone, np.zeros_like(tone)]).round().astype(np.int16)
