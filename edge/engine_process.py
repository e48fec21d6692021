"""The engine's own process: `python -m edge.engine_process`, started by `edge.isolation` and by nobody else.

    standard input   the job, JSON: engine, recipe, backend
    socket           JSON: hello; then {"pictures": [n, H, W], "batch": false} -> {"ns": time}; or a fault
    memory           pictures and maps, see `edge.slate`

It ends with its parent, however that ends, and is what the kernel kills first where memory runs out: the
station must live to say that a part was not judged.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from edge.errors import InspectError

LARGEST = 1 << 16  # bytes of a message
LONGEST = 4000  # characters of an error's text
PR_SET_PDEATHSIG = 1  # linux/prctl.h
KILLED_FIRST = 1000  # /proc/PID/oom_score_adj, the most there is


def main() -> None:
    """Arguments: the parent's process id, the descriptors of socket and memory."""
    parent, wire_descriptor, memory = (int(word) for word in sys.argv[1:4])
    _end_with(parent)
    with suppress(OSError):  # no /proc: then the kernel chooses
        Path("/proc/self/oom_score_adj").write_text(str(KILLED_FIRST))
    with socket.socket(fileno=wire_descriptor) as wire:
        try:
            _serve(wire, json.load(sys.stdin), memory)
        except OSError:  # the station let go of us
            return


def _end_with(parent: int) -> None:
    """SIGKILL when the parent ends, even while a driver hangs; needs no thread of ours to run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        sys.exit(1)


def _serve(wire: socket.socket, job: dict[str, Any], memory: int) -> None:
    """Open the engine, answer until the station hangs up."""
    from edge.backends import open_backend
    from edge.recipe import check_artefact, parse_recipe
    from edge.slate import Slate

    try:
        engine = Path(job["engine"])
        recipe = parse_recipe(job["recipe"], str(engine), "Restart the station.")
        check_artefact(recipe, engine)  # it may have been replaced since the station started
        backend = open_backend(engine, recipe, job["backend"])
    except Exception as error:  # whatever a library throws: the station says it
        _send(wire, {"fault": _words(error)})
        return
    with closing(backend):
        size = (int(backend.input_size[0]), int(backend.input_size[1]))
        _send(wire, {"name": backend.name, "input_size": size, "resizes": backend.resizes})
        slate = Slate(memory)
        while message := wire.recv(LARGEST):
            asked = json.loads(message)
            laid = slate.lay(tuple(asked["pictures"]), size)
            begun = time.monotonic_ns()
            try:
                if asked["batch"]:
                    laid.maps[:], laid.scores[:] = backend.infer_batch(laid.pictures)
                else:
                    laid.maps[0], laid.scores[0] = backend.infer(laid.pictures[0])
                _send(wire, {"ns": time.monotonic_ns() - begun})
            except Exception as error:
                _send(wire, {"fault": _words(error)})


def _send(wire: socket.socket, message: dict[str, Any]) -> None:
    wire.send(json.dumps(message).encode())


def _words(error: Exception) -> tuple[str, str, str, str]:
    """(kind, what, where, what to do next)."""
    if isinstance(error, InspectError):
        kind, what, where, hint = type(error).__name__, error.what, error.where, error.next_step
    else:
        kind, what, where, hint = "BackendFault", repr(error), "engine", "See the log."
    return kind, what[:LONGEST], where[:LONGEST], hint[:LONGEST]


if __name__ == "__main__":
    main()
