"""Self-made anomalies of many kinds: what the ablation chooses by, so that no test picture has to.

Drawn on good pictures before they are resized to the engine's input, so that thin things become as faint as
a camera's would. Sizes are shares of the picture's side, strengths grey levels of 255; all are ours, set so
that the kinds differ in size and contrast and none is seen by every detector.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Pixels

Grey = npt.NDArray[np.float32]  # (H, W), 0..1: how much of the damage lies at each pixel
Box = tuple[int, int, int, int]  # top, left, height, width
SMALL = 128  # side of the picture in which a removed region is painted over: enough for a plain ground
FILL_RADIUS = 3
SEEN = 10.0  # grey levels at one place at least, where a surface is smoothed


def scratch(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A slightly bent line of one grey, 6 to 20 % of the side long, 60 levels from what it crosses."""
    side = min(image.shape[:2])
    middle, angle, length = _place(image, rng), rng.uniform(0, np.pi), rng.uniform(0.06, 0.2) * side
    along = ((-0.5, 0.0), (0.0, 0.1), (0.5, 0.2))
    points = [middle + t * length * np.array([np.cos(angle + d), np.sin(angle + d)]) for t, d in along]
    under = image[int(middle[1]), int(middle[0])].mean()
    grey = int(np.clip(under + rng.choice([-60, 60]), 0, 255))
    width = int(rng.integers(2, 5) * side / 512)
    return np.asarray(
        cv2.polylines(image.copy(), _line(points), False, (grey,) * 3, max(1, width), cv2.LINE_AA)
    )


def crack(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A hairline of eight turns, 25 to 50 levels, mostly darker."""
    side = min(image.shape[:2])
    points, angle = [_place(image, rng)], rng.uniform(0, np.pi)
    for turn in rng.normal(0, 0.5, 8):
        angle += turn
        points.append(points[-1] + 0.023 * side * np.array([np.cos(angle), np.sin(angle)]))
    where = np.zeros(image.shape[:2], np.float32)
    cv2.polylines(where, _line(points), False, 1.0, max(1, side // 256), cv2.LINE_AA)
    return _clipped(image + where[..., None] * rng.choice([-1, -1, 1]) * rng.uniform(25, 50))


def blob(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A soft spot of 1 to 4 % of the side, lighter or darker, a little coloured."""
    side = min(image.shape[:2])
    radius = rng.uniform(0.012, 0.04) * side
    where = _ellipse(image, _place(image, rng), (radius, radius), 0.0, softness=0.008 * side)
    return _clipped(image + where[..., None] * rng.choice([-50, 50]) * rng.uniform(0.6, 1.2, 3))


def stain(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A wide patch without an edge, 12 to 30 % lighter or darker."""
    side = min(image.shape[:2])
    axes = (rng.uniform(0.1, 0.27) * side, rng.uniform(0.06, 0.2) * side)
    softness = rng.uniform(0.02, 0.045) * side
    where = _ellipse(image, _place(image, rng), axes, rng.uniform(0, 180), softness)
    return _clipped(image * (1 + where[..., None] * rng.choice([-1, 1]) * rng.uniform(0.12, 0.3)))


def small_patch(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A patch of 3 to 12 % of the side also stands somewhere else (CutPaste, arXiv 2104.04015)."""
    source = _box(image, rng, 0.03, 0.12)
    return _pasted(image, image, source, _corner(image, rng, source))


def erased(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A region of 12 to 24 % of the side is painted over with what lies around it."""
    return _painted_over(image, _box(image, rng, 0.12, 0.24))


def moved(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A region of 16 to 27 % of the side is gone from its place and stands at another."""
    source = _box(image, rng, 0.16, 0.27)
    return _pasted(_painted_over(image, source), image, source, _corner(image, rng, source))


def uneven(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Clouds over the whole picture, 15 to 40 % of the side wide, at most 8 to 16 % lighter and darker."""
    side = min(image.shape[:2])
    noise = rng.normal(size=image.shape[:2]).astype(np.float32)
    clouds = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.15, 0.4) / 3 * side)
    strength = rng.uniform(0.08, 0.16) / float(np.abs(clouds).max())
    return _clipped(image * (1 + strength * clouds[..., None]))


def rough(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A third to two thirds of each side have another surface: grain of 6 to 12 levels, or smoothed, where
    there is anything to smooth."""
    side = min(image.shape[:2])
    y, x, h, w = _box(image, rng, 0.33, 0.67)
    where = np.zeros(image.shape[:2], np.float32)
    where[y : y + h, x : x + w] = 1.0
    where = cv2.GaussianBlur(where, (0, 0), 0.03 * side)[..., None]
    grain = cv2.GaussianBlur(rng.normal(size=image.shape[:2]).astype(np.float32), (0, 0), side / 512)
    grained = image + rng.uniform(6, 12) / float(grain.std()) * grain[..., None]
    smoothed = cv2.GaussianBlur(image, (0, 0), rng.uniform(1.5, 3) * side / 512).astype(np.float32)
    plain = float((where * np.abs(smoothed - image)).max()) < SEEN
    changed = grained if plain or rng.random() < 0.5 else smoothed
    return _clipped(image + where * (changed - image))


KINDS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    kind.__name__: kind for kind in (scratch, crack, blob, stain, small_patch, erased, moved, uneven, rough)
}


def draw(images: Pixels, kind: str, copies: int, seed: int) -> Pixels:
    """`copies` damaged copies of each picture: uint8 (N, H, W, 3) -> (N * copies, H, W, 3).

    A picture's damage depends on seed, kind and its number only, not on the other pictures.
    """
    number = list(KINDS).index(kind)
    return np.stack([
        KINDS[kind](image, np.random.default_rng((seed, number, i, copy)))
        for i, image in enumerate(images) for copy in range(copies)
    ])  # fmt: skip


def _place(image: Pixels, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(x, y) away from the border, where a part may no longer be."""
    return rng.uniform(0.2, 0.8, 2) * image.shape[1::-1]


def _box(image: Pixels, rng: np.random.Generator, least: float, most: float) -> Box:
    """A box with sides of `least` to `most` of the picture's, in its middle 80 %."""
    height, width = (int(rng.uniform(least, most) * side) for side in image.shape[:2])
    top, left = _corner(image, rng, (0, 0, height, width))
    return top, left, height, width


def _corner(image: Pixels, rng: np.random.Generator, box: Box) -> tuple[int, int]:
    top, left = (
        int(rng.uniform(0.1 * side, 0.9 * side - of_box))
        for side, of_box in zip(image.shape[:2], box[2:], strict=True)
    )
    return top, left


def _pasted(onto: Pixels, image: Pixels, box: Box, corner: tuple[int, int]) -> Pixels:
    (y, x, h, w), (to_y, to_x) = box, corner
    changed = onto.copy()
    changed[to_y : to_y + h, to_x : to_x + w] = image[y : y + h, x : x + w]
    return changed


def _painted_over(image: Pixels, box: Box) -> Pixels:
    """Telea's inpainting in a small copy: smooth, and quick for a large region."""
    y, x, h, w = box
    hole = np.zeros(image.shape[:2], np.uint8)
    hole[y : y + h, x : x + w] = 255
    small = cv2.resize(image, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    small_hole = cv2.resize(hole, (SMALL, SMALL), interpolation=cv2.INTER_NEAREST)
    filled = cv2.inpaint(small, cv2.dilate(small_hole, np.ones((3, 3))), FILL_RADIUS, cv2.INPAINT_TELEA)
    return np.where(hole[..., None] > 0, cv2.resize(filled, image.shape[1::-1]), image)


def _ellipse(
    image: Pixels, middle: npt.NDArray[np.float64], axes: tuple[float, float], angle: float, softness: float
) -> Grey:
    where = np.zeros(image.shape[:2], np.float32)
    cv2.ellipse(where, _whole(middle), _whole(axes), angle, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(where, (0, 0), softness), np.float32)


def _line(points: list[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.int32]]:
    return [np.array(points).astype(np.int32)]


def _whole(pair: npt.ArrayLike) -> tuple[int, int]:
    first, second = np.asarray(pair).astype(int).tolist()
    return first, second


def _clipped(image: npt.NDArray[np.floating]) -> Pixels:
    return np.clip(image, 0, 255).astype(np.uint8)
