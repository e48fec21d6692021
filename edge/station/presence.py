"""Is there a part in the picture, compared with the empty belt, and which picture of it to judge? Pure.

    changed   0   0  .1  .3  .4  .4  .3  .1   0
                     |<------- part ------>|
                          ^ judged: the picture that shows most of it

The share of the picture that differs from the empty belt grows while a part comes in and falls while it goes.
A part is judged once, when it has stopped growing. Where it shrinks and grows again, another one has come in.
"""

from collections.abc import Sequence
from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Pixels

WIDTH = 160  # pixels: a part is seen in far less than a picture, and noise averages out
DIFFERS = 18.0  # grey levels; sensor noise of a small picture stays below 5
FOLLOW = 0.02  # share of each new picture of the empty belt: light and belt change slowly
GROWS = 0.005  # share of the picture; less is noise
LEAVES = 0.5  # of the share from which on there is a part: below it the part has gone, no flicker between

Small = npt.NDArray[np.float32]  # (h, w) grey levels


class Reference:
    """What the empty belt looks like."""

    def __init__(self, pictures: Sequence[Pixels]) -> None:
        self._shape = pictures[0].shape
        self._belt: Small = np.median([_small(pixels) for pixels in pictures], axis=0).astype(np.float32)

    def changed(self, pixels: Pixels) -> float | None:
        """Share of the picture that is not the empty belt, 0..1; None: a picture of another size.

        A small change of the whole light is no part: the differences are taken around their median.
        """
        if pixels.shape != self._shape:
            return None
        difference = _small(pixels) - self._belt
        difference -= float(np.clip(np.median(difference), -DIFFERS / 2, DIFFERS / 2))
        return float(np.mean(np.abs(difference) > DIFFERS))

    def follow(self, pixels: Pixels) -> None:
        """The belt is empty, and looks like this now."""
        self._belt += FOLLOW * (_small(pixels) - self._belt)


class Look(Enum):
    """Which picture is to be judged now."""

    NONE = 0
    THIS = 1
    BEFORE = 2  # the one looked at before this one


class PartWatch:
    """From the changed share of picture after picture: when is a part to be judged?"""

    def __init__(self, from_share: float = 0.03) -> None:
        self.empty = True
        self._from = from_share
        self._largest = self._lowest = 0.0  # since the part came; since it was judged
        self._judged = False

    def look(self, changed: float) -> Look:
        """Not NONE once a part."""
        if changed < (self._from if self.empty else self._from * LEAVES):
            return self._leave()
        if self._judged and changed > self._lowest + self._from:  # before the one before it has gone
            self._judged, self._largest = False, self._lowest
        if self._judged:
            self._lowest = min(self._lowest, changed)
            return Look.NONE
        return self._stay(changed)

    def _stay(self, changed: float) -> Look:
        grown = changed - self._largest
        self.empty, self._largest = False, max(self._largest, changed)
        if grown > GROWS:
            return Look.NONE
        self._judged, self._lowest = True, changed
        return Look.THIS if grown >= -GROWS else Look.BEFORE

    def _leave(self) -> Look:
        unjudged = not self.empty and not self._judged
        self.empty, self._largest, self._judged = True, 0.0, False
        return Look.BEFORE if unjudged else Look.NONE


def _small(pixels: Pixels) -> Small:
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    height = max(1, round(grey.shape[0] * WIDTH / grey.shape[1]))
    return cv2.resize(grey, (WIDTH, height), interpolation=cv2.INTER_AREA).astype(np.float32)
