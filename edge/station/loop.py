"""The loop: request -> shot -> frame -> inspection -> verdict -> outboxes. It waits for shot and
inspection, and a moment for the archive's disk."""

import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from edge.cameras import Camera
from edge.errors import EndOfStream
from edge.frame import Frame, Inspection, Pixels, Shot, make_frame, no_frame
from edge.picture.health import age_fault, image_fault
from edge.recipe import Recipe
from edge.station.archive import Archive
from edge.station.capture import Capture
from edge.station.counters import StationCounters
from edge.station.finder import EveryPicture, Finder
from edge.station.multishot import combine
from edge.station.worker import InferenceWorker
from edge.trigger import FreeRun, Request, Trigger
from edge.verdict import Reason, Verdict, decide

BLIND_VERDICT_EVERY_S = 1.0  # so often a blind station says that it is blind
STALLED_AFTER_NS = 3_000_000_000  # a loop that has not turned for so long is stalled: no more heartbeat
TRIGGER_LOOK_S = 0.1  # what is to be done between two parts waits no longer, even if no part comes
NO_PICTURE = (Reason.CAMERA_LOST, Reason.CAMERA_TIMEOUT)
# It was there, and the gate must know when.
NOT_READ = (Reason.STATION_OVERLOADED, Reason.FRAME_INCOMPLETE, Reason.FRAME_STALE)
FIRST_RECIPE = 1  # the number of the recipe that a station begins with

Observer = Callable[[Frame, Inspection | Reason, Verdict], None]


class Taker(Protocol):
    """Who gets every part's verdict: an outbox, the gate, whoever asked for it."""

    def put(self, verdict: Verdict) -> None:
        """Take it; returns at once."""


@dataclass(frozen=True, slots=True)
class Successor:
    """An engine that is ready, and what comes with it."""

    worker: InferenceWorker
    recipe: Recipe
    number: int
    taken: Callable[[], None] | None = (
        None  # None: the engine of this recipe made anew, not a change of recipe
    )
    source: Callable[[], Camera] | None = None  # the camera with this recipe's settings; None: as it is


class Station:
    """One camera, one model, any number of outputs.

    `observers` see every verdict after it was sent (live table, heat maps); one that raises is counted and
    never costs a part. `recipe` says what the thresholds, the deadline and the fail-safe outcome are.
    With a `trigger` each request gets `shots` pictures, taken after it, and one verdict; without, it is free
    run, and the `finder` says which pictures are parts. `listeners` hear of another recipe.
    """

    def __init__(
        self, capture: Capture, worker: InferenceWorker, recipe: Recipe, observers: Sequence[Observer] = ()
    ) -> None:
        self.capture, self.worker, self.recipe = capture, worker, recipe
        self.counters = StationCounters()
        self.trigger: Trigger = FreeRun()
        self.finder: Finder = EveryPicture()
        self.shots = 1
        self.views: list[Station] = []  # further cameras on the same part; they are not run, only asked
        self.recipe_number = FIRST_RECIPE
        self.lot: int | None = None
        self.outboxes: list[Taker] = []  # set by the composition root, archives first
        self.listeners: list[Callable[[int, Recipe], None]] = []
        self._observers = observers
        self._successors: queue.SimpleQueue[Successor] = queue.SimpleQueue()
        self._errands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._turned_ns = time.monotonic_ns()
        self._started = self._stopping = False

    def run(self, count: int = 0) -> None:
        """Judge until the source ends, `stop` is called or `count` verdicts are made (0: no limit).

        Raises DataError when the source cannot be used at all.
        """
        self._started = True
        while not self._stopping and not (count and self.counters.total >= count):
            self._between_parts()
            request = self.trigger.wait(TRIGGER_LOOK_S)
            self._turned_ns = time.monotonic_ns()
            if request is None:
                continue
            self.expect(request)
            try:
                item = self._picture(request, self._since(request))
            except EndOfStream:
                return
            if item is Reason.CAMERA_TIMEOUT and request.number is None and not self.capture.live:
                self._turned_ns = time.monotonic_ns()  # a slow folder: no part, no fault
            elif not self._stopping:
                self._look(item, request)

    def expect(self, request: Request) -> None:
        """A part was triggered: every camera keeps its pictures from now on, whosever turn it is.

        The trigger tells it in its own thread, at once: the loop may be busy for some pictures more.
        """
        for each in (self, *self.views):
            each.capture.expect(request)

    def stop(self) -> None:
        """End after the verdict that is being made; safe to call from a signal handler."""
        self._stopping = True

    def replace_engine(self, worker: InferenceWorker, recipe: Recipe) -> None:
        """The engine that the station began with, made anew, from the next part on; from any thread.

        It comes with the recipe that holds for it. The station owns it from now on and frees the one before
        it, or this one where it judges by another recipe meanwhile.
        """
        self._successors.put(Successor(worker, recipe, FIRST_RECIPE))

    def change_recipe(self, successor: Successor) -> None:
        """The same for another recipe; `taken` is called, in the loop's thread, when it judges."""
        self._successors.put(successor)

    def between_parts(self, errand: Callable[[], None]) -> None:
        """Have something done in the loop's thread while no part is judged; from any thread."""
        self._errands.put(errand)

    def try_out(self, view: "Station", pixels: Pixels, number: int) -> Verdict:
        """Have a picture that is no part judged by this station or one of its views: neither counted nor
        published. Only in an errand."""
        self._turned_ns = time.monotonic_ns()
        frame = make_frame(Shot(pixels), -number, "challenge", self._turned_ns)
        return view._decide(frame, view._inspect_safely(frame))

    def close(self) -> None:
        """Free the engine, and one that has not come to its first part; may be called twice."""
        self._take_over()
        self.worker.close()

    def turns(self, now_ns: int) -> bool:
        """False when the loop stands still or the camera's driver hangs: what only a new process mends."""
        captures = [self.capture, *(view.capture for view in self.views)]
        hangs = any(each.hangs(now_ns) for each in captures)
        return now_ns - self._turned_ns < STALLED_AFTER_NS and not hangs

    def is_healthy(self, now_ns: int) -> bool:
        """False when loop, camera or engine stand still: the outputs then take their heartbeat back.

        A PLC that asks for pictures must not be told READY while there is no camera or no engine, nor before
        whatever has to hear of its parts is there; in free run a lost camera is told by a verdict every
        second, a lost engine by each part's.
        """
        eyes = (self, *self.views)
        able = self._started and all(each.capture.connected and each.worker.ready for each in eyes)
        return (isinstance(self.trigger, FreeRun) or able) and self.turns(now_ns)

    def _look(self, item: Frame | Reason, request: Request) -> None:
        """A picture, or the reason why there is none: is it a part?"""
        if request.number is None:
            self._between_parts()  # what came while we waited for the picture; a trigger keeps its engine
            found = self.finder.find(item)
            if found is None:
                self._turned_ns = time.monotonic_ns()
                return
            item, request = found
        self._turn(item, request)

    def archive(self, verdict: Verdict) -> None:
        """A verdict that was not made here: the handshake's own, for a part that got none in time."""
        for outbox in self.outboxes:
            if isinstance(outbox, Archive):
                outbox.put(replace(verdict, lot=self.lot))

    def _turn(self, item: Frame | Reason, request: Request) -> None:
        judged = self._judge_views(item, request, self._since(request))
        for _ in range(self.shots - 1):
            if any(verdict.reason in NO_PICTURE for *_, verdict in judged):
                break
            since_ns = self._last(judged)
            judged += self._judge_views(self._next_shot(request, since_ns), request, since_ns)
        for each in (self, *self.views):
            each.capture.forget(request)
        combined = combine([verdict for *_, verdict in judged])
        verdict = replace(combined, recipe_number=self.recipe_number, lot=self.lot)
        for outbox in self.outboxes:
            outbox.put(verdict)
        self.counters.add(judged[-1][1], verdict)
        for station, frame, answer, its_own in judged:
            station._show(frame, answer, its_own)

    def _judge_views(self, item: Frame | Reason, request: Request, since_ns: int) -> "list[Judged]":
        """One picture of each camera: all are taken before the first one is judged."""
        items = [item, *(view._next_shot(request, since_ns) for view in self.views)]
        return [each._judge(item, request) for each, item in zip((self, *self.views), items, strict=True)]

    def _next_shot(self, request: Request, since_ns: int) -> Frame | Reason:
        try:
            return self._picture(request, since_ns)
        except EndOfStream:
            return Reason.CAMERA_TIMEOUT

    def _since(self, request: Request) -> int:
        """From when on the part's picture is waited for; a file waits for us."""
        asked = request.number is not None and self.capture.live
        return request.at_ns if asked else time.monotonic_ns()

    def _last(self, judged: "list[Judged]") -> int:
        """From when on the part's next picture is waited for, however long the last one was judged."""
        return max(frame.captured_ns for _, frame, *_ in judged) if self.capture.live else time.monotonic_ns()

    def _picture(self, request: Request, since_ns: int) -> Frame | Reason:
        """The next one, or why there is none. One that came too late, as we may have, shows another part."""
        until_ns = since_ns + int(BLIND_VERDICT_EVERY_S * 1e9)
        item = self.capture.next(max(0.0, (until_ns - time.monotonic_ns()) / 1e9), request)
        asked = request.number is not None and self.capture.live
        late = asked and isinstance(item, Frame) and item.captured_ns > until_ns
        return Reason.CAMERA_TIMEOUT if late else item

    def _judge(self, item: Frame | Reason, request: Request) -> "Judged":
        self._turned_ns = time.monotonic_ns()
        answer: Inspection | Reason
        if isinstance(item, Reason):
            at_ns = self.capture.missed_ns if item in NOT_READ else self._turned_ns
            frame, answer = no_frame(self.capture.new_id(), self.capture.source, at_ns, request), item
        elif request.recipe not in (0, self.recipe_number):  # triggered just before the change
            frame, answer = item, Reason.RECIPE_MISMATCH
        else:
            frame, answer = item, self._inspect_safely(item)
        return self, frame, answer, self._decide(frame, answer)

    def _decide(self, frame: Frame, answer: Inspection | Reason) -> Verdict:
        verdict = decide(frame, answer, self.recipe, time.monotonic_ns())
        return replace(verdict, recipe_number=self.recipe_number, lot=self.lot)

    def _between_parts(self) -> None:
        self._take_over()
        with suppress(queue.Empty):
            while True:
                errand = self._errands.get_nowait()
                try:
                    errand()
                except Exception:  # whoever sent it has to say what went wrong; the next part waits
                    self.counters.observer_faults += 1

    def _take_over(self) -> None:
        """Engine, limits and what is said of them change together."""
        with suppress(queue.Empty):
            while True:
                self._follow(self._successors.get_nowait())

    def _follow(self, successor: Successor) -> None:
        if successor.taken is None and not self._is_of_now(successor):
            successor.worker.retire()
            return
        if successor.source is not None:
            self.capture.show(successor.source)
        before = self.worker
        self.worker, self.recipe, self.recipe_number = successor.worker, successor.recipe, successor.number
        self.worker.late += before.late
        before.retire()  # one that hangs costs no part its time
        for listener in self.listeners:
            listener(self.recipe_number, self.recipe)
        if successor.taken is not None:
            successor.taken()

    def _is_of_now(self, anew: Successor) -> bool:
        """An engine made anew may not change the camera: with other settings its recipe has to be loaded."""
        return anew.number == self.recipe_number and anew.recipe.camera == self.recipe.camera

    def _inspect_safely(self, frame: Frame) -> Inspection | Reason:
        try:
            return self._inspect(frame)
        except Exception as error:  # whatever it is, this part was not judged, and the next one will be
            self.worker.last_error = f"{type(error).__name__}: {error}"
            return Reason.STATION_FAULT

    def _inspect(self, frame: Frame) -> Inspection | Reason:
        recipe = self.recipe
        if frame.captured_ns < self.capture.shown_ns:
            return Reason.FRAME_STALE  # taken with another recipe's settings
        fault = age_fault(frame.captured_ns, time.monotonic_ns(), recipe.max_frame_age_ms) or image_fault(
            frame.pixels, frame.before
        )
        if fault is not None:
            return fault
        return self.worker.inspect(frame, frame.captured_ns + int(recipe.deadline_ms * 1e6))

    def _show(self, frame: Frame, answer: Inspection | Reason, verdict: Verdict) -> None:
        for observer in self._observers:
            try:
                observer(frame, answer, verdict)
            except Exception:  # a full disk or a closed terminal is no reason to stop the line
                self.counters.observer_faults += 1


Judged = tuple[Station, Frame, Inspection | Reason, Verdict]  # one picture, and whose
