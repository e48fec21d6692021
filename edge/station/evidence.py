"""Heat maps on disk: why a part was stopped. Written by a thread of its own: no part waits for a disk."""

import queue
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

import cv2

from edge.atomic import write_atomically
from edge.errors import InspectError
from edge.frame import Frame, Inspection
from edge.picture.overlay import heatmap_overlay
from edge.picture.view import View, view_of
from edge.recipe import Recipe
from edge.verdict import Outcome, Reason, Verdict

WAITING = 32  # pictures that may wait for the disk; more are dropped and counted
KEPT = 1000  # files; the oldest go first, so that a disk never fills up
JOIN_S = 5.0
OURS = re.compile(
    r"\d{8}-\d{6}-\d{6,}-(pass|review|fail)-[A-Z_]+-[-\w.]+\.jpg"
)  # nothing else is ever deleted

Scale = tuple[
    View, float
]  # how an anomaly map lies in the picture, and which value of it gets the warning colour
Item = tuple[Frame, Inspection | None, Verdict, Scale]


class EvidenceWriter:
    """An observer of the station: saves an overlay for every part that did not pass (or for all).

    File names sort by time and say part and verdict: `20261124-101500-000042-fail-ANOMALY-1.832.jpg`.
    `map_limit` is the map value that gets the warning colour (good parts stay below it). Raises InspectError
    when the folder cannot be made.
    """

    def __init__(self, folder: Path, recipe: Recipe, map_limit: float, everything: bool = False) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "Give another folder with --save."
            raise InspectError(f"the folder cannot be made: {error}", str(folder), hint) from error
        self.folder, self.saved, self.dropped, self.last_error = folder, 0, 0, ""
        self._everything = everything
        self.use(recipe, map_limit)
        self._files = sorted(p for p in folder.iterdir() if OURS.fullmatch(p.name))
        self._queue: queue.Queue[Item | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._thread.start()

    def use(self, recipe: Recipe, map_limit: float) -> None:
        """The recipe of the verdicts that come from now on."""
        self._scale = view_of(recipe), map_limit

    def __call__(self, frame: Frame, answer: Inspection | Reason, verdict: Verdict) -> None:
        """Take one verdict; returns at once."""
        if not frame.pixels.size or (verdict.outcome is Outcome.PASS and not self._everything):
            return
        try:
            inspection = answer if isinstance(answer, Inspection) else None
            self._queue.put_nowait((frame, inspection, verdict, self._scale))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for JOIN_S at most; may be called twice."""
        if self._thread.is_alive():
            with suppress(queue.Full):  # the disk hangs: its thread is left behind (daemon)
                self._queue.put(None, timeout=JOIN_S)
                self._thread.join(JOIN_S)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._write(*item)
            except Exception as error:  # a full disk: inspection goes on, the summary says so
                self.dropped, self.last_error = self.dropped + 1, str(error)

    def _write(self, frame: Frame, inspection: Inspection | None, verdict: Verdict, scale: Scale) -> None:
        score = "none" if verdict.score is None else f"{verdict.score:.3f}"
        now = time.strftime(
            "%Y%m%d-%H%M%S"
        )  # numbers begin anew with every run; files of two runs must not mix
        name = f"{now}-{verdict.frame_id:06d}-{verdict.outcome.value}-{verdict.reason.name}-{score}.jpg"
        picture = frame.pixels
        if inspection is not None:
            view, map_limit = scale
            picture = heatmap_overlay(view.aligned(picture), inspection.anomaly_map, map_limit, view.roi)
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        if done:
            write_atomically(self.folder / name, data.tobytes())
            self.saved += 1
            self._files.append(self.folder / name)
        while len(self._files) > KEPT:
            self._files.pop(0).unlink(missing_ok=True)
