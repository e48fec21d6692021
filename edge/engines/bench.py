"""What a picture takes here, stage by stage, through the very classes that the station runs.

Not in it: the camera, the way between the station's threads (some tenths) and heat maps, which a thread of
their own writes after the verdict.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice

import cv2
import numpy as np

from edge.backends import Backend, open_backend
from edge.cameras import open_camera
from edge.cameras.parts import render_part
from edge.engines.trial import Candidate
from edge.errors import DataError, EndOfStream
from edge.frame import Inspection, Pixels, Shot, make_frame
from edge.picture.health import age_fault, image_fault
from edge.picture.preprocess import resize
from edge.picture.view import View, view_of
from edge.recipe import Recipe, load_pair
from edge.verdict import decide

STAGES = ("health", "align", "crop", "resize", "inference", "verdict")
AT_ONCE = 16  # pictures in memory, shown again and again: 150 MB of the largest
READ_S = 10.0  # a network camera may take seconds to give its first picture
USUAL = (1024, 1280)  # (height, width) of a picture where the recipe does not know what was learnt from
SEED = 40_000

Milliseconds = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """One engine with one library. Times in milliseconds, by stage and of the "whole" picture."""

    candidate: Candidate
    backend: str  # in words
    recipe: Recipe
    precision: str
    opening: float
    first: Milliseconds  # cold: the first picture after opening
    warm: list[Milliseconds]  # the others

    def quantile(self, stage: str, share: float) -> float:
        """Of the warm pictures; `share` 0..1."""
        return float(np.quantile([turn[stage] for turn in self.warm], share))

    @property
    def slowest(self) -> float:
        """The whole of the slowest picture, the first one too: what has to meet the deadline."""
        return max(self.first["whole"], self.quantile("whole", 1.0))

    @property
    def meets_deadline(self) -> bool:
        """Whether every picture did."""
        return self.slowest <= self.recipe.deadline_ms


def measure(candidate: Candidate, pictures: Sequence[Pixels], count: int) -> Measured:
    """Open, show one picture, then `count` more. Raises InspectError."""
    engine, recipe, artefact = load_pair(candidate.engine)
    view = view_of(recipe)
    begun = time.perf_counter()
    backend = open_backend(engine, recipe, candidate.backend)
    opening = (time.perf_counter() - begun) * 1e3
    with closing(backend):
        first, *warm = _turns(view, backend, recipe, islice(cycle(pictures), count + 1))
    return Measured(candidate, backend.name, recipe, artefact.precision, opening, first, warm)


def _turns(
    view: View, backend: Backend, recipe: Recipe, pictures: Iterator[Pixels]
) -> Iterator[Milliseconds]:
    previous = None
    for number, pixels in enumerate(pictures, 1):
        yield turn(view, backend, recipe, pixels, previous, number)
        previous = pixels


def turn(
    view: View, backend: Backend, recipe: Recipe, pixels: Pixels, previous: Pixels | None, number: int
) -> Milliseconds:
    """One picture's way, as station and worker go it; a blank or repeated one is judged all the same."""
    frame = make_frame(Shot(pixels), number, "bench", time.monotonic_ns())
    marks = [frame.captured_ns]
    age_fault(frame.captured_ns, marks[0], recipe.max_frame_age_ms)
    image_fault(frame.pixels, previous)
    marks.append(time.monotonic_ns())
    pose = view.pose(frame.pixels)
    marks.append(time.monotonic_ns())
    window = view.masked(view.window(frame.pixels, pose))
    marks.append(time.monotonic_ns())
    seen = window if backend.resizes else resize(window, view.size)
    marks.append(time.monotonic_ns())
    anomaly_map, score = backend.infer(seen)
    marks.append(time.monotonic_ns())
    decide(frame, Inspection(number, score, anomaly_map, "", 0, 0), recipe, marks[-1])
    marks.append(time.monotonic_ns())
    times = dict(zip(STAGES, (np.diff(marks) / 1e6).tolist(), strict=True))
    return {**times, "whole": (marks[-1] - marks[0]) / 1e6}


def pictures_for(recipe: Recipe, camera: str, count: int) -> list[Pixels]:
    """From the camera or folder named; else drawn parts in the size learnt from. Raises InspectError."""
    count = min(count, AT_ONCE)
    if camera:
        return _taken(camera, count)
    if recipe.view.get("reference"):
        what = "the recipe looks for a mark on the part, which drawn pictures do not have"
        raise DataError(what, recipe.name, "Give real ones, a folder or a camera: --camera parts/")
    height, width = recipe.training_set.get("picture") or USUAL
    drawn = (render_part(SEED, number) for number in range(count))
    return [np.asarray(cv2.resize(part, (width, height)), np.uint8) for part in drawn]


def _taken(camera: str, count: int) -> list[Pixels]:
    taken: list[Pixels] = []
    with closing(open_camera(camera)) as source:
        try:
            while len(taken) < count:
                taken.append(source.read(READ_S).pixels)
        except EndOfStream:
            pass
    return taken
