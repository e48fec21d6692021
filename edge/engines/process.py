"""The engine's own process: `python -m edge.engines.process`, started by `isolation` and by nobody else.

    standard input   the job, JSON: engine, recipe, backend
    socket           what the engine is (JSON); then ASK -> ANSWER, one at a time; or FAULT and why (JSON)
    memory           pictures and maps, see `edge.engines.slate`

It ends with its parent, however that ends, and is what the kernel kills first where memory runs out: the
station must live to say that a part was not judged.
"""

import json
import socket
import struct
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from edge.errors import InspectError
from edge.lifetime import end_with

ASK = struct.Struct("=3q?")  # pictures, height, width; whether they are a batch
ANSWER = struct.Struct("=q")  # nanoseconds that the engine took
FAULT = b"fault "
LARGEST = 1 << 16  # bytes of a message
LONGEST = 4000  # characters of an error's text
KILLED_FIRST = 1000  # /proc/PID/oom_score_adj, the most there is


def main() -> None:
    """Arguments: the parent's process id, the descriptors of socket and memory."""
    parent, wire_descriptor, memory = (int(word) for word in sys.argv[1:4])
    end_with(parent)
    with suppress(OSError):  # no /proc: then the kernel chooses
        Path("/proc/self/oom_score_adj").write_text(str(KILLED_FIRST))
    with socket.socket(fileno=wire_descriptor) as wire:
        try:
            _serve(wire, json.load(sys.stdin), memory)
        except OSError:  # the station let go of us
            return


def _serve(wire: socket.socket, job: dict[str, Any], memory: int) -> None:
    """Open the engine, answer until the station hangs up."""
    from edge.backends import open_backend
    from edge.engines.slate import Slate
    from edge.recipe import check_artefact, parse_recipe

    try:
        engine = Path(job["engine"])
        recipe = parse_recipe(job["recipe"], str(engine), "Restart the station.")
        check_artefact(recipe, engine)  # it may have been replaced since the station started
        backend = open_backend(engine, recipe, job["backend"])
    except Exception as error:  # whatever a library throws: the station says it
        wire.send(_words(error))
        return
    with closing(backend):
        size = (int(backend.input_size[0]), int(backend.input_size[1]))
        hello = {"name": backend.name, "input_size": size, "resizes": backend.resizes}
        wire.send(json.dumps(hello).encode())
        slate = Slate(memory)
        while message := wire.recv(LARGEST):
            count, height, width, batch = ASK.unpack(message)
            laid = slate.lay((count, height, width), size)
            try:
                begun = time.monotonic_ns()
                judge = backend.infer_batch if batch else backend.infer
                maps, scores = judge(laid.pictures if batch else laid.pictures[0])
                took_ns = time.monotonic_ns() - begun
                laid.maps[:], laid.scores[:] = maps, scores
                wire.send(ANSWER.pack(took_ns))
            except Exception as error:
                wire.send(_words(error))


def _words(error: Exception) -> bytes:
    """FAULT, then kind, what, where, what to do next."""
    if isinstance(error, InspectError):
        kind, what, where, hint = type(error).__name__, error.what, error.where, error.next_step
    else:
        kind, what, where, hint = "BackendFault", repr(error), "engine", "See the log."
    words = (kind, what[:LONGEST], where[:LONGEST], hint[:LONGEST])
    return FAULT + json.dumps(words).encode()


if __name__ == "__main__":
    main()
