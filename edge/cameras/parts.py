"""Pictures of the simulated product, good or with one defect: a fair, repeatable task without a data set.

The same (seed, index) gives the same picture in any order of calls, and the good and the defective picture
of one (seed, index) differ in nothing but the defect. Good parts vary in light, pose, belt, tint, angle of
the screws and sensor noise.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edge.cameras.ground import BELT, bare_plate, belt
from edge.cameras.pieces import BOARD, CANVAS, PLACES, PLATE, SWAPS, TURNS, Float, Place, Sprite, sprites
from edge.frame import Pixels

SIDE = 320  # pixels of the picture, square
DEFECTS = ("scratch", "missing", "surplus", "misplaced")
Mask = npt.NDArray[np.uint8]  # (SIDE, SIDE), 255 where the defect is

_NATURE, _DEFECT = 0, 1  # two streams of chance: the defect must not disturb the rest
_NOISE = 2.2  # grey levels of sensor noise, standard deviation
_SPARES = (("screw", 20), ("red_cap", 38), ("blue_cap", 38), ("driver", 42))  # what may lie about; radius


class _Laid(NamedTuple):
    """A piece as it lies on this part."""

    place: Place
    look: int  # which of its sprites
    tint: float


@dataclass(slots=True, eq=False)
class _Scene:
    """One part in work: what lies on it, the drawing, and where the defect is."""

    placed: list[_Laid]  # the later ones lie on top
    canvas: npt.NDArray[np.uint8]  # (CANVAS, CANVAS, 4)
    truth: Float  # (CANVAS, CANVAS), 0..1


def render_part(seed: int, index: int, defect: str | None = None) -> Pixels:
    """Part number `index` as uint8 (320, 320, 3) BGR; `defect` is one of DEFECTS or None for a good part."""
    return _render(seed, index, defect)[0]


def render_with_mask(seed: int, index: int, defect: str | None = None) -> tuple[Pixels, Mask]:
    """The picture, and where its defect is: 0 or 255, all 0 for a good part."""
    pixels, truth, pose = _render(seed, index, defect)
    seen = cv2.warpAffine(truth, pose, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return pixels, np.asarray(np.where(seen > 0.25, 255, 0), np.uint8)


def _render(seed: int, index: int, defect: str | None) -> tuple[Pixels, Float, npt.NDArray[np.float64]]:
    if defect is not None and defect not in DEFECTS:
        raise ValueError(f"defect {defect!r} is not one of {DEFECTS}")
    nature = np.random.default_rng((seed, index, _NATURE))
    chance = np.random.default_rng((seed, index, _DEFECT))
    scene = _assemble(nature)
    if defect is not None and defect != "scratch":
        _MISTAKES[defect](scene, chance)
    for laid in scene.placed:
        _lay(scene.canvas, laid)
    if defect == "scratch":
        _scratch(scene, chance)
    pose = _pose(nature)
    return _photograph(scene.canvas, pose, nature), scene.truth, pose


def _assemble(nature: np.random.Generator) -> _Scene:
    """Every piece at its place, give or take half a pixel of the picture."""
    shifts = nature.integers(-1, 2, (len(PLACES), 2))
    looks = nature.integers(0, TURNS, len(PLACES))
    tints = nature.uniform(0.96, 1.04, len(PLACES))
    placed = [
        _Laid(replace(p, x=p.x + int(dx), y=p.y + int(dy)), int(look), float(tint))
        for p, (dx, dy), look, tint in zip(PLACES, shifts, looks, tints, strict=True)
    ]
    return _Scene(placed, bare_plate().copy(), np.zeros((CANVAS, CANVAS), np.float32))


def _lay(canvas: npt.NDArray[np.uint8], laid: _Laid) -> None:
    sprite = _look(laid)
    ground = canvas[_window(laid.place, sprite)][..., :3]
    ground[:] = np.minimum(ground * sprite.keep + sprite.colour * laid.tint, 255)


def _look(laid: _Laid) -> Sprite:
    looks = sprites(laid.place.piece)
    return looks[laid.look % len(looks)]


def _window(place: Place, sprite: Sprite) -> tuple[slice, slice]:
    half = len(sprite.body) // 2
    return slice(place.y - half, place.y + half), slice(place.x - half, place.x + half)


def _mark(scene: _Scene, *pieces: _Laid) -> None:
    for laid in pieces:
        sprite = _look(laid)
        truth = scene.truth[_window(laid.place, sprite)]
        np.maximum(truth, sprite.body, out=truth)


def _take_out(scene: _Scene, chance: np.random.Generator) -> None:
    _mark(scene, scene.placed.pop(int(chance.integers(len(scene.placed)))))


def _add(scene: _Scene, chance: np.random.Generator) -> None:
    piece, radius = _SPARES[chance.integers(len(_SPARES))]
    place = _free_place(chance, piece, radius, [laid.place for laid in scene.placed])
    scene.placed.append(_Laid(place, int(chance.integers(TURNS)), 1.0))
    _mark(scene, scene.placed[-1])


def _misplace(scene: _Scene, chance: np.random.Generator) -> None:
    """Swap two different pieces, or set one down beside its place."""
    if chance.random() < 0.5:
        _swap(scene, SWAPS[chance.integers(len(SWAPS))])
    else:
        _push(scene, chance)


def _swap(scene: _Scene, pair: tuple[str, str]) -> None:
    i, k = (next(n for n, laid in enumerate(scene.placed) if laid.place.piece == name) for name in pair)
    first, second = scene.placed[i], scene.placed[k]
    scene.placed[i] = second._replace(place=replace(second.place, x=first.place.x, y=first.place.y))
    scene.placed[k] = first._replace(place=replace(first.place, x=second.place.x, y=second.place.y))
    _mark(scene, first, second, scene.placed[i], scene.placed[k])


def _push(scene: _Scene, chance: np.random.Generator) -> None:
    laid = scene.placed.pop(int(chance.integers(len(scene.placed))))
    angle, far = chance.uniform(0, 2 * np.pi), chance.uniform(26, 40)
    x = int(np.clip(laid.place.x + far * np.cos(angle), BOARD[0] + 30, BOARD[2] - 30))
    y = int(np.clip(laid.place.y + far * np.sin(angle), BOARD[1] + 30, BOARD[3] - 30))
    scene.placed.append(laid._replace(place=replace(laid.place, x=x, y=y)))
    _mark(scene, laid, scene.placed[-1])


def _free_place(chance: np.random.Generator, piece: str, radius: int, taken: list[Place]) -> Place:
    """The roomiest of some random places, so that the surplus piece lies between the others."""
    xs = chance.integers(BOARD[0] + radius, BOARD[2] - radius, 60)
    ys = chance.integers(BOARD[1] + radius, BOARD[3] - radius, 60)
    room = np.min([np.hypot(xs - p.x, ys - p.y) - p.radius for p in taken], axis=0)
    free = np.flatnonzero(room > radius * 0.7)
    best = int(free[0]) if len(free) else int(room.argmax())
    return Place(piece, int(xs[best]), int(ys[best]), radius)


def _scratch(scene: _Scene, chance: np.random.Generator) -> None:
    """A slightly bent line: bright burr, dark groove beside it."""
    length, angle = chance.uniform(110, 230), chance.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    low = np.array(PLATE[:2]) + 14 + np.abs(reach)
    middle = chance.uniform(low, np.array(PLATE[2:]) - 14 - np.abs(reach))
    bend = chance.uniform(-0.12, 0.12) * reach[::-1] * (1, -1)
    t = np.linspace(-1, 1, 24)[:, None]
    points = middle + t * reach + (1 - t * t) * bend
    width = int(chance.integers(4, 6))
    _draw_line(scene, points + np.array([1.5, 2.0]), width - 1, 26)
    _draw_line(scene, points, width, 236)


def _draw_line(scene: _Scene, points: npt.NDArray[np.float64], width: int, value: int) -> None:
    """Blend a line of this grey into the canvas; only the window around it is touched."""
    x0, y0 = np.maximum(points.min(0).astype(int) - 10, 0)
    x1, y1 = points.max(0).astype(int) + 10
    line = np.zeros((y1 - y0, x1 - x0), np.uint8)
    corners = np.round((points - (x0, y0)) * 16).astype(np.int32)[None]
    cv2.polylines(line, list(corners), False, 255, width, cv2.LINE_AA, 4)
    alpha = line.astype(np.float32)[..., None] / 255 * 0.85
    ground = scene.canvas[y0:y1, x0:x1, :3]
    ground[:] = ground * (1 - alpha) + value * alpha
    truth = scene.truth[y0:y1, x0:x1]
    np.maximum(truth, cv2.dilate(line, np.ones((5, 5), np.uint8)) / 255, out=truth)


def _pose(nature: np.random.Generator) -> npt.NDArray[np.float64]:
    """Canvas to picture: half the size, up to 1.5 degrees and 4 pixels off."""
    turn, (dx, dy) = nature.uniform(-1.5, 1.5), nature.uniform(-4, 4, 2)
    pose = cv2.getRotationMatrix2D((CANVAS / 2, CANVAS / 2), float(turn), SIDE / CANVAS)
    pose[:, 2] += (SIDE - CANVAS) / 2 + dx, (SIDE - CANVAS) / 2 + dy
    return np.asarray(pose, np.float64)


def _photograph(
    canvas: npt.NDArray[np.uint8], pose: npt.NDArray[np.float64], nature: np.random.Generator
) -> Pixels:
    part = cv2.warpAffine(canvas, pose, (SIDE, SIDE), flags=cv2.INTER_LINEAR).astype(np.float32)
    x, y = nature.integers(0, BELT - SIDE, 2)
    ground = belt()[y : y + SIDE, x : x + SIDE]
    scene = part[..., :3] + ground * (1 - part[..., 3:] / 255)
    scene *= _light(nature)
    rough = nature.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8).astype(np.float32)
    scene += (rough[0] - rough[1]) * (_NOISE / 104.5)  # the difference of two such bytes has sigma 104.5
    return np.asarray(np.clip(scene + 0.5, 0, 255), np.uint8)


def _light(nature: np.random.Generator) -> Float:
    """(SIDE, SIDE, 3): lamp strength, its slope over the picture, slow unevenness, and a small tint."""
    gain, slope = nature.uniform(0.93, 1.07), nature.uniform(-0.06, 0.06, 2)
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    uneven = cv2.resize(
        nature.normal(0, 0.012, (6, 6)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    plane = gain + slope[0] * ramp[None, :] + slope[1] * ramp[:, None] + uneven
    return np.asarray(plane[..., None] * nature.uniform(0.985, 1.015, 3), np.float32)


_MISTAKES = {"missing": _take_out, "surplus": _add, "misplaced": _misplace}
