"""A camera read by a process of its own: when its driver hangs, that process is killed and another one opens.

    Capture --read--> ProcessCamera --socket--> reading process (edge/readers/) --> driver
                            ^------- memory that both have mapped -------'

No thread can be stopped inside a driver, a process can. What a driver breaks (memory, a lock, a leak) goes
with it. The time of a picture is taken in the reading process.
"""

import contextlib
import json
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge.cameras.pixel_formats import bgr_of
from edge.errors import CameraLost, CameraTimeout
from edge.frame import Shot
from edge.readers.wire import LARGEST_MESSAGE, Header, as_error

OPEN_LIMIT_S = 20.0  # a GigE camera that is looked for and negotiated with takes three, an import two
HANG_S = 2.0  # a reader that is so much later than its time-out hangs in the driver
SILENT_S = 5.0  # a camera that runs free and gives nothing for so long is opened anew
TIDY_S = 1.0  # a reader may take so long to release its camera
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's and Ubuntu's bindings are built for this one
_BOOT = "import sys; sys.path.{how}; from edge.readers.{reader} import main; main()"
_ROOT = str(Path(__file__).parents[2])


def python_with(module: str) -> str:
    """This Python where it has the module, else the system's."""
    return sys.executable if find_spec(module) else SYSTEM_PYTHON


class ProcessCamera:
    """Starts `edge/readers/READER.py` and has it open the camera.

    `silent_s` is for cameras that run free; one that waits for a trigger may be silent for hours.
    Raises CameraLost or DataError as the reader says, CameraLost when it does not answer.
    The process dies with the thread that opened the camera.
    """

    live = True

    def __init__(
        self,
        uri: str,
        reader: str,
        request: dict[str, Any],
        python: str = sys.executable,
        silent_s: float = SILENT_S,
    ) -> None:
        self.uri = uri
        self._silent_s = silent_s
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._memory, self._map = os.memfd_create("edge-inspect"), mmap.mmap(-1, 1)
        try:
            with theirs:
                self._process = _started(reader, python, theirs.fileno(), self._memory)
        except OSError as error:  # no such program, no memory, no handles: it is tried again for ever
            self._let_go()
            hint = "Is it installed? Does the machine have memory and handles left (ulimit -n)?"
            raise CameraLost(f"the reading process cannot be started: {error}", uri, hint) from error
        try:
            self._ask({"open": request}, OPEN_LIMIT_S)
        except Exception:
            self.close()
            raise
        self._picture_s = time.monotonic()  # of the last picture, or of the opening
        self._taken_ns = time.monotonic_ns()

    @property
    def pid(self) -> int:
        """Of the reading process."""
        return self._process.pid

    def read(self, timeout_s: float) -> Shot:
        """The next picture. Raises CameraTimeout, FrameIncomplete, CameraLost."""
        started_ns = time.monotonic_ns()
        try:
            header = Header(**self._ask({"read": timeout_s}, timeout_s + HANG_S))
        except CameraTimeout as error:
            silent_s = time.monotonic() - self._picture_s
            if silent_s > self._silent_s:
                raise CameraLost(f"no picture for {silent_s:.0f} s", self.uri, error.next_step) from error
            raise
        self._picture_s = time.monotonic()
        if len(self._map) < header.size:
            self._map.close()
            self._map = mmap.mmap(self._memory, header.size, mmap.MAP_SHARED, mmap.PROT_READ)
        data = np.frombuffer(self._map, np.uint8, header.size)
        pixels = bgr_of(data, header.width, header.height, header.format)
        begun_ns = self._begun_ns(started_ns, header)
        return Shot(pixels, device_ns=header.device_ns, begun_ns=begun_ns, taken_ns=header.taken_ns)

    def _begun_ns(self, started_ns: int, header: Header) -> int | None:
        """A camera that runs free may have exposed as soon as it was done with the picture before."""
        before_ns, self._taken_ns = self._taken_ns, header.taken_ns
        return min(started_ns, before_ns) if math.isfinite(self._silent_s) else None

    def close(self) -> None:
        """Let the reader release the camera; one that does not is killed."""
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(TIDY_S)
        self._kill()
        self._let_go()

    def _let_go(self) -> None:
        self._channel.close()
        if self._memory >= 0:
            os.close(self._memory)
        self._memory = -1

    def _ask(self, message: dict[str, Any], limit_s: float) -> dict[str, Any]:
        self._channel.settimeout(limit_s)
        try:
            self._channel.send(json.dumps(message).encode())
            answer = self._channel.recv(LARGEST_MESSAGE)
        except TimeoutError as error:
            self._kill()
            what = f"the driver hangs: no answer for {limit_s:g} s, its process was killed"
            raise CameraLost(what, self.uri, "It is opened again; look at cable and driver.") from error
        except OSError as error:
            raise self._ended() from error
        if not answer:
            raise self._ended()
        told: dict[str, Any] = json.loads(answer)
        if "error" in told:
            raise as_error(told)
        return told

    def _ended(self) -> CameraLost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(TIDY_S)
        code = self._process.poll()
        how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
        hint = "It is opened again; if it never works, is the camera's library installed (docs/cameras.md)?"
        return CameraLost(f"the reading process ended ({how})", self.uri, hint)

    def _kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it goes when that lets go
            self._process.wait(TIDY_S)


def _started(reader: str, python: str, channel: int, memory: int) -> subprocess.Popen[bytes]:
    """Another Python looks into our folders last: what is built for ours is not for it."""
    how = f"insert(0, {_ROOT!r})" if python == sys.executable else f"append({_ROOT!r})"
    boot = _BOOT.format(how=how, reader=reader)
    return subprocess.Popen(
        [python, "-c", boot, str(os.getpid()), str(channel), str(memory)],
        pass_fds=(channel, memory), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,  # Ctrl-C is for the station, which then closes
    )  # fmt: skip
