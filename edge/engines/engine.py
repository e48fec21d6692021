"""An engine, opened and timed: what a station needs of it, or nothing of it stays open."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.backends import Backend, open_backend
from edge.engines.isolation import IsolatedBackend, can_isolate
from edge.engines.selftest import GoldenMemory
from edge.errors import DataError
from edge.frame import Pixels
from edge.picture.view import View, view_of
from edge.recipe import Artefact, Recipe, load_pair


@dataclass(frozen=True)
class Opened:
    """Ready to judge. The limits of `recipe` hold for this engine alone: the two are never parted."""

    path: Path
    backend: Backend
    recipe: Recipe
    artefact: Artefact
    picture_ms: float  # what one picture takes here, from the camera's pixels to the score


@dataclass(frozen=True)
class Housing:
    """Where an engine lives."""

    isolated: bool = False  # in a process of its own, where the system can
    memory_mib: int = 0  # that this process may take; 0: most of the machine's
    golden: GoldenMemory | None = None  # what every engine said at its first start here

    def open(self, engine: Path, recipe: Recipe, backend: str) -> Backend:
        """As `open_backend`."""
        if self.isolated and can_isolate():
            return IsolatedBackend(engine, recipe, backend, memory_mib=self.memory_mib)
        return open_backend(engine, recipe, backend)


IN_PROCESS, ISOLATED = Housing(), Housing(isolated=True)


def open_engine(path: Path, backend: str = "auto", housing: Housing = IN_PROCESS) -> Opened:
    """Load, check, open, test, time. Raises InspectError, and then has closed what it opened."""
    engine, recipe, artefact = load_pair(path)
    opened = timed(engine, housing.open(engine, recipe, backend), recipe, artefact)
    try:
        if housing.golden is not None:
            housing.golden.check(opened.backend, recipe, artefact)
    except BaseException:
        opened.backend.close()
        raise
    return opened


def timed(engine: Path, backend: Backend, recipe: Recipe, artefact: Artefact) -> Opened:
    """Takes over an open backend. Raises BackendFault where it cannot judge, and then has closed it."""
    try:
        return Opened(engine, backend, recipe, artefact, picture_ms(backend, recipe))
    except BaseException:
        backend.close()
        raise


def picture_ms(backend: Backend, recipe: Recipe) -> float:
    """Milliseconds that one picture takes on this machine and now: align, cut, resize, infer.

    The second of two: the first one of a size plans its memory. Raises BackendFault.
    """
    view = view_of(recipe)
    look = view.shown if backend.resizes else view.see
    pixels, seen = _camera_picture(view, recipe), np.zeros((*backend.input_size, 3), np.uint8)
    begun = 0.0
    for _ in range(2):
        begun = time.perf_counter()
        with suppress(DataError):  # no part in a black picture: the search has cost what it costs
            seen = look(pixels)
        backend.infer(seen)
    return (time.perf_counter() - begun) * 1e3


def _camera_picture(view: View, recipe: Recipe) -> Pixels:
    """A black picture as large as the camera's, with the mark that alignment looks for where it belongs."""
    pixels = np.zeros((*_camera_size(view, recipe), 3), np.uint8)
    if (mark := view.reference) is not None:
        x, y, width, height = mark.box
        if mark.patch.shape == (height, width):
            pixels[y : y + height, x : x + width] = mark.patch[..., None]
    return pixels


def _camera_size(view: View, recipe: Recipe) -> tuple[int, int]:
    """(height, width) as far as the recipe tells: the pictures learnt from, or what it cuts out of one."""
    if view.reference is not None:
        return view.reference.picture
    if learnt := recipe.training_set.get("picture"):
        return int(learnt[0]), int(learnt[1])
    if view.roi is not None:
        x, y, width, height = view.roi
        return y + height, x + width
    shape = view.size if view.mask is None else view.mask.shape
    return int(shape[0]), int(shape[1])


def pace(took_ms: float, recipe: Recipe, pictures: int = 1) -> str:
    """What a picture takes and what it may take; what to do where the time is too short for it.

    `pictures` of a part wait for each other; all of them at one pace.
    """
    text = f"one picture takes about {took_ms:.1f} ms here, the deadline is {recipe.deadline_ms:g} ms"
    waits, enough = max(2, pictures) * took_ms, enough_ms(took_ms, pictures)
    short = {"--deadline-ms": waits > recipe.deadline_ms,
             "--max-frame-age-ms": pictures > 1 and waits > recipe.max_frame_age_ms}  # fmt: skip
    if not any(short.values()):
        return text
    why = f"a picture may have to wait for {pictures - 1 if pictures > 2 else 'the one'} before it"
    more = " ".join(f"{option} {enough}" for option, is_short in short.items() if is_short)
    return f"{text}: short, for {why}. Give it time: edge-inspect recipe ENGINE {more}"


def enough_ms(took_ms: float, pictures: int = 1) -> int:
    """A deadline with room to wait for the picture before, or for the others of the part; whole hundreds."""
    return math.ceil((max(2, pictures) + 1) * took_ms / 100) * 100
