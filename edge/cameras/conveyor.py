"""A simulated line: parts on a belt, with defects and camera faults on request. No hardware, no files.

    conveyor:?seed=0&count=500&fps=10&defects=0.1&kinds=scratch,missing&faults=freeze@30,unplug@60:3

    seed     which parts (default 0); the same seed gives the same pictures
    count    how many pictures, then EndOfStream (default 0: without end)
    start    number of the first part (default 0)
    fps      pictures a second (default 10): the camera is live, parts come whether we look or not;
             0 gives them as fast as asked, and the camera is not live
    defects  share of defective parts, 0 to 1 (default 0)
    kinds    which defects, of scratch, missing, surplus, misplaced (default all)
    faults   KIND@PICTURE or KIND@PICTURE:LENGTH, with commas between them; pictures count from 0
             freeze   LENGTH times (default 10) the same picture again, byte for byte
             black    LENGTH pictures (default 10) with the lamp off
             blur     LENGTH pictures (default 10) badly out of focus
             unplug   the read raises CameraLost, and so do the next LENGTH tries to open (default 2)

The line goes on where it stood when an unplugged camera is opened again under the same URI in the same
process. `Shot.label` says "good" or the defect; it is for people and for tests, no verdict may depend on it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl

import cv2
import numpy as np

from edge.cameras.parts import DEFECTS, render_part
from edge.errors import CameraLost, CameraTimeout, DataError, EndOfStream
from edge.frame import Pixels, Shot

LENGTHS = {"freeze": 10, "black": 10, "blur": 10, "unplug": 2}
GOOD = "good"
_HINT = "See the head of edge/cameras/conveyor.py or docs/cameras.md for the exact form."


@dataclass(frozen=True, slots=True)
class Fault:
    """A camera fault from picture `first` on, for `length` pictures (unplug: tries to open)."""

    kind: str
    first: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `KIND@PICTURE[:LENGTH]`; raises ValueError."""
        kind, _, where = text.partition("@")
        first, _, length = where.partition(":")
        fault = cls(kind, int(first), int(length) if length else LENGTHS[kind])
        if kind not in LENGTHS or fault.first < 0 or fault.length < 1:
            raise ValueError(text)
        return fault


@dataclass(frozen=True, slots=True)
class Script:
    """What the line shall do, as written in the URI."""

    seed: int = 0
    count: int = 0
    start: int = 0
    fps: float = 10.0
    defects: float = 0.0
    kinds: tuple[str, ...] = DEFECTS
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if min(self.seed, self.count, self.start) < 0 or not 0 <= self.fps <= 1000:
            raise ValueError("seed, count, start and fps must not be negative, fps at most 1000")
        if not 0 <= self.defects <= 1:
            raise ValueError(f"defects={self.defects} is not between 0 and 1")
        if not self.kinds or not set(self.kinds) <= set(DEFECTS):
            raise ValueError(f"kinds={','.join(self.kinds)} is not of {','.join(DEFECTS)}")

    def defect(self, index: int) -> str | None:
        """Which defect part `index` has, or None; the same whoever asks and when."""
        chance = np.random.default_rng((self.seed, index, 2))
        bad, kind = chance.random() < self.defects, self.kinds[chance.integers(len(self.kinds))]
        return kind if bad else None

    def fault(self, picture: int) -> str | None:
        """Which of freeze, black and blur holds at this picture, or None."""
        spans = (f for f in self.faults if f.kind != "unplug")
        return next((f.kind for f in spans if f.first <= picture < f.first + f.length), None)

    def unplug(self, picture: int) -> int:
        """How many tries to open fail when the cable is pulled at this picture; 0: it is not pulled."""
        return next((f.length for f in self.faults if f.kind == "unplug" and f.first == picture), 0)


def parse_script(uri: str) -> Script:
    """Read a conveyor URI. Raises DataError naming what is wrong; an unknown word is an error."""
    given = dict(parse_qsl(uri.partition("?")[2], keep_blank_values=True))
    try:
        return Script(**{name: _READ[name](value) for name, value in given.items()})
    except KeyError as error:
        raise DataError(f"{error} is not known, only {', '.join(_READ)}", uri, _HINT) from error
    except ValueError as error:
        raise DataError(f"the simulated line cannot be read: {error}", uri, _HINT) from error


@dataclass(frozen=True, slots=True)
class _Pulled:
    """A camera without its cable: how far the line had come, and how many tries to open still fail."""

    picture: int
    refusals: int


_pulled: dict[str, _Pulled] = {}  # by URI, only between an unplug and the return


class Conveyor:
    """The camera over the simulated belt."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.script = parse_script(uri)
        self._lost = self._closed = False
        self._last: Shot | None = None
        self._picture = self._resume()
        self._due = time.monotonic()

    @property
    def live(self) -> bool:
        """With a pace, parts go by whether we look or not."""
        return self.script.fps > 0

    def read(self, timeout_s: float) -> Shot:
        """The next picture; CameraTimeout when it is not due in time, CameraLost while unplugged."""
        if self._closed or self._lost:
            raise CameraLost("the simulated camera is unplugged or closed", self.uri, "Open it again.")
        if self.script.count and self._picture >= self.script.count:
            raise EndOfStream
        self._wait(timeout_s)
        self._pull_cable()
        self._last = self._shot(self._picture)
        self._picture += 1
        return self._last

    def close(self) -> None:
        """Nothing is held."""
        self._closed = True

    def _resume(self) -> int:
        pulled = _pulled.pop(self.uri, None)
        if pulled and pulled.refusals:
            _pulled[self.uri] = _Pulled(pulled.picture, pulled.refusals - 1)
            raise CameraLost("the simulated camera is unplugged", self.uri, "Wait, or open it again.")
        return pulled.picture if pulled else 0

    def _wait(self, timeout_s: float) -> None:
        if not self.script.fps:
            return
        wait_s = self._due - time.monotonic()
        if wait_s > timeout_s:
            time.sleep(timeout_s)
            raise CameraTimeout(f"no part within {timeout_s:g} s", self.uri, "Ask for more fps.")
        time.sleep(max(0.0, wait_s))
        self._due = max(self._due, time.monotonic() - 1) + 1 / self.script.fps

    def _pull_cable(self) -> None:
        refusals = self.script.unplug(self._picture)
        if refusals:
            self._lost = True
            _pulled[self.uri] = _Pulled(self._picture + 1, refusals)
            raise CameraLost("the simulated camera was unplugged", self.uri, "Open it again.")

    def _shot(self, picture: int) -> Shot:
        fault = self.script.fault(picture)
        if fault == "freeze" and self._last is not None:
            return Shot(self._last.pixels.copy(), label=self._last.label)
        index = self.script.start + picture
        defect = self.script.defect(index)
        pixels = render_part(self.script.seed, index, defect)
        if fault == "black":
            pixels = np.asarray(pixels >> 5, np.uint8)
        elif fault == "blur":
            pixels = _defocus(pixels)
        return Shot(pixels, label=defect or GOOD)


def _defocus(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 9), np.uint8)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _faults(text: str) -> tuple[Fault, ...]:
    try:
        return tuple(Fault.parse(item) for item in text.split(","))
    except (ValueError, KeyError) as error:
        raise ValueError(f"faults={text} is not KIND@PICTURE[:LENGTH], kinds {', '.join(LENGTHS)}") from error


_READ: dict[str, Callable[[str], Any]] = {
    "seed": int,
    "count": int,
    "start": int,
    "fps": float,
    "defects": float,
    "kinds": _names,
    "faults": _faults,
}
