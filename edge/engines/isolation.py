"""An engine in a process of its own: what breaks in a driver breaks there, and is started again.

    worker's thread --picture--> shared memory --> edge.engines.process: view, engine
                    <--map, score-- shared memory <--
    "engine" thread: starts the process, tests it, watches it, starts it again

Whatever happens to the process (it crashes, hangs, reports a driver's fault, takes too much memory) costs the
part in hand its pass: BackendFault. The process is killed, as a CUDA context that failed once fails for ever,
and another one is started, with memory of its own, so that nothing can come from the old one any more. Until
that one has judged the golden picture as the first one did, every part is a BackendFault at once.
"""

import json
import os
import queue
import threading
from pathlib import Path

import numpy as np

from edge.backoff import backoff_s
from edge.engines.child import OPENING_S, EngineChild, Scores
from edge.engines.selftest import Fingerprint, fingerprint, golden_picture, unlike
from edge.errors import BackendFault, InspectError
from edge.frame import AnomalyMap, Pixels
from edge.recipe import Recipe, dumps

PATIENCE_S = 5.0  # for one answer; the slowest engine, 32 tiles, takes a second or two on a small PC
LOOK_S = 1.0  # so often memory is looked at
MEMORY_SHARE = 0.75  # of the machine's, by default: more is a leak


def can_isolate() -> bool:
    """False where the system lacks what this is made of (it is Linux)."""
    return hasattr(os, "memfd_create")


class IsolatedBackend:
    """A backend that lives in another process, as `open_backend` would open it here.

    Raises what that raises. `ready` is False while there is none that passed its self-test, `why` says why;
    `restarts` counts.
    """

    def __init__(
        self,
        engine: Path,
        recipe: Recipe,
        backend: str = "auto",
        *,
        patience_s: float = PATIENCE_S,
        memory_mib: int = 0,
    ) -> None:
        job = {"engine": str(engine.absolute()), "recipe": json.loads(dumps(recipe)), "backend": backend}
        self._job, self._patience_s = json.dumps(job), patience_s
        self.memory_limit = memory_mib << 20 or int(MEMORY_SHARE * _machine_memory())  # bytes
        self.why, self.restarts = "", 0
        self.name, self.input_size, self.resizes = "", (0, 0), False  # as the first process says
        self._golden: Fingerprint | None = None
        self._process: EngineChild | None = None  # the newest, ready or not
        self._ready: EngineChild | None = None
        self._closing = threading.Event()
        self._opened: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        # The kernel ends a child with the thread that started it, so one thread starts them all.
        self._thread = threading.Thread(target=self._supervise, name="engine", daemon=True)
        self._thread.start()
        if (error := self._opened.get()) is not None:
            self._thread.join()
            raise error

    @property
    def ready(self) -> bool:
        """Whether a part could be judged now."""
        return self._ready is not None

    @property
    def pid(self) -> int | None:
        """Of the process that judges now."""
        return self._ready.pid if self._ready else None

    @property
    def engine_ns(self) -> int:
        """Of the last answer: the engine's part of the time; the rest was the way there and back."""
        return self._ready.engine_ns if self._ready else 0

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """See `edge.backends.Backend`."""
        maps, scores = self._ask(pixels[None], batch=False)
        return maps[0], float(scores[0])

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """See `edge.backends.Backend`."""
        maps, scores = self._ask(pixels, batch=True)
        return maps, scores.astype(np.float32)

    def close(self) -> None:
        """End the process; may be called twice."""
        self._closing.set()
        if (process := self._process) is not None:
            process.kill()
        self._thread.join()

    def _ask(self, pixels: Pixels, batch: bool) -> tuple[AnomalyMap, Scores]:
        process = self._ready
        if process is None:
            hint = "Parts are judged again as soon as it passes its self-test."
            raise BackendFault(f"the engine is being started again: {self.why}", self.name, hint)
        if pixels.shape[1:3] != self.input_size and not self.resizes:
            what = f"a picture of {pixels.shape[1:3]} for an engine of {self.input_size}"
            raise BackendFault(what, self.name, "Resize it first.")
        try:
            return process.ask(pixels, self.input_size, batch, self._patience_s)
        except InspectError as error:
            self._drop(process, error.what)
            raise BackendFault(error.what, self.name, error.next_step) from error

    def _drop(self, process: EngineChild, why: str) -> None:
        """No part goes to this process any more."""
        if self._ready is process:
            self._ready, self.why = None, why
        process.kill()

    def _supervise(self) -> None:
        tries = 0
        while not self._closing.is_set():
            try:
                process = self._start()
            except Exception as error:  # whatever it is, it is said, and tried again
                if self._golden is None:  # the first start: whoever opens it decides
                    self._opened.put(error)
                    return
                self.why = error.what if isinstance(error, InspectError) else repr(error)
            else:
                self._watch(process)
                process.close()
                tries = 0 if process.answers > 1 else tries  # one that dies of its first part is not hurried
            ends = self._closing.wait(backoff_s(tries))
            tries, self.restarts = tries + 1, self.restarts + (not ends)

    def _start(self) -> EngineChild:
        """A process that has passed its self-test, now in use. Raises InspectError, and then has ended it."""
        process = self._process = EngineChild(self._job)
        if self._closing.is_set():  # close() may have seen the one before
            process.kill()
        try:
            hello = process.hello()
            size = (int(hello["input_size"][0]), int(hello["input_size"][1]))
            if self._golden is None:
                self.name, self.input_size, self.resizes = hello["name"], size, hello["resizes"]
            elif (size, hello["resizes"]) != (self.input_size, self.resizes):
                what = "the engine takes other pictures than before"
                raise BackendFault(what, self.name, "Restart the station.")
            self._test(process)
        except BaseException:
            process.close()
            raise
        self._ready = process
        self._opened.put(None)
        return process

    def _test(self, process: EngineChild) -> None:
        """Raises BackendFault where it does not judge the golden picture as the first process did."""
        picture = golden_picture(self.input_size)[None]
        maps, scores = process.ask(picture, self.input_size, batch=False, patience_s=OPENING_S)
        now = fingerprint(maps[0], float(scores[0]))
        if self._golden is None:
            self._golden = now
        elif why := unlike(now, self._golden):
            hint = "The machine itself may be broken: memory, GPU. Parts are not judged; it is tried again."
            raise BackendFault(f"the self-test failed: {why}", self.name, hint)

    def _watch(self, process: EngineChild) -> None:
        """Until it ends, by itself or because it takes too much memory."""
        while not process.ends(within_s=LOOK_S):
            if self._ready is not process:  # killed, and a driver holds it: it is left behind
                return
            if (held := process.resident()) > self.memory_limit:
                limit = self.memory_limit >> 20
                self._drop(process, f"it took {held >> 20} MiB of memory, {limit} are allowed")
        self._drop(process, process.end().what)


def _machine_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
