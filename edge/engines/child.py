"""The station's end of an engine's own process: started, asked, killed. Other end: `edge.engines.process`."""

import json
import math
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge import errors
from edge.engines.process import ANSWER, ASK, FAULT, LARGEST
from edge.engines.slate import Slate, new_memory
from edge.errors import BackendFault, InspectError
from edge.frame import AnomalyMap, Pixels
from edge.picture.preprocess import Size

OPENING_S = 180.0  # to load, compile and warm up; a GPU's kernels are compiled at the first start
END_S = 5.0  # a killed process that a driver holds longer is left behind
RESTARTS = "It is started again by itself; if this comes often, try another --backend."

Scores = npt.NDArray[np.float64]


class EngineChild:
    """One process with one engine, from its start to its end. `kill` may come from any thread."""

    def __init__(self, job: str) -> None:
        self.answers, self.engine_ns, self._closed = 0, 0, False  # engine_ns: what the last answer took there
        self._patience_s, self._oom_kills = math.inf, _oom_kills()
        self._asking = threading.Lock()
        with ExitStack() as owned:
            self._wire, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            owned.callback(self._wire.close)
            memory = new_memory()
            owned.callback(os.close, memory)
            self._slate = Slate(memory)
            with theirs:
                self._process = _started((theirs.fileno(), memory))
            self._owned = owned.pop_all()
        self.pid = self._process.pid
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:  # it ended at once: hello() says it
            stdin.write(job.encode())

    def hello(self) -> dict[str, Any]:
        """What the engine is. Raises the InspectError that opening raised there."""
        hello: dict[str, Any] = json.loads(self._hear(OPENING_S))
        return hello

    def ask(self, pictures: Pixels, size: Size, batch: bool, patience_s: float) -> tuple[AnomalyMap, Scores]:
        """uint8 (N, H, W, 3) -> maps float32 (N, *size), scores float64 (N,), copied. Raises BackendFault."""
        with self._asking:
            if self._closed:
                raise self.end()
            shape = (len(pictures), pictures.shape[1], pictures.shape[2])
            laid = self._slate.lay(shape, size)
            np.copyto(laid.pictures, pictures)
            try:
                self._wire.send(ASK.pack(*shape, batch))
            except OSError as error:
                raise self.end() from error
            (self.engine_ns,) = ANSWER.unpack(self._hear(patience_s))
            self.answers += 1
            return laid.maps.copy(), laid.scores.copy()

    def ends(self, within_s: float) -> bool:
        """True when its end of the socket is closed, as the kernel does when it dies; waits no longer."""
        waiting = select.poll()
        waiting.register(self._wire, 0)
        return bool(waiting.poll(within_s * 1e3))

    def resident(self) -> int:
        """Bytes of memory that it holds; 0 where the system does not tell."""
        with suppress(OSError, IndexError, ValueError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def kill(self) -> None:
        """End it now, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Kill, wait END_S at most, let go of socket and memory."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        with self._asking:  # who asked has been told by now
            self._closed = True
            self._owned.close()

    def end(self) -> BackendFault:
        """How it ended, in words; it has."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        how = _how(self._process.returncode, _oom_kills() > self._oom_kills)
        return BackendFault(f"the engine's process ended ({how})", f"process {self.pid}", RESTARTS)

    def _hear(self, patience_s: float) -> bytes:
        """A message that is no fault; a fault is raised."""
        try:
            if patience_s != self._patience_s:  # of the kernel: a socket with Python's own asks it twice
                self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(patience_s))
                self._patience_s = patience_s
            heard = self._wire.recv(LARGEST)
        except BlockingIOError as error:
            what = f"the engine hangs: no answer for {patience_s:g} s"
            raise BackendFault(what, f"process {self.pid}", RESTARTS) from error
        except OSError as error:
            raise self.end() from error
        if not heard:
            raise self.end()
        if heard.startswith(FAULT):
            kind, what, where, hint = json.loads(heard.removeprefix(FAULT))
            raise _KINDS.get(kind, BackendFault)(what, where, hint)
        return heard


_KINDS = {name: kind for name, kind in vars(errors).items()
          if isinstance(kind, type) and issubclass(kind, InspectError)}  # fmt: skip


def _started(passed: tuple[int, int]) -> "subprocess.Popen[bytes]":
    """A session of its own: a Ctrl-C is for the station alone. What libraries print goes to the log."""
    words = [str(number) for number in (os.getpid(), *passed)]
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "edge.engines.process", *words],
        stdin=subprocess.PIPE, stdout=2, pass_fds=passed, start_new_session=True,
    )  # fmt: skip


def _timeval(seconds: float) -> bytes:
    """C's struct timeval."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def _oom_kills() -> int:
    """How many processes the kernel has ended for want of memory on this machine; 0: it does not say."""
    with suppress(OSError):
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def _how(code: int | None, starved: bool) -> str:
    if code is None:
        return "it cannot be ended"
    if code == -signal.SIGKILL:
        return "SIGKILL: the machine ran out of memory" if starved else "SIGKILL: somebody ended it"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
