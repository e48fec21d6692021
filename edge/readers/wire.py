"""What passes between the station and a reading process.

    station --{"open": settings}--> reader     once; then for each picture
    station --{"read": seconds}---> reader --{"width": ..., "format": ...}--> station
                                           --{"error": "CameraLost", ...}---> station

Messages are JSON, each one packet of a Unix socket pair. Pixels lie in one piece of memory without a name
(memfd), which both have mapped: nothing is left behind, whoever dies first. The station asks, so the reader
never writes into a picture that is being copied.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from edge import errors
from edge.errors import DataError, InspectError
from edge.lifetime import end_with

LARGEST_MESSAGE = 65_536  # bytes


@dataclass(frozen=True)
class Header:
    """What a picture in the memory is. Times are CLOCK_MONOTONIC, which all processes share."""

    width: int
    height: int
    format: str  # as GenICam's Pixel Format Naming Convention says it
    size: int  # bytes
    taken_ns: int
    device_ns: int | None = None  # the camera's own clock
    incomplete: int = 0  # pictures since the opening that came with holes and were thrown away


class Source(Protocol):
    """An open camera inside the reading process."""

    def read(self, timeout_s: float) -> tuple[Header, Any]:
        """The next picture and its bytes. Raises CameraTimeout, FrameIncomplete or CameraLost."""

    def close(self) -> None:
        """Release the device."""


def serve(open_source: Callable[[dict[str, Any]], Source]) -> None:
    """The reading process: sys.argv ends with the station's process id, the numbers of socket and memory."""
    parent, channel_number, memory_number = (int(word) for word in sys.argv[-3:])
    end_with(parent)
    channel, memory = socket.socket(fileno=channel_number), _Memory(memory_number)
    source: Source | None = None
    while message := channel.recv(LARGEST_MESSAGE):
        request = json.loads(message)
        try:
            if source is None:
                source, answer = open_source(request["open"]), {}
            else:
                header, data = source.read(request["read"])
                memory.write(data)
                answer = asdict(header)
        except Exception as error:  # the station must hear why, whatever it is
            answer = as_message(error)
        channel.send(json.dumps(answer).encode())
    if source is not None:
        source.close()


def as_message(error: Exception) -> dict[str, str]:
    """An error as it travels; what is not ours is a driver's, and a lost camera."""
    if isinstance(error, InspectError):
        return {"error": type(error).__name__, "what": error.what, "where": error.where,
                "next_step": error.next_step}  # fmt: skip
    what = f"the driver failed: {type(error).__name__}: {error}"
    return {
        "error": "CameraLost",
        "what": what,
        "where": "reading process",
        "next_step": "See docs/cameras.md.",
    }


def as_error(answer: dict[str, Any]) -> InspectError:
    """The reverse."""
    kind = getattr(errors, str(answer["error"]), DataError)
    error: InspectError = kind(answer["what"], answer["where"], answer["next_step"])
    return error


class _Memory:
    """The writer's side; grows with the picture."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None

    def write(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        if self._map is None or len(self._map) < len(view):
            os.ftruncate(self._fd, len(view))
            self._map = mmap.mmap(self._fd, len(view))
        self._map[: len(view)] = view
