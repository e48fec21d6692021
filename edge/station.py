"""The loop: request -> shot -> frame -> inspection -> verdict -> outboxes. It waits for those two only."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge.archive import Archive
from edge.capture import Capture
from edge.errors import EndOfStream
from edge.frame import Frame, Inspection, no_frame
from edge.health import age_fault, image_fault
from edge.outbox import Outbox
from edge.recipe import Recipe
from edge.trigger import FreeRun, Request, Trigger
from edge.verdict import Reason, Verdict, decide
from edge.worker import InferenceWorker

BLIND_VERDICT_EVERY_S = 1.0  # so often a blind station says that it is blind
STALLED_AFTER_NS = 3_000_000_000  # a loop that has not turned for so long is stalled: no more heartbeat
KEPT_TIMINGS = 2_000  # the summary speaks of the last ones; a station runs for months
KEPT_LABELS = 100  # kinds that a source may name; a folder names every file, and those are not counted

Observer = Callable[[Frame, Inspection | Reason, Verdict], None]


@dataclass(slots=True)
class StationCounters:
    """Since start. `blind` verdicts answered no picture, all others one."""

    total: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    by_label: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # judged parts: (what the source said, outcome)
    blind: int = 0
    observer_faults: int = 0
    total_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMINGS))
    infer_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMINGS))

    def add(self, frame: Frame, verdict: Verdict) -> None:
        """Count one verdict."""
        self.total += 1
        self.outcomes[verdict.outcome.value] += 1
        self.reasons[verdict.reason.name] += 1
        key = (frame.label or "", verdict.outcome.value)
        if (
            frame.label
            and not verdict.reason.is_fault
            and (key in self.by_label or len(self.by_label) < KEPT_LABELS)
        ):
            self.by_label[key] += 1
        if not frame.pixels.size:
            self.blind += 1
        elif not verdict.reason.is_fault:
            self.total_ms.append(verdict.total_ms)
            self.infer_ms.append(verdict.infer_ms)


class Station:
    """One camera, one model, any number of outputs.

    `observers` see every verdict after it was sent (live table, heat maps); one that raises is counted and
    never costs a part. `recipe` says what the thresholds, the deadline and the fail-safe outcome are.
    With a `trigger` each request gets one picture, taken after it, and one verdict; without, it is free run.
    """

    def __init__(
        self, capture: Capture, worker: InferenceWorker, recipe: Recipe, observers: Sequence[Observer] = ()
    ) -> None:
        self.capture, self.worker, self.recipe = capture, worker, recipe
        self.counters = StationCounters()
        self.trigger: Trigger = FreeRun()
        self.outboxes: list[Outbox | Archive] = []  # set by the composition root, archives first
        self._observers = observers
        self._successor: tuple[InferenceWorker, Recipe] | None = None
        self._turned_ns = time.monotonic_ns()
        self._stopping = False

    def run(self, count: int = 0) -> None:
        """Judge until the source ends, `stop` is called or `count` verdicts are made (0: no limit).

        Raises DataError when the source cannot be used at all.
        """
        while not self._stopping and not (count and self.counters.total >= count):
            request = self.trigger.wait(BLIND_VERDICT_EVERY_S)
            self._turned_ns = time.monotonic_ns()
            if request is None:
                continue
            try:
                item = self.capture.next(BLIND_VERDICT_EVERY_S, request)
            except EndOfStream:
                return
            if item is Reason.CAMERA_TIMEOUT and request.number is None and not self.capture.live:
                self._turned_ns = time.monotonic_ns()  # a slow folder: no part, no fault
            elif not self._stopping:
                self._turn(item, request)

    def stop(self) -> None:
        """End after the verdict that is being made; safe to call from a signal handler."""
        self._stopping = True

    def replace_engine(self, worker: InferenceWorker, recipe: Recipe) -> None:
        """Another engine, ready, with the recipe that holds for it, from the next part on; from any thread.

        The station owns it from now on and frees the one before it.
        """
        self._successor = (worker, recipe)

    def close(self) -> None:
        """Free the engine, and one that has not come to its first part; may be called twice."""
        self._take_over()
        self.worker.close()

    def turns(self, now_ns: int) -> bool:
        """False when the loop stands still or the camera's driver hangs: what only a new process mends."""
        return now_ns - self._turned_ns < STALLED_AFTER_NS and not self.capture.hangs(now_ns)

    def is_healthy(self, now_ns: int) -> bool:
        """False when loop, camera or engine stand still: the outputs then take their heartbeat back.

        A PLC that asks for pictures must not be told READY while there is no camera or no engine; in free run
        a lost camera is told by a verdict every second, a lost engine by each part's.
        """
        able = isinstance(self.trigger, FreeRun) or (self.capture.connected and self.worker.ready)
        return able and self.turns(now_ns)

    def archive(self, verdict: Verdict) -> None:
        """A verdict that was not made here: the handshake's own, for a part that got none in time."""
        for outbox in self.outboxes:
            if isinstance(outbox, Archive):
                outbox.put(verdict)

    def _turn(self, item: Frame | Reason, request: Request) -> None:
        self._turned_ns = time.monotonic_ns()
        self._take_over()
        answer: Inspection | Reason
        if isinstance(item, Reason):
            frame_id = self.capture.new_id()
            frame, answer = no_frame(frame_id, self.capture.source, self._turned_ns, request), item
        else:
            frame, answer = item, self._inspect_safely(item)
        verdict = decide(frame, answer, self.recipe, time.monotonic_ns())
        for outbox in self.outboxes:
            outbox.put(verdict)
        self.counters.add(frame, verdict)
        self._show(frame, answer, verdict)

    def _take_over(self) -> None:
        """Between two parts: engine, limits and what is said of them change together."""
        if self._successor is None:
            return
        before = self.worker
        (self.worker, self.recipe), self._successor = self._successor, None
        self.worker.late += before.late
        before.retire()  # one that hangs costs no part its time

    def _inspect_safely(self, frame: Frame) -> Inspection | Reason:
        try:
            return self._inspect(frame)
        except Exception as error:  # whatever it is, this part was not judged, and the next one will be
            self.worker.last_error = f"{type(error).__name__}: {error}"
            return Reason.STATION_FAULT

    def _inspect(self, frame: Frame) -> Inspection | Reason:
        recipe = self.recipe
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
