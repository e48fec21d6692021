"""What breaks or soils a tray: scratch, dent and stain. A bent or broken thing is in items.py.

Each draws on the canvas (H, W, 4) uint8 and marks in truth (H, W) uint8 where it is, 255.
"""

import cv2
import numpy as np
import numpy.typing as npt
from tray.floor import CELLS, HEIGHT, TRAY, WIDTH, Canvas

Points = npt.NDArray[np.float64]  # (N, 2): x, y


def scratch(canvas: Canvas, truth: Canvas, chance: np.random.Generator) -> None:
    """A slightly bent, uneven line: bright burr, dark groove beside it."""
    length, angle = chance.uniform(160, 340), chance.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    low = np.array(TRAY[:2]) + 30 + np.abs(reach)
    middle = chance.uniform(low, np.array(TRAY[2:]) - 30 - np.abs(reach))
    t = np.linspace(-1, 1, 30)[:, None]
    points = middle + t * reach + (1 - t * t) * chance.uniform(-0.15, 0.15) * reach[::-1] * (1, -1)
    points += chance.normal(0, 0.8, points.shape)
    for offset, value in ((2.0, 40), (0.0, 226)):
        line = _stroke(points + offset * 0.9, int(chance.integers(3, 5)))
        _blend(canvas, line / 255 * 0.8, (value, value, value))
    np.maximum(truth, _stroke(points, 9), out=truth)


def dent(canvas: Canvas, truth: Canvas, chance: np.random.Generator) -> None:
    """The floor or a wall pressed in: dark towards the light, bright away from it."""
    x, y = _spot(chance, 40)
    radius, flat, angle = chance.uniform(26, 42), chance.uniform(0.6, 1.0), chance.uniform(0, np.pi)
    dx, dy = _offsets(x, y)
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / radius
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / (radius * flat)
    depth = np.asarray(np.exp(-((u**2 + v**2) ** 1.5)) * radius, np.float32)
    slope = cv2.Sobel(depth, cv2.CV_32F, 1, 0, scale=0.6 / 8) + cv2.Sobel(depth, cv2.CV_32F, 0, 1, scale=0.8 / 8)
    factor = 1 - 0.7 * slope / np.sqrt(1 + slope**2) - 0.1 * depth / radius
    _scale(canvas, factor[..., None])
    truth[u**2 + v**2 < 1.3] = 255


def stain(canvas: Canvas, truth: Canvas, chance: np.random.Generator) -> None:
    """An oily spot with an uneven outline and a darker rim."""
    x, y = _spot(chance, 50)
    dx, dy = _offsets(x, y)
    bearing, far = np.arctan2(dy, dx), np.hypot(dx, dy)
    radius = np.full_like(far, chance.uniform(36, 58))
    for wave in range(2, 6):
        radius *= 1 + chance.uniform(0, 0.3 / wave**0.5) * np.cos(wave * bearing + chance.uniform(0, 2 * np.pi))
    inside = np.clip((radius - far) / 5 + 0.5, 0, 1)
    rim = np.exp(-(((radius - far - 4) / 4) ** 2))
    tint = np.array([0.45, 0.3, 0.22]) if chance.random() < 0.5 else np.array([0.4, 0.4, 0.38])
    _scale(canvas, 1 - (0.95 * inside + 0.4 * rim * inside)[..., None] * tint)
    truth[far < radius] = 255


def _spot(chance: np.random.Generator, inset: int) -> tuple[float, float]:
    """Somewhere in a compartment."""
    x0, y0, x1, y1 = CELLS[int(chance.integers(len(CELLS)))]
    return float(chance.uniform(x0 + inset, x1 - inset)), float(chance.uniform(y0 + inset, y1 - inset))


def _offsets(x: float, y: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    dy, dx = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return dx - np.float32(x), dy - np.float32(y)


def _stroke(points: Points, width: int) -> Canvas:
    line = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.polylines(line, [np.round(points * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4)
    return line


def _blend(canvas: Canvas, share: npt.NDArray[np.float64], colour: tuple[int, int, int]) -> None:
    bgr = canvas[..., :3]
    bgr[:] = bgr * (1 - share[..., None]) + np.array(colour) * share[..., None]


def _scale(canvas: Canvas, factor: npt.NDArray[np.floating]) -> None:
    canvas[..., :3] = np.clip(canvas[..., :3] * factor, 0, 255)
