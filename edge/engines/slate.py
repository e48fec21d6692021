"""Memory that two processes share, for pictures one way and maps the other; nothing is sent but its sizes.

    | pictures uint8 (n, H, W, 3) | scores float64 (n,) | maps float32 (n, h, w) |

One side writes at a time: the station before it asks, the engine's process before it answers. The memory has
no name in the file system and goes with the last process that has it. It can only grow: memory that the other
side took away would end this process with a SIGBUS.
"""

import fcntl
import math
import mmap
import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge.frame import AnomalyMap, Pixels
from edge.picture.preprocess import Size

GAP = 64  # bytes: each part begins at a cache line


class Laid(NamedTuple):
    """What lies in the memory, not copied."""

    pictures: Pixels  # (n, H, W, 3)
    scores: npt.NDArray[np.float64]  # (n,)
    maps: AnomalyMap  # (n, h, w)


class Slate:
    """The memory behind a file descriptor, which it does not own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(-1, GAP)  # nothing is shared before the first picture
        self._laid: tuple[object, Laid | None] = (None, None)  # a line has one size of pictures

    def lay(self, pictures: tuple[int, int, int], size: Size) -> Laid:
        """Room for `pictures` (n, H, W) and as many maps of `size` (h, w), the same on both sides."""
        wanted, laid = self._laid
        if laid is None or wanted != (pictures, size):
            laid = self._arrays(pictures, size)
            self._laid = ((pictures, size), laid)
        return laid

    def _arrays(self, pictures: tuple[int, int, int], size: Size) -> Laid:
        count, height, width = pictures
        scores_at = _up(math.prod(pictures) * 3)
        maps_at = scores_at + _up(count * 8)
        self._reach(maps_at + count * math.prod(size) * 4)
        memory = self._memory
        return Laid(
            np.frombuffer(memory, np.uint8, math.prod(pictures) * 3).reshape(count, height, width, 3),
            np.frombuffer(memory, np.float64, count, scores_at),
            np.frombuffer(memory, np.float32, count * math.prod(size), maps_at).reshape(count, *size),
        )

    def _reach(self, wanted: int) -> None:
        if wanted <= len(self._memory):
            return
        if os.fstat(self._descriptor).st_size < wanted:  # the other side has not done it
            os.ftruncate(self._descriptor, wanted)
        self._memory = mmap.mmap(self._descriptor, wanted)  # the old one goes with its last array


def new_memory() -> int:
    """A file descriptor for a slate; the caller closes it."""
    descriptor = os.memfd_create("edge-inspect", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def _up(size: int) -> int:
    return -(-size // GAP) * GAP
