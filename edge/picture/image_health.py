"""Is this picture one that the model may judge? Measured against the good pictures it was taught with.

A lamp that fails, a lens out of focus or a camera that was knocked makes every part look bad, or, worse, some
bad parts look good. Such a picture is "no decision" with its own reason, and no fail of the part.

    brightness   against the mean good picture, place by place; the median   FRAME_EXPOSURE
    burnt        share of what is not white in good pictures, and now is     FRAME_EXPOSURE
    sharpness    change from pixel to pixel / change over 8 pixels           FRAME_BLURRED
    shift        of the whole picture, which else looks as it should         FRAME_SHIFTED

A part that is damaged, or of which something is missing, changes some places; a fault of lamp, lens or mount
all of them. So a median, a direction and a whole picture are looked at, and bad parts stay bad parts.
Only a part of the pixels is looked at: 0.4 ms a picture, 0.7 with a mask. Limits come from the spread of the
good pictures, so what varies among them (parts that lie anywhere, tiles of any grey) is not limited, or
hardly. All is measured in the region of interest, of an aligned part once it is aligned, and only where the
view's mask says "look".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from edge.errors import RecipeError
from edge.frame import Pixels
from edge.picture.images import pack_grey, unpack_grey
from edge.recipe import Recipe
from edge.verdict import Reason

SAMPLES = 128  # pixels looked at along each side, for brightness and place
THUMB = 64  # pixels a side of the small picture that is compared, place by place
REACH = 10  # thumb pixels: a shift of 16 % of the side is the most that can be told
TILE, TILES, FAR = 24, 12, 8  # sharpness: at most 12 x 12 tiles of 24 pixels; the far distance within them
BURNT = 250  # grey level
MIDTONES = (8, 180)  # grey levels: darker places tell little of the light, lighter ones cannot gain much
FEWEST = 0.05  # of all places; where fewer are midtones, all count
FLAT = 1.0  # grey levels squared: a picture without any change has no sharpness

SPREADS = 2.0  # standard deviations beyond the farthest good picture, of many
FEW = 8  # for so few pictures margins are twice as wide: the farthest of them is not far
LEAST_MARGIN = 0.15  # of brightness and sharpness: lamps and temperatures drift, and good parts must pass
LEAST_BURNT, LEAST_SHIFT = 0.25, 0.03  # more of what is not white, more of the side
LEAST_UNLIKE = 0.05  # correlation below the least like good picture

Thumb = npt.NDArray[np.uint8]  # (THUMB, THUMB)
Looked = npt.NDArray[np.bool_] | None  # (THUMB, THUMB): places of which anything is looked at; None: all
UNTOLD = 1.0  # sharpness where there is none to be told, which limits nothing


class Masked:
    """What of a picture is looked at, reckoned once; `mask` (H, W) of the picture: 255 look, 0 ignore."""

    def __init__(self, mask: npt.NDArray[np.uint8]) -> None:
        white = _sampled(mask) > 0
        self.white = np.float32(white if white.any() else np.ones_like(white))
        self.share = _small(self.white)  # of each place of the small picture
        self.looked = self.share > 0
        self.box = cv2.boundingRect(mask)  # x, y, width, height: where sharpness is looked for
        self.whole = _tiles(_cut(mask, self.box)).all((2, 3))


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one picture looks like."""

    thumb: Thumb
    sharpness: float  # 0.12 (a ramp) .. 1 (noise)
    looked: Looked = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A picture beside the mean good one."""

    brightness: float  # 1: as bright
    burnt: float  # 0..1
    shift: float  # share of the side, in x or y, REACH / THUMB at most
    likeness: float  # correlation there, -1..1


def look_at(pixels: Pixels, masked: Masked | None = None) -> Look:
    """Measure uint8 (H, W, 3), a picture as `View.shown` gives it, and what its view's mask leaves of it."""
    grey, green = cv2.cvtColor(_sampled(pixels), cv2.COLOR_BGR2GRAY), pixels[:, :, 1]
    if masked is None:
        return Look(_small(grey).astype(np.uint8), _sharpness(_tiles(green)))
    means = _small(grey * masked.white) / np.maximum(masked.share, 1e-6)  # a place: what is white of it
    tiles = _tiles(_cut(green, masked.box))[masked.whole]  # the mask's edge is always sharp
    return Look(means.astype(np.uint8), _sharpness(tiles) if len(tiles) else UNTOLD, masked.looked)


def compare(thumb: Thumb, reference: Thumb, looked: Looked = None) -> Comparison:
    """All (THUMB, THUMB)."""
    dark, light = MIDTONES
    seen = np.ones_like(reference, np.bool_) if looked is None else looked
    places = seen & (reference > dark) & (reference < light)
    if places.sum() < FEWEST * seen.sum():
        places = seen
    now, good = thumb[places], reference[places]
    brightness = float(np.median((now + np.float32(1)) / (good + np.float32(1))))
    shift, likeness = _shift(thumb, reference, looked)
    return Comparison(brightness, float((now >= BURNT).mean()), shift, likeness)


@dataclass(frozen=True, slots=True, eq=False)
class HealthLimits:
    """What good pictures look like, with margins. `shift` None: good parts lie anywhere."""

    brightness: tuple[float, float]
    burnt: float
    sharpness: float
    shift: float | None
    likeness: float  # less like the good ones: not the same scene moved, but another scene
    reference: Thumb  # mean of the good pictures
    masked: Masked | None = None  # nothing is measured where the view's mask says "ignore"

    def fault(self, shown: Pixels) -> tuple[Reason, str] | None:
        """The first thing that is wrong with a picture (H, W, 3) as `View.shown` gives it, in words too; None
        for a healthy one."""
        look = look_at(shown, self.masked)
        found, (low, high) = compare(look.thumb, self.reference, look.looked), self.brightness
        if not low <= found.brightness <= high:
            what = f"brightness {found.brightness:.0%} of the good pictures' (limits {low:.0%} to {high:.0%})"
            todo = "look at lamp, exposure and lens cap; or is it another part?"
            return Reason.FRAME_EXPOSURE, f"{what}: {todo}"
        if found.burnt > self.burnt:
            what = f"{found.burnt:.0%} of what good pictures show is burnt out (limit {self.burnt:.0%})"
            return Reason.FRAME_EXPOSURE, f"{what}: look at lamp and exposure"
        if look.sharpness < self.sharpness:
            what = f"sharpness {look.sharpness:.2f} (limit {self.sharpness:.2f})"
            return Reason.FRAME_BLURRED, f"{what}: look at focus, lens and the part's motion"
        if self.shift is not None and found.shift > self.shift and found.likeness >= self.likeness:
            what = f"the picture lies {found.shift:.0%} of its side off (limit {self.shift:.0%})"
            return Reason.FRAME_SHIFTED, f"{what}: look at the camera's mount, the guide and the trigger"
        return None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the recipe."""
        numbers = {name: getattr(self, name) for name in ("burnt", "sharpness", "likeness")}
        return {
            "brightness": [round(value, 4) for value in self.brightness],
            **{name: round(value, 4) for name, value in numbers.items()},
            "shift": None if self.shift is None else round(self.shift, 4),
            "reference": pack_grey(self.reference),
        }

    @classmethod
    def from_json(cls, entries: Mapping[str, Any], masked: Masked | None = None) -> Self:
        """The reverse. Raises ValueError, TypeError or KeyError for what it did not write."""
        low, high = (float(value) for value in entries["brightness"])
        burnt, sharpness, likeness = (float(entries[name]) for name in ("burnt", "sharpness", "likeness"))
        shift = None if entries["shift"] is None else float(entries["shift"])
        reference = unpack_grey(entries["reference"])
        numbers = (low, high, burnt, sharpness, likeness, shift or 0.0)
        if reference.shape != (THUMB, THUMB) or not all(math.isfinite(number) for number in numbers):
            raise ValueError("a limit is no number, or the reference has another size")
        return cls((low, high), burnt, sharpness, shift, likeness, reference, masked)


def limits_of(looks: Sequence[Look], masked: Masked | None = None) -> HealthLimits:
    """From good pictures, two at least, all with that mask; the more, the closer the limits fit."""
    thumbs = [look.thumb for look in looks]
    each = _each_beside_the_others(thumbs, looks[0].looked)
    bright, sharp = np.log([c.brightness for c in each]), np.log([look.sharpness + 1e-3 for look in looks])
    burnt, likeness = np.array([c.burnt for c in each]), np.array([c.likeness for c in each])
    shifts, least = np.array([c.shift for c in each]), math.log(1 + LEAST_MARGIN)
    shift = float(shifts.max()) + _margin(shifts, LEAST_SHIFT)
    margin = _margin(bright, least)
    return HealthLimits(
        (math.exp(bright.min() - margin), math.exp(bright.max() + margin)),
        float(burnt.max()) + _margin(burnt, LEAST_BURNT),
        math.exp(sharp.min() - _margin(sharp, least)),
        shift if shift < REACH / THUMB else None,
        float(likeness.min()) - LEAST_UNLIKE,
        np.mean(thumbs, axis=0).astype(np.uint8),
        masked,
    )


def health_of(recipe: Recipe, mask: npt.NDArray[np.uint8] | None) -> HealthLimits | None:
    """A recipe's limits, for pictures with its view's mask; None for one without. Raises RecipeError where
    they cannot be read."""
    if not recipe.health:
        return None
    try:
        return HealthLimits.from_json(recipe.health, None if mask is None else Masked(mask))
    except (ValueError, TypeError, KeyError) as error:
        hint = "Measure it anew: edge-inspect recipe ENGINE --health GOOD_PICTURES"
        raise RecipeError(
            f"the recipe's image health cannot be read: {error!r}", recipe.name, hint
        ) from error


def _sampled(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    step_y, step_x = (max(1, side // SAMPLES) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[step_y // 2 :: step_y, step_x // 2 :: step_x])


def _small(values: Any) -> npt.NDArray[Any]:
    return np.asarray(cv2.resize(values, (THUMB, THUMB), interpolation=cv2.INTER_AREA))


def _shift(thumb: Thumb, reference: Thumb, looked: Looked) -> tuple[float, float]:
    """How far the picture lies off, as a share of the side, and how like the reference it is there."""
    inner = slice(REACH, -REACH)
    middle = np.ascontiguousarray(reference[inner, inner])
    if looked is None:
        like = cv2.matchTemplate(thumb, middle, cv2.TM_CCOEFF_NORMED)
    else:
        like = _masked_likeness(thumb, looked, middle, looked[inner, inner])
    _, likeness, _, (x, y) = cv2.minMaxLoc(like)
    return max(abs(x - REACH), abs(y - REACH)) / THUMB, likeness


def _masked_likeness(picture: Thumb, seen: Any, middle: Thumb, wanted: Any) -> Any:
    """Correlation of both at each shift, (n, n), where both are looked at; -1 where less than half is.

    Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012.
    """

    def summed(image: Any, template: Any) -> Any:
        return cv2.matchTemplate(
            np.asarray(image, np.float32), np.asarray(template, np.float32), cv2.TM_CCORR
        )

    a, b = (picture - np.float32(128)) * seen, (middle - np.float32(128)) * wanted
    places = np.maximum(summed(seen, wanted), 1)
    sum_a, sum_b = summed(a, wanted), summed(seen, b)
    spread_a = summed(a * a, wanted) - sum_a**2 / places
    spread_b = summed(seen, b * b) - sum_b**2 / places
    both = (summed(a, b) - sum_a * sum_b / places) / np.sqrt(np.maximum(spread_a * spread_b, 1))
    return np.where(2 * places > wanted.sum(), np.clip(both, -1, 1), np.float32(-1))


def _each_beside_the_others(thumbs: Sequence[Thumb], looked: Looked) -> list[Comparison]:
    """Beside the mean of the others: in a mean of few it would find itself."""
    total = np.sum(thumbs, axis=0, dtype=np.int64)
    others = [((total - thumb) // (len(thumbs) - 1)).astype(np.uint8) for thumb in thumbs]
    return [compare(thumb, mean, looked) for thumb, mean in zip(thumbs, others, strict=True)]


def _margin(values: npt.NDArray[np.float64], least: float) -> float:
    return (1 + FEW / len(values)) * max(SPREADS * float(values.std()), least)


def _sharpness(tiles: npt.NDArray[np.uint8]) -> float:
    """Of squares (..., tall, wide), in the direction in which it is less: a part in motion is blurred in one.

    Squared changes, so that edges count and noise hardly does.
    """
    tall, wide = tiles.shape[-2:]
    across, along = tiles.reshape(-1, wide), tiles.reshape(-1, tall * wide)
    return min(_ratio(across, 1, wide), _ratio(along, wide, tall))


def _cut(channel: npt.NDArray[np.uint8], box: Sequence[int]) -> npt.NDArray[np.uint8]:
    x, y, width, height = box
    return channel[y : y + height, x : x + width]


def _tiles(channel: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W) -> evenly taken squares of it: (rows, columns, tall, wide), at most TILES a side."""
    sides = [min(TILE, side) for side in channel.shape]
    counts = [min(TILES, side // tile) for side, tile in zip(channel.shape, sides, strict=True)]
    steps = [
        (side - tile) // max(1, count - 1)
        for side, tile, count in zip(channel.shape, sides, counts, strict=True)
    ]
    down, right = channel.strides
    return np.ascontiguousarray(
        as_strided(channel, (*counts, *sides), (steps[0] * down, steps[1] * right, down, right))
    )


def _ratio(rows: npt.NDArray[np.uint8], step: int, pixels: int) -> float:
    """Change from one pixel to the next (`step` values on) over change to one that is FAR from it."""
    far = _change(rows, step * min(FAR, pixels - 1))
    return math.sqrt(_change(rows, step) / (far + FLAT))


def _change(rows: npt.NDArray[np.uint8], distance: int) -> float:
    """Mean squared change over `distance` columns."""
    if not 0 < distance < rows.shape[1]:  # a picture of one pixel
        return 0.0
    before, after = rows[:, :-distance], rows[:, distance:]
    return float(cv2.norm(after, before, cv2.NORM_L2SQR)) / after.size
