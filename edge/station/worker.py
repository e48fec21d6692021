"""Inference in a thread of its own: a hung backend costs one part its pass, not the line its answer.

    station --frame--> [ one slot ] --> see, infer --> [ answer ] --> station, until the deadline

The deadline is kept by the one who waits. While a worker is still at an old frame, every new one is answered
at once: DEADLINE_MISSED, for the engine is slow; after HANG_S BACKEND_FAULT, for it hangs. What the old one
says in the end is thrown away and counted. An engine in a process of its own is killed when it hangs and
started again (`edge.engines.isolation`); one in this process can only be waited for.
"""

import queue
import threading
import time

from edge.backends import Backend
from edge.engines.isolation import IsolatedBackend
from edge.errors import BackendFault, DataError, InspectError, PartNotFound
from edge.frame import Frame, Inspection
from edge.picture.image_health import health_of
from edge.picture.preprocess import resize
from edge.picture.view import view_of
from edge.recipe import Recipe, other_size
from edge.verdict import Reason

JOIN_S = 5.0  # a slow engine finishes its picture; a program that ends under its threads would be aborted
HANG_S = 5.0  # after a missed deadline; the slowest engine, 32 tiles, takes a second or two on a small PC


class InferenceWorker:
    """Owns a backend. `inspect` is for one thread, so at most one frame is under way.

    `last_error` says in words why the last picture got no answer.
    """

    def __init__(self, backend: Backend, recipe: Recipe, model_sha256: str, hang_s: float = HANG_S) -> None:
        self.late = 0  # answers that came after their deadline and were not published
        self.last_error = ""
        self._backend, self._sha256 = backend, model_sha256
        self._recipe, self._view = recipe, view_of(recipe)
        self._health = health_of(recipe, self._view.mask)
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        # No SimpleQueue, which may forget its time-out in a signal, and with it the deadline.
        self._answers: queue.Queue[Inspection | Reason] = queue.Queue()
        self._owed = False  # the worker has a frame whose deadline is over
        self._hangs_from_ns, self._hang_ns = 0, int(hang_s * 1e9)
        self._slow = _slow(backend, recipe)
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """True while the worker is still at a frame whose deadline is over."""
        return self._owed and self._answers.empty()

    def inspect(self, frame: Frame, until_ns: int) -> Inspection | Reason:
        """What the model says, or why it cannot; returns at `until_ns` (monotonic) at the latest."""
        if self.hangs:
            return self._busy()
        if self._owed:
            self._answers.get()
            self._owed, self.late = False, self.late + 1
        self._frames.put(frame)
        try:
            answer = self._answers.get(timeout=max(0.0, (until_ns - time.monotonic_ns()) / 1e9))
        except queue.Empty:
            self._owed, self._hangs_from_ns = True, until_ns + self._hang_ns
            self.last_error = self._slow
            return Reason.DEADLINE_MISSED
        if isinstance(answer, Inspection):
            self.last_error = ""
        return answer

    @property
    def ready(self) -> bool:
        """False while the engine is being built, or its process started again: no part could be judged."""
        return bool(getattr(self._backend, "ready", True))  # a backend that cannot lose its engine has none

    @property
    def restarts(self) -> int:
        """How often the engine's process was started again."""
        return self._backend.restarts if isinstance(self._backend, IsolatedBackend) else 0

    @property
    def engine(self) -> str:
        """For people: what the backend is called."""
        return self._backend.name

    def retire(self) -> None:
        """End after the frame in hand, if any, and free the backend; returns at once."""
        self._frames.put(None)

    def close(self) -> None:
        """The same, and wait; one that hangs is left behind (daemon). May be called twice."""
        self.retire()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        while (frame := self._frames.get()) is not None:
            self._answers.put(self._infer(frame))
        self._backend.close()

    def _infer(self, frame: Frame) -> Inspection | Reason:
        """One frame through the model; every fault becomes a reason."""
        try:
            begun = time.monotonic_ns()
            if unfit := other_size(self._recipe, frame.pixels.shape):
                raise unfit
            shown, lost = self._view.shown_anyway(frame.pixels)
            if self._health is not None and (fault := self._health.fault(shown)):
                reason, self.last_error = fault
                return reason
            if lost is not None:
                raise lost
            pixels = shown if self._backend.resizes else resize(shown, self._view.size)
            ready = time.monotonic_ns()
            anomaly_map, score = self._backend.infer(pixels)
            done = time.monotonic_ns()
        except BackendFault as error:
            return self._fault(error, Reason.BACKEND_FAULT)
        except PartNotFound as error:
            return self._fault(error, Reason.PART_NOT_FOUND)
        except DataError as error:  # the picture does not fit the recipe
            return self._fault(error, Reason.RECIPE_MISMATCH)
        except Exception as error:  # whatever it is, this part was not judged
            return self._fault(error, Reason.STATION_FAULT)
        return Inspection(frame.id, score, anomaly_map, self._sha256, ready - begun, done - ready)

    def _busy(self) -> Reason:
        if time.monotonic_ns() < self._hangs_from_ns:
            self.last_error = self._slow
            return Reason.DEADLINE_MISSED
        hint = "Restart the station; if it hangs again, try another --backend."
        return self._fault(BackendFault("the engine hangs", self._backend.name, hint), Reason.BACKEND_FAULT)

    def _fault(self, error: Exception, reason: Reason) -> Reason:
        self.last_error = str(error)
        return reason


def _slow(backend: Backend, recipe: Recipe) -> str:
    """What to say when the deadline is over, and what helps."""
    what = f"no answer within the deadline, {recipe.deadline_ms:g} ms from picture to verdict"
    hint = "Give it time: edge-inspect recipe ENGINE --deadline-ms MS; --dry-run tells what a picture takes."
    return str(InspectError(what, backend.name, hint))
