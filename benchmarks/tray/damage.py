"""What soils or scars a tray: scratch, dent and stain. A bent or broken thing is in items.py.

Each draws on the scene's canvas and marks in its truth where it is.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tray.floor import CELLS, HEIGHT, TRAY, WIDTH, Canvas, Plane

Points = npt.NDArray[np.float64]  # (N, 2): x, y
Field = npt.NDArray[np.float32]  # (HEIGHT, WIDTH)

_SPOTS = 40  # places looked at for one on the bare floor


@dataclass(slots=True, eq=False)
class Scene:
    """One tray in work."""

    canvas: Canvas
    truth: Plane  # 255 where the anomaly is
    things: Plane  # 255 where things lie


def scratch(scene: Scene, chance: np.random.Generator) -> None:
    """A slightly bent, uneven line: bright burr, dark groove beside it."""
    length, angle = chance.uniform(160, 340), chance.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    low = np.array(TRAY[:2]) + 30 + np.abs(reach)
    middle = chance.uniform(low, np.array(TRAY[2:]) - 30 - np.abs(reach))
    t = np.linspace(-1, 1, 30)[:, None]
    points = middle + t * reach + (1 - t * t) * chance.uniform(-0.15, 0.15) * reach[::-1] * (1, -1)
    points += chance.normal(0, 0.8, points.shape)
    width = int(chance.integers(3, 5))
    for offset, grey in ((2.0, 40), (0.0, 226)):
        share = _stroke(points + offset, width)[..., None] / np.float32(255 / 0.8)
        scene.canvas[..., :3] = scene.canvas[..., :3] * (1 - share) + grey * share
    np.maximum(scene.truth, _stroke(points, 9), out=scene.truth)


def dent(scene: Scene, chance: np.random.Generator) -> None:
    """The bare floor pressed in: dark towards the light, bright away from it."""
    radius, flat, angle = chance.uniform(26, 38), chance.uniform(0.6, 1.0), chance.uniform(0, np.pi)
    dx, dy = _offsets(*_bare_spot(scene, chance))
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / radius
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / (radius * flat)
    depth = np.asarray(np.exp(-((u**2 + v**2) ** 1.5)) * radius, np.float32)
    slope = 0.6 * cv2.Sobel(depth, cv2.CV_32F, 1, 0) + 0.8 * cv2.Sobel(depth, cv2.CV_32F, 0, 1)
    slope /= 8  # the gain of Sobel's kernel
    _darken(scene, 0.75 * slope / np.sqrt(1 + slope**2) + 0.1 * depth / radius, (1, 1, 1))
    scene.truth[u**2 + v**2 < 1.3] = 255


def stain(scene: Scene, chance: np.random.Generator) -> None:
    """A rusty or oily spot with an uneven outline and a darker rim, and splashes around it."""
    x, y = _spot(chance, 50)
    size = chance.uniform(28, 46)
    inside, rim = _blot(x, y, size, chance)
    for _ in range(int(chance.integers(2, 6))):
        away, bearing = size * chance.uniform(1.3, 1.9), chance.uniform(0, 2 * np.pi)
        splash = _blot(x + away * np.cos(bearing), y + away * np.sin(bearing), chance.uniform(5, 10), chance)
        inside, rim = np.maximum(inside, splash[0]), np.maximum(rim, splash[1])
    tint = ((0.72, 0.5, 0.25), (0.62, 0.62, 0.6))[int(chance.integers(2))]
    _darken(scene, 0.8 * inside + 0.3 * rim * inside, tint)
    scene.truth[inside > 0.5] = 255


def _blot(x: float, y: float, size: float, chance: np.random.Generator) -> tuple[Field, Field]:
    """How much of each pixel is covered, and how near the outline it is: both 0..1."""
    dx, dy = _offsets(x, y)
    bearing, far = np.arctan2(dy, dx), np.hypot(dx, dy)
    radius = np.full_like(far, size)
    for wave in range(2, 6):
        depth, phase = chance.uniform(0, 0.3) / wave**0.5, chance.uniform(0, 2 * np.pi)
        radius *= 1 + np.float32(depth) * np.cos(wave * bearing + np.float32(phase))
    inwards = radius - far
    return np.clip(inwards / 4 + 0.5, 0, 1), np.exp(-(((inwards - 4) / 4) ** 2))


def _spot(chance: np.random.Generator, inset: int) -> tuple[float, float]:
    """Somewhere in a compartment, so far from its walls."""
    x0, y0, x1, y1 = CELLS[int(chance.integers(len(CELLS)))]
    return float(chance.uniform(x0 + inset, x1 - inset)), float(chance.uniform(y0 + inset, y1 - inset))


def _bare_spot(scene: Scene, chance: np.random.Generator) -> tuple[float, float]:
    """The first of some spots that has room, or the one with the most."""
    room = cv2.distanceTransform((scene.things < 128).astype(np.uint8), cv2.DIST_L2, 3)
    spots = [_spot(chance, 44) for _ in range(_SPOTS)]
    rooms = [min(float(room[int(y), int(x)]), 40.0) for x, y in spots]
    return spots[int(np.argmax(rooms))]


def _offsets(x: float, y: float) -> tuple[Field, Field]:
    dy, dx = np.ogrid[:HEIGHT, :WIDTH]
    return np.broadcast_arrays((dx - x).astype(np.float32), (dy - y).astype(np.float32))


def _stroke(points: Points, width: int) -> Plane:
    line = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.polylines(line, [np.round(points * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4)
    return line


def _darken(scene: Scene, share: Field, tint: tuple[float, float, float]) -> None:
    """Take away `share` of the light, of each colour as much as `tint` says."""
    factor = 1 - share[..., None] * np.array(tint, np.float32)
    scene.canvas[..., :3] = np.clip(scene.canvas[..., :3] * factor, 0, 255)
