"""One photograph of one tray, good or with one anomaly, and where the anomaly is.

The same (seed, index, anomaly) gives the same picture in any order of calls; the damaged tray of a
(seed, index) differs from the good one in nothing but the damage.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.cameras.ground import BELT, belt
from edge.cameras.pieces import Sprite
from edge.frame import Pixels
from tray.damage import Field, Scene, dent, scratch, stain
from tray.floor import CELLS, GRAIN, HEIGHT, WIDTH, Canvas, Plane, bare_tray, grain, rounded
from tray.items import broken_sprite, sprite
from tray.place import Laid, lay_out
from tray.rules import MISTAKES, Packing, good_packing

SIZE = (384, 512)  # of the picture: height, width
LOGICAL = tuple(MISTAKES)
STRUCTURAL = ("scratch", "dent", "stain", "broken")
_DAMAGES = {"scratch": scratch, "dent": dent, "stain": stain}
_NOISE = 2.5  # grey levels of sensor noise, standard deviation


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A tray as the camera sees it."""

    pixels: Pixels  # (384, 512, 3)
    mask: npt.NDArray[np.uint8]  # (384, 512): 255 where the anomaly is
    packing: Packing
    defect: str  # what the anomaly is in detail ("missing_cap"), empty for a good tray


def photograph(seed: int, index: int, anomaly: str = "") -> Photo:
    """Tray number `index`; `anomaly` is one of LOGICAL or STRUCTURAL, empty for a good tray."""
    if anomaly and anomaly not in LOGICAL + STRUCTURAL:
        raise ValueError(f"anomaly {anomaly!r} is not one of {LOGICAL + STRUCTURAL}")
    nature = np.random.default_rng((seed, index, 0))
    chance = np.random.default_rng((seed, index, 1 + ("", *LOGICAL, *STRUCTURAL).index(anomaly)))
    packing = good_packing(nature)
    if anomaly in LOGICAL:
        MISTAKES[anomaly](packing, chance)
    pose, light = _pose(nature), _light(nature)
    scene = _compose(packing, anomaly, nature, chance)
    seen = cv2.warpAffine(scene.truth, pose, SIZE[::-1], flags=cv2.INTER_LINEAR)
    mask = np.asarray(np.where(seen > 80, 255, 0), np.uint8)
    return Photo(_expose(scene.canvas, pose, light, nature), mask, packing, packing.defect or anomaly)


def _compose(
    packing: Packing, anomaly: str, nature: np.random.Generator, chance: np.random.Generator
) -> Scene:
    """The tray with everything in it."""
    scene = _empty_scene(packing, nature)
    laid = lay_out(packing, nature)
    broken = _breakable(laid, chance) if anomaly == "broken" else None
    for thing in laid:
        whole = looks = sprite(thing.item, thing.look)
        wrong = whole.body if thing.item.wrong else None
        if thing is broken:
            looks = broken_sprite(thing.item, thing.look, chance)
            wrong = cv2.dilate(np.abs(looks.body - whole.body), np.ones((7, 7), np.uint8))
        _lay(scene, thing, looks, nature.uniform(0.95, 1.05))
        if wrong is not None:
            _mark(scene.truth, thing, wrong)
    if anomaly in _DAMAGES:
        _DAMAGES[anomaly](scene, chance)
    return scene


def _empty_scene(packing: Packing, chance: np.random.Generator) -> Scene:
    """Another stretch of plastic each time; a compartment in which something is missed is marked whole."""
    y, x = chance.integers(0, GRAIN - HEIGHT), chance.integers(0, GRAIN - WIDTH)
    plastic = grain()[y : y + HEIGHT, x : x + WIDTH]
    canvas = np.asarray(cv2.add(bare_tray(), plastic, dtype=cv2.CV_8U), np.uint8)
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth = nothing.copy() if packing.lacking is None else rounded(CELLS[packing.lacking], 18)
    return Scene(canvas, truth, nothing)


def _breakable(laid: list[Laid], chance: np.random.Generator) -> Laid:
    kinds = sorted({thing.item.kind for thing in laid} - {"cable"})
    kind = kinds[int(chance.integers(len(kinds)))]
    return next(thing for thing in laid if thing.item.kind == kind)


def _lay(scene: Scene, thing: Laid, looks: Sprite, tint: float) -> None:
    ground = scene.canvas[_window(thing, looks.body)][..., :3]
    ground[:] = np.minimum(ground * looks.keep + looks.colour * np.float32(tint), 255)
    _mark(scene.things, thing, looks.body)


def _mark(plane: Plane, thing: Laid, body: npt.NDArray[np.float32]) -> None:
    marked = plane[_window(thing, body)]
    np.maximum(marked, (body * 255).astype(np.uint8), out=marked)


def _window(thing: Laid, body: npt.NDArray[np.float32]) -> tuple[slice, slice]:
    half = len(body) // 2
    return slice(thing.y - half, thing.y + half), slice(thing.x - half, thing.x + half)


def _pose(chance: np.random.Generator) -> npt.NDArray[np.float64]:
    """Canvas to picture: half the size, up to 1.5 degrees and 5 pixels off."""
    turn, shift = chance.uniform(-1.5, 1.5), chance.uniform(-5, 5, 2)
    pose = np.asarray(cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), float(turn), 0.5), np.float64)
    pose[:, 2] += (SIZE[1] / 2 - WIDTH / 2 + shift[0], SIZE[0] / 2 - HEIGHT / 2 + shift[1])
    return pose


def _expose(
    canvas: Canvas, pose: npt.NDArray[np.float64], light: Field, chance: np.random.Generator
) -> Pixels:
    """What the camera makes of it: table, lamp, focus, noise."""
    tray = cv2.warpAffine(canvas, pose, SIZE[::-1], flags=cv2.INTER_LINEAR).astype(np.float32)
    x, y = chance.integers(0, BELT, 2)
    table = np.roll(belt(), (int(y), int(x)), (0, 1))[: SIZE[0], : SIZE[1]] * np.float32(
        chance.uniform(0.85, 1.15)
    )
    scene = (tray[..., :3] + table * (1 - tray[..., 3:] / 255)) * light
    scene = cv2.GaussianBlur(scene, (0, 0), float(chance.uniform(0.3, 0.8)))
    rough = chance.integers(0, 256, (2, *SIZE, 3), np.uint8).astype(np.float32)
    scene += (rough[0] - rough[1]) * (_NOISE / 104.5)  # the difference of two such bytes has sigma 104.5
    return np.asarray(np.clip(scene + 0.5, 0, 255), np.uint8)


def _light(chance: np.random.Generator) -> Field:
    """(384, 512, 3): lamp strength, its slope over the picture, and its colour temperature."""
    gain, slope = chance.uniform(0.88, 1.12), chance.uniform(-0.1, 0.1, 2)
    down, across = (np.linspace(-1, 1, n, dtype=np.float32) for n in SIZE)
    warmth = chance.uniform(-0.04, 0.04)
    plane = gain + slope[0] * across[None, :] + slope[1] * down[:, None]
    return np.asarray(plane[..., None] * np.array([1 - warmth, 1, 1 + warmth]), np.float32)
