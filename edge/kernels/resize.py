"""The resize of `edge/picture/preprocess.py` as tables for one launch, and the structures of `resize.cuh`.

Any step of OpenCV's (bilinear, area, and what its area averaging does to a side that grows) makes a pixel of
at most three neighbours of each side, with weights that depend on the side alone. So a step is two tables.
"""

import ctypes
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge.errors import BackendFault
from edge.picture.preprocess import Size, is_bilinear, steps

# As in resize.cuh; tests compare them.
STEPS, TAPS, CHANNELS, THREADS = 12, 3, 3, 256
# Height and width of a block's tile: the first whose steps fit into its memory.
TILES = ((8, 32), (8, 16), (4, 16), (4, 8), (2, 8), (2, 4), (1, 4), (1, 2), (1, 1))
SHARED_BYTES = 24 * 1024  # of a block: two of them fit on a multiprocessor of 64 KiB
ALIGNMENT = 16  # bytes
LEAST_SHARE = 1e-3  # of a pixel: OpenCV takes less for nothing
WHOLE = 2048  # of a bilinear weight, as in OpenCV

ROW = np.dtype([("first", np.int32), ("weights", np.float32, TAPS)])  # `Taps` of resize.cuh

Table = npt.NDArray[np.void]  # of ROW


class Step(ctypes.Structure):
    """`Step` of resize.cuh."""

    _fields_ = (
        ("rows", ctypes.c_void_p), ("columns", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("row_taps", "column_taps", "bilinear")),
    )  # fmt: skip


class Resize(ctypes.Structure):
    """`Resize` of resize.cuh."""

    _fields_ = (
        ("source", ctypes.c_void_p), ("source_stride", ctypes.c_longlong), ("target", ctypes.c_void_p),
        ("steps", Step * STEPS),
        *((name, ctypes.c_int) for name in (
            "count", "height", "width", "tile_height", "tile_width", "even_bytes", "shared_bytes")),
    )  # fmt: skip


class Side(NamedTuple):
    """One step of one side."""

    table: Table  # (pixels that the step makes,)
    taps: int  # that count anywhere


class ResizePlan:
    """From pictures of (height, width) `source` to `target`.

    `tables` uint8, to be copied to the device once. Raises BackendFault for a picture too large for a tile.
    """

    def __init__(self, source: Size, target: Size):
        self.source, self.target = source, target
        sizes = [source, *(steps(source, target) or [target])]  # a picture of the right size is copied
        self._bilinear = [is_bilinear(*pair) or grows(*pair) for pair in pairwise(sizes)]
        self._sides = [_sides(*pair) for pair in pairwise(sizes)]
        self.tile, self._bytes = self._fitting_tile()
        self.tables = np.concatenate([side.table.view(np.uint8) for of in self._sides for side in of])

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks across and down."""
        (height, width), (tile_height, tile_width) = self.target, self.tile
        return -(-width // tile_width), -(-height // tile_height)

    def problem(self, source: int, stride: int, target: int, tables: int) -> Resize:
        """All by address; `stride` is bytes from one row of the source to the next."""
        made = Resize(source, stride, target, count=len(self._sides))
        made.height, made.width = self.target
        made.tile_height, made.tile_width = self.tile
        made.even_bytes, made.shared_bytes = self._bytes[0], sum(self._bytes)
        at = tables
        for k, (rows, columns) in enumerate(self._sides):
            below = at + rows.table.nbytes
            made.steps[k] = Step(at, below, rows.taps, columns.taps, self._bilinear[k])
            at = below + columns.table.nbytes
        return made

    def _fitting_tile(self) -> tuple[Size, tuple[int, int]]:
        if len(self._sides) <= STEPS:
            for tile in TILES:
                needed = self._shared_bytes(tile)
                if sum(needed) <= SHARED_BYTES:
                    return tile, needed
        sizes = " to ".join(f"{width}x{height}" for height, width in (self.source, self.target))
        hint = "Set the camera to a smaller picture, or set a region of interest."
        raise BackendFault("the picture is too large to be resized on the GPU", sizes, hint)

    def _shared_bytes(self, tile: Size) -> tuple[int, int]:
        """Of steps 0, 2, ... and of steps 1, 3, ...; the last step writes to the target."""
        rows, columns = (_largest([of[k] for of in self._sides], tile[k]) for k in range(2))
        needed = [CHANNELS * r * c for r, c in zip(rows, columns, strict=True)]
        even, odd = max(needed[::2], default=0), max(needed[1::2], default=0)
        return -(-even // ALIGNMENT) * ALIGNMENT, odd


def _largest(sides: list[Side], tile: int) -> list[int]:
    """The most pixels that any tile needs of each step but the last."""
    first = np.arange(0, len(sides[-1].table), tile)
    last = np.minimum(first + tile, len(sides[-1].table)) - 1
    needed = []
    for table, taps in reversed(sides[1:]):
        first, last = table["first"][first], table["first"][last] + taps - 1
        needed.append(int((last - first).max()) + 1)
    return needed[::-1]


def grows(have: Size, step: Size) -> bool:
    """Whether a step makes a side longer: OpenCV averages no areas then."""
    return any(side < next_side for side, next_side in zip(have, step, strict=True))


def _sides(have: Size, step: Size) -> tuple[Side, Side]:
    """Rows and columns of one step."""
    weights = _weights(have, step)
    rows, columns = (_side(weights(*pair), pair[0]) for pair in zip(have, step, strict=True))
    return rows, columns


class Weights(NamedTuple):
    """Of each pixel that a step makes: where its neighbours begin, float32 (pixels, TAPS) what they weigh."""

    first: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


def _weights(have: Size, step: Size) -> Callable[[int, int], Weights]:
    if is_bilinear(have, step):
        return _bilinear
    return _area_that_grows if grows(have, step) else _area


def _side(found: Weights, side: int) -> Side:
    """As a table; neighbours beyond the end weigh nothing, and are not read."""
    taps = int(np.flatnonzero(found.weights.any(axis=0)).max()) + 1
    first = np.minimum(found.first, side - taps)
    places = np.arange(TAPS) - (found.first - first)[:, None]  # moved back by so many
    moved = np.take_along_axis(found.weights, np.maximum(places, 0), axis=1)
    table = np.zeros(len(first), ROW)
    table["first"], table["weights"] = first, np.where(places >= 0, moved, 0)
    return Side(table, taps)


def _bilinear(have: int, wanted: int) -> Weights:
    """As cv2.INTER_LINEAR: centres of pixels lie on each other."""
    place = (np.arange(wanted) + 0.5) * (have / wanted) - 0.5
    first = np.floor(place)
    return _between(first, place.astype(np.float32) - first.astype(np.float32), have)


def _area_that_grows(have: int, wanted: int) -> Weights:
    """As cv2.INTER_AREA where one side grows: bilinear, but a pixel keeps its value inside."""
    made = np.arange(wanted)
    first = np.floor(made * (have / wanted))
    share = (made + 1 - (first + 1) * (wanted / have)).astype(np.float32)
    return _between(first, np.where(share <= 0, np.float32(0), share - np.floor(share)), have)


def _between(first: npt.NDArray[np.float64], share: npt.NDArray[np.float32], have: int) -> Weights:
    """Two pixels in 2048ths, `share` of the second; beyond the ends the pixel at the end."""
    share = np.where((first < 0) | (first >= have - 1), np.float32(0), share)
    first = np.clip(first, 0, have - 1)
    weights = np.stack([1 - share, share, 0 * share], axis=1)
    return Weights(first.astype(np.int64), np.rint(weights * np.float32(WHOLE)))


def _area(have: int, wanted: int) -> Weights:
    """As cv2.INTER_AREA: the mean of what lies under a pixel."""
    scale = have / wanted
    begin = np.arange(wanted) * scale
    end = np.minimum(begin + scale, have)
    first = np.floor(begin + LEAST_SHARE)
    pixels = first[:, None] + np.arange(TAPS)
    share = np.minimum(pixels + 1, end[:, None]) - np.maximum(pixels, begin[:, None])
    share[share <= LEAST_SHARE] = 0
    weights = share / share.sum(axis=1, keepdims=True)
    return Weights(first.astype(np.int64), weights.astype(np.float32))
