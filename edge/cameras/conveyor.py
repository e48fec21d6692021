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
             unplug   the read raises CameraLost, and so do the next LENGTH tries to open (default 2);
                      the picture of that moment is lost

`camera_opener` gives cameras over one belt: after an unplug the line goes on behind the lost picture. With
`open_camera` each camera has a belt of its own. `Shot.label` says "good" or the defect; it is for people
and for tests, no verdict may depend on it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import parse_qsl

import cv2
import numpy as np

from edge.cameras.parts import DEFECTS, render_part
from edge.errors import CameraLost, CameraTimeout, DataError, EndOfStream
from edge.frame import Pixels, Shot

LENGTHS = {"freeze": 10, "black": 10, "blur": 10, "unplug": 2}
GOOD = "good"
_HINT = "Write for example conveyor:?seed=1&fps=10&defects=0.1 (docs/cameras.md has them all)."


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
        for name in ("seed", "count", "start"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is below zero")
        if not 0 <= self.fps <= 1000:
            raise ValueError(f"fps={self.fps:g} is not between 0 and 1000")
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
        return Script(**{name: _read(name, text) for name, text in given.items()})
    except KeyError as error:
        raise DataError(f"{error} is not known, only {', '.join(_READ)}", uri, _HINT) from error
    except ValueError as error:
        raise DataError(f"the simulated line cannot be read: {error}", uri, _HINT) from error


@dataclass(slots=True)
class Line:
    """The belt, which goes on while cameras over it are unplugged and opened again."""

    script: Script
    picture: int = 0  # the next one
    refusals: int = 0  # how many tries to open will fail

    @property
    def ended(self) -> bool:
        """True when `count` pictures have been."""
        return bool(self.script.count) and self.picture >= self.script.count


class Conveyor:
    """The camera over the simulated belt. `line` is for opening again; without it a new belt starts."""

    def __init__(self, uri: str, line: Line | None = None) -> None:
        self.uri = uri
        self._line = line or Line(parse_script(uri))
        self._open = True
        self._last: Shot | None = None
        self._due = time.monotonic()
        if self._line.refusals:
            self._line.refusals -= 1
            raise self._lost()

    @property
    def live(self) -> bool:
        """With a pace, parts go by whether we look or not."""
        return self._line.script.fps > 0

    def read(self, timeout_s: float) -> Shot:
        """The next picture; CameraTimeout when it is not due in time, CameraLost from an unplug on."""
        if not self._open:
            raise self._lost()
        if self._line.ended:
            raise EndOfStream
        self._wait(timeout_s)
        picture, self._line.picture = self._line.picture, self._line.picture + 1
        self._line.refusals = self._line.script.unplug(picture)
        if self._line.refusals:
            self._open = False
            raise self._lost()
        begun_ns = time.monotonic_ns() if self.live else None  # no part triggers it
        self._last = replace(self._shot(picture), begun_ns=begun_ns)
        return self._last

    def close(self) -> None:
        """Nothing is held."""
        self._open = False

    def _lost(self) -> CameraLost:
        return CameraLost("the simulated camera is unplugged", self.uri, "Open it again.")

    def _wait(self, timeout_s: float) -> None:
        if not self._line.script.fps:
            return
        wait_s = self._due - time.monotonic()
        if wait_s > timeout_s:
            time.sleep(timeout_s)
            raise CameraTimeout(f"no part within {timeout_s:g} s", self.uri, "Ask for more fps.")
        time.sleep(max(0.0, wait_s))
        self._due = max(self._due, time.monotonic() - 1) + 1 / self._line.script.fps

    def _shot(self, picture: int) -> Shot:
        script = self._line.script
        fault = script.fault(picture)
        if fault == "freeze" and self._last is not None:
            return Shot(self._last.pixels.copy(), label=self._last.label)
        index = script.start + picture
        defect = script.defect(index)
        pixels = render_part(script.seed, index, defect)
        if fault == "black":
            pixels = np.asarray(pixels >> 5, np.uint8)
        elif fault == "blur":
            pixels = _defocus(pixels)
        return Shot(pixels, label=defect or GOOD)


def _defocus(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 9), np.uint8)


def _read(name: str, text: str) -> Any:
    read, wanted = _READ[name]
    try:
        return read(text)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name}={text} is not {wanted}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _faults(text: str) -> tuple[Fault, ...]:
    return tuple(Fault.parse(item) for item in text.split(","))


_READ: dict[str, tuple[Callable[[str], Any], str]] = {
    "seed": (int, "a whole number"),
    "count": (int, "a whole number"),
    "start": (int, "a whole number"),
    "fps": (float, "a number"),
    "defects": (float, "a number"),
    "kinds": (_names, f"of {','.join(DEFECTS)}"),
    "faults": (_faults, f"KIND@PICTURE[:LENGTH], kinds {', '.join(LENGTHS)}"),
}
