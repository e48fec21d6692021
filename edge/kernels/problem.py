"""The structures of `problem.cuh` for Python, and where in memory everything lies."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd

import numpy as np

from edge.kernels.constants import (
    BRANCHES,
    CHUNK,
    CONTEXTS,
    MAX_RADIUS,
    NETWORKS,
    PARTS,
    SCALES,
    Constants,
)

SCORES = "affinity.scores"  # as a graph and an engine name the kernel's scores
VECTOR_BYTES = 16  # the widest load
ALIGNMENT = 256  # bytes; what cudaMalloc promises, and more than any load here needs


class Scale(ctypes.Structure):
    """`Scale` of problem.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "teacher", "globl", "local", "gain", "offset", "contexts", "sheets")),
        *((name, ctypes.c_int) for name in (
            "channels", "padded_channels", "height", "width", "cell_height", "cell_width", "cell_rows",
            "cell_columns", "padded_cells", "cell_vector", "wide")),
    )  # fmt: skip


class Launch(ctypes.Structure):
    """`Launch` of problem.cuh."""

    _fields_ = tuple((name, ctypes.c_int) for name in ("blocks", "threads", "shared_bytes"))


class Problem(ctypes.Structure):
    """`Problem` of problem.cuh."""

    _fields_ = (
        ("scales", Scale * SCALES),
        *((name, ctypes.c_void_p) for name in ("map", "scores", "places", "tickets")),
        ("low", ctypes.c_float * BRANCHES),
        ("span", ctypes.c_float * BRANCHES),
        ("blur", ctypes.c_float * (2 * MAX_RADIUS + 1)),
        *((name, ctypes.c_int) for name in (
            "radius", "top", "cosine", "pictures", "input_height", "input_width")),
        ("launches", Launch * 3),
    )  # fmt: skip


def map_name(network: str, k: int) -> str:
    """What a graph and an engine call a map of "teacher", "global" or "local" at scale `k`."""
    return f"affinity.{network}{k}"


@dataclass(frozen=True)
class Maps:
    """Addresses of FP16 maps (pictures, channels, height, width), per scale; local None without a target."""

    teacher: Sequence[int | None]
    globl: Sequence[int | None]
    local: Sequence[int | None]

    def of_scale(self, k: int) -> dict[str, int | None]:
        """Their addresses by the names that `Scale` has for them."""
        return {"teacher": self.teacher[k], "globl": self.globl[k], "local": self.local[k]}


class Layout:
    """Where everything lies, in two pieces of memory that the caller provides.

    `tables` uint8: gains and offsets, to be copied to the device once. `scratch_bytes`: of any content; one
    scratch serves one launch at a time.
    """

    def __init__(self, constants: Constants, pictures: int):
        self.constants, self.pictures = constants, pictures
        arrays = [a for pair in zip(constants.gains, constants.offsets, strict=True) for a in pair]
        self._tables = _starts([a.nbytes for a in arrays])
        self.tables = np.zeros(self._tables[-1], np.uint8)
        for start, array in zip(self._tables, arrays, strict=False):
            self.tables[start : start + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
        scales = [_shape(constants, k) for k in range(SCALES)]
        contexts = [2 * NETWORKS * s.padded_cells * s.padded_channels for s in scales]  # FP16
        sheets = [4 * BRANCHES * s.height * s.width for s in scales]
        places, tickets = 4 * PARTS * scales[0].height * scales[0].width, 4
        self._scratch = _starts([pictures * size for size in (*contexts, *sheets, places, tickets)])
        self.scratch_bytes = self._scratch[-1]

    def problem(self, maps: Maps, tables: int, scratch: int, anomaly_map: int, scores: int) -> Problem:
        """All by address: maps in; float32 anomaly_map (pictures, H, W) and scores (pictures, 2) out."""
        c, at = self.constants, [scratch + start for start in self._scratch]
        return Problem(
            scales=tuple(self._scale(k, maps.of_scale(k), tables, at) for k in range(SCALES)),
            map=anomaly_map, scores=scores, places=at[2 * SCALES], tickets=at[2 * SCALES + 1],
            low=tuple(c.low), span=tuple(c.span), blur=tuple(c.blur), radius=len(c.blur) // 2, top=c.top,
            cosine=c.cosine, pictures=self.pictures,
            input_height=c.input_size[0], input_width=c.input_size[1],
            launches=tuple(Launch(*shape) for shape in c.launches()),
        )  # fmt: skip

    def _scale(self, k: int, maps: dict[str, int | None], tables: int, scratch: Sequence[int]) -> Scale:
        scale = _shape(self.constants, k, aligned=all((a or 0) % VECTOR_BYTES == 0 for a in maps.values()))
        for name, address in maps.items():
            setattr(scale, name, address)
        scale.gain, scale.offset = tables + self._tables[2 * k], tables + self._tables[2 * k + 1]
        scale.contexts, scale.sheets = scratch[k], scratch[SCALES + k]
        return scale


def _shape(constants: Constants, k: int, aligned: bool = True) -> Scale:
    """A scale without its addresses."""
    (height, width), (cell_height, cell_width) = constants.sizes[k], constants.cells[k]
    rows, columns = height // cell_height, width // cell_width
    return Scale(
        channels=constants.channels[k], padded_channels=_padded(constants.channels[k], CHUNK), height=height,
        width=width, cell_height=cell_height, cell_width=cell_width, cell_rows=rows, cell_columns=columns,
        padded_cells=_padded(rows * columns, CONTEXTS),
        cell_vector=gcd(8, width, cell_width) if aligned else 1, wide=aligned and height * width % 8 == 0,
    )  # fmt: skip


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each piece begins when they lie one after the other; last, where the memory ends."""
    return [0, *accumulate(_padded(size, ALIGNMENT) for size in sizes)]


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
