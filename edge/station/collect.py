"""Pictures of good parts from any camera: the start of every product."""

import time
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from edge.atomic import write_atomically
from edge.cameras import camera_opener, safe_uri
from edge.errors import DataError, EndOfStream, InspectError
from edge.frame import Frame
from edge.picture.health import image_fault
from edge.station.capture import Capture, Policy
from edge.station.signals import stop_on_signals

TRIES = 3  # to open a camera that has never given a picture


def collect_pictures(camera: str, out: Path, count: int, every_s: float, console: Console) -> int:
    """Save up to `count` pictures as `part-000001.png`; goes on numbering where the folder has pictures.

    A live camera gives one picture in `every_s` seconds: thirty of the same part in one second would end up
    on both sides of the held-out split, and make the limits far too tight. Files are taken as they come,
    blank and frozen pictures are passed over. Returns how many were saved. Raises InspectError when the
    camera cannot be used or the folder not be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder cannot be made: {error}", str(out), "Give another one.") from error
    opener = camera_opener(camera)
    collector = _Collector(out, every_s)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
    with (
        Capture(opener, safe_uri(camera), Policy.LATEST) as capture,
        stop_on_signals(collector.stop),
        Progress(*columns, console=console) as bars,
    ):
        task = bars.add_task(f"collecting from {capture.source}", total=count, state="")
        while not collector.stopping and collector.saved < count:
            try:
                item = capture.next(1.0)
            except EndOfStream:
                break
            _check_camera(capture)
            if isinstance(item, Frame):
                collector.take(item, capture.live)
            bars.update(task, completed=collector.saved, state=str(capture.error or ""))
    return collector.saved


def _check_camera(capture: Capture) -> None:
    """A camera that was never there is a wrong name, not a fault that passes. Raises its own error."""
    never = not capture.counters.frames and capture.counters.failed_opens >= TRIES
    if never and isinstance(capture.error, InspectError):
        raise capture.error


class _Collector:
    def __init__(self, out: Path, every_s: float) -> None:
        self.saved, self.stopping = 0, False
        self._out, self._every_ns = out, int(every_s * 1e9)
        numbers = [int(p.stem[5:]) for p in out.glob("part-*.png") if p.stem[5:].isdecimal()]
        self._number = max(numbers, default=0)
        self._previous: Frame | None = None
        self._due_ns = time.monotonic_ns()

    def stop(self) -> None:
        self.stopping = True

    def take(self, frame: Frame, live: bool) -> None:
        previous = self._previous.pixels if self._previous is not None and live else None
        fault = image_fault(frame.pixels, previous)
        self._previous = frame
        if fault is not None or (live and time.monotonic_ns() < self._due_ns):
            return
        self._number += 1
        _write_png(self._out / f"part-{self._number:06d}.png", frame)
        self.saved += 1
        self._due_ns = time.monotonic_ns() + self._every_ns


def _write_png(path: Path, frame: Frame) -> None:
    done, data = cv2.imencode(".png", frame.pixels)
    try:
        if done:
            write_atomically(path, data.tobytes())
    except OSError as error:
        raise DataError(
            f"the picture cannot be written: {error}", str(path), "Make room on the disk."
        ) from error
