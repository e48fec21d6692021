"""Is this picture one that the model may judge? Measured against the good pictures it was taught with.

A lamp that fails, a lens out of focus or a camera that was knocked makes every part look bad, or, worse, some
bad parts look good. Such a picture is "no decision" with its own reason, and no fail of the part.

    brightness   mean grey level                                    FRAME_EXPOSURE
    saturated    share of pixels that are burnt out                 FRAME_EXPOSURE
    sharpness    change from pixel to pixel / change over 8 pixels  FRAME_BLURRED
    shift        of the picture against the mean good one           FRAME_SHIFTED

Only a part of the pixels is looked at: 0.3 ms a picture. Limits come from the spread of the good pictures, so
what varies among them (parts that lie anywhere, tiles of any grey) is not limited, or hardly.
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
from edge.images import pack_grey, unpack_grey
from edge.preprocess import Roi, crop
from edge.recipe import Recipe
from edge.verdict import Reason

SAMPLES = 128  # pixels looked at along each side, for brightness and place
THUMB = 64  # pixels a side of the small picture whose shift is told
REACH = 10  # thumb pixels: a shift of 16 % of the side is the most that can be told
TILE, TILES, FAR = 24, 12, 8  # sharpness: at most 12 x 12 tiles of 24 pixels; the far distance within them
BURNT = 250  # grey level
FLAT = 1.0  # grey levels squared: a picture without any change has no sharpness

SPREADS = 2.0  # standard deviations beyond the farthest good picture, of many
FEW = 8  # of so few pictures twice as many: the farthest of them is not far
LEAST_MARGIN = 0.15  # of brightness and sharpness: lamps and temperatures drift, and good parts must pass
HEADROOM = 0.3  # of what is left to white: on a white ground 15 % more light is past the end
LEAST_BURNT, LEAST_SHIFT = 0.05, 0.03  # more of all pixels, more of the side

Thumb = npt.NDArray[np.uint8]  # (THUMB, THUMB)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one picture looks like."""

    brightness: float  # 0..255
    saturated: float  # 0..1
    sharpness: float  # 0.12 (a ramp) .. 1 (noise)
    thumb: Thumb


def look_at(pixels: Pixels) -> Look:
    """Measure uint8 (H, W, 3). The channels' plain mean is the grey, as lamps come in all colours."""
    step_y, step_x = (max(1, side // SAMPLES) for side in pixels.shape[:2])
    sample = np.ascontiguousarray(pixels[step_y // 2 :: step_y, step_x // 2 :: step_x])
    grey = cv2.cvtColor(sample, cv2.COLOR_BGR2GRAY)
    burnt = cv2.countNonZero(cv2.inRange(grey, (BURNT,), (255,)))
    thumb = np.asarray(cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.uint8)
    return Look(sum(cv2.mean(sample)[:3]) / 3, burnt / grey.size, _sharpness(pixels), thumb)


@dataclass(frozen=True, slots=True, eq=False)
class HealthLimits:
    """What good pictures look like, with margins. `shift` None: good parts lie anywhere."""

    brightness: tuple[float, float]
    saturated: float
    sharpness: float
    shift: float | None
    reference: Thumb  # mean of the good pictures
    roi: Roi | None = None  # all is measured there

    def fault(self, pixels: Pixels) -> tuple[Reason, str] | None:
        """The first thing that is wrong with a picture, in words too; None for a healthy one."""
        look = look_at(pixels if self.roi is None else crop(pixels, self.roi))
        low, high = self.brightness
        if not low <= look.brightness <= high:
            what = f"brightness {look.brightness:.0f}, good pictures have {low:.0f} to {high:.0f}"
            return Reason.FRAME_EXPOSURE, f"{what}: look at lamp, exposure and lens cap"
        if look.saturated > self.saturated:
            what = f"{look.saturated:.0%} of the picture is burnt out, of good ones {self.saturated:.0%}"
            return Reason.FRAME_EXPOSURE, f"{what} at most: look at lamp and exposure"
        if look.sharpness < self.sharpness:
            what = f"sharpness {look.sharpness:.2f}, good pictures have {self.sharpness:.2f} or more"
            return Reason.FRAME_BLURRED, f"{what}: look at focus, lens and the part's motion"
        if self.shift is not None and (shift := shift_of(look.thumb, self.reference)) > self.shift:
            what = f"the picture lies {shift:.0%} of its side off, good ones {self.shift:.0%} at most"
            return Reason.FRAME_SHIFTED, f"{what}: look at the camera's mount, the guide and the trigger"
        return None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the recipe."""
        return {
            "brightness": [round(value, 1) for value in self.brightness],
            "saturated": round(self.saturated, 4), "sharpness": round(self.sharpness, 4),
            "shift": None if self.shift is None else round(self.shift, 4),
            "reference": pack_grey(self.reference),
        }  # fmt: skip

    @classmethod
    def from_json(cls, entries: Mapping[str, Any], roi: Roi | None) -> Self:
        """The reverse. Raises ValueError, TypeError or KeyError for what it did not write."""
        low, high = (float(value) for value in entries["brightness"])
        reference, shift = unpack_grey(entries["reference"]), entries["shift"]
        numbers = (low, high, float(entries["saturated"]), float(entries["sharpness"]))
        if reference.shape != (THUMB, THUMB) or not all(math.isfinite(number) for number in numbers):
            raise ValueError("the reference or a limit is no such")
        return cls((low, high), *numbers[2:], None if shift is None else float(shift), reference, roi)


def limits_of(looks: Sequence[Look], roi: Roi | None = None) -> HealthLimits:
    """From good pictures, two at least; the more, the closer the limits fit."""
    reference = np.mean([look.thumb for look in looks], axis=0).astype(np.uint8)
    bright = np.log([max(look.brightness, 1.0) for look in looks])
    sharp = np.log([max(look.sharpness, 0.01) for look in looks])
    burnt = np.array([look.saturated for look in looks])
    shifts = _shifts([look.thumb for look in looks])
    shift = float(shifts.max() + _margin(shifts, LEAST_SHIFT))
    least = -math.log(1 - LEAST_MARGIN)
    low, high = (
        math.exp(bright.min() - _margin(bright, least)),
        math.exp(bright.max() + _margin(bright, least)),
    )
    return HealthLimits(
        (low, min(high, _ceiling(math.exp(bright.max())))),
        float(burnt.max() + _margin(burnt, LEAST_BURNT)),
        math.exp(sharp.min() - _margin(sharp, least)),
        shift if shift < REACH / THUMB else None,
        reference,
        roi,
    )


def health_of(recipe: Recipe) -> HealthLimits | None:
    """A recipe's limits; None for one without. Raises RecipeError where they cannot be read."""
    if not recipe.health:
        return None
    try:
        return HealthLimits.from_json(recipe.health, recipe.roi)
    except (ValueError, TypeError, KeyError) as error:
        hint = "Measure it anew: edge-inspect recipe ENGINE --health GOOD_PICTURES"
        raise RecipeError(
            f"the recipe's image health cannot be read: {error!r}", recipe.name, hint
        ) from error


def shift_of(thumb: Thumb, reference: Thumb) -> float:
    """How far, in x or y, a picture lies off the reference: share of its side, REACH / THUMB at most."""
    middle = reference[REACH:-REACH, REACH:-REACH]
    likeness = cv2.matchTemplate(thumb, np.ascontiguousarray(middle), cv2.TM_CCOEFF_NORMED)
    x, y = cv2.minMaxLoc(likeness)[3]
    return max(abs(x - REACH), abs(y - REACH)) / THUMB


def _shifts(thumbs: Sequence[Thumb]) -> npt.NDArray[np.float64]:
    """Of each against the mean of the others: in a mean of few it would find itself."""
    total = np.sum(thumbs, axis=0, dtype=np.int64)
    others = [((total - thumb) // (len(thumbs) - 1)).astype(np.uint8) for thumb in thumbs]
    return np.array([shift_of(thumb, mean) for thumb, mean in zip(thumbs, others, strict=True)])


def _margin(values: npt.NDArray[np.float64], least: float) -> float:
    return max(SPREADS * (1 + FEW / len(values)) * float(values.std()), least)


def _ceiling(brightest: float) -> float:
    return brightest + HEADROOM * (255 - brightest)


def _sharpness(pixels: Pixels) -> float:
    """Of the green channel, in the direction in which it is less: a part in motion is blurred in one.

    Squares, so that edges count and noise hardly does.
    """
    sides = [min(TILE, side) for side in pixels.shape[:2]]
    counts = [min(TILES, side // tile) for side, tile in zip(pixels.shape[:2], sides, strict=True)]
    steps = [
        (side - tile) // max(1, count - 1)
        for side, tile, count in zip(pixels.shape[:2], sides, counts, strict=True)
    ]
    green = pixels[:, :, 1]
    down, right = green.strides
    tiles = np.ascontiguousarray(
        as_strided(green, (*counts, *sides), (steps[0] * down, steps[1] * right, down, right))
    )
    across, along = tiles.reshape(-1, sides[1]), tiles.reshape(-1, sides[0] * sides[1])
    return min(_ratio(across, 1, sides[1]), _ratio(along, sides[1], sides[0]))


def _ratio(rows: npt.NDArray[np.uint8], step: int, pixels: int) -> float:
    """Change from one pixel to the next (`step` values on) over change to one that is FAR from it."""
    far = _change(rows, step * min(FAR, pixels - 1))
    return math.sqrt(_change(rows, step) / (far + FLAT))


def _change(rows: npt.NDArray[np.uint8], distance: int) -> float:
    """Mean squared change over `distance` columns."""
    before, after = rows[:, :-distance], rows[:, distance:]
    return float(cv2.norm(after, before, cv2.NORM_L2SQR)) / after.size if after.size else 0.0
