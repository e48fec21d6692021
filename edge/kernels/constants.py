"""What a detector has fitted and the affinity kernel must know; how many blocks its launches have."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edge.errors import BackendFault

Floats = npt.NDArray[np.float32]

# As in the .cuh files of the same names; tests compare the structures' sizes.
SCALES, NETWORKS, BRANCHES, PARTS = 3, 2, 3, 2
MAX_RADIUS = 8
CONTEXT_THREADS, SHARES = 256, 16
PLACES, CONTEXTS, CHUNK, PLACE_THREADS = 64, 64, 32, 128
FUSE_THREADS, STRIP, REACH = 256, 8, 1
SHARED_BYTES = 48 * 1024 - 8 * 1024  # what every GPU gives without being asked, less what the kernels declare
TABLES = ("gains", "offsets")  # per scale
PLAIN = ("input_size", "channels", "sizes", "local", "grid", "top", "cosine")  # no arrays


class Shape(NamedTuple):
    """Of a launch: blocks of a picture, threads of a block, bytes of shared memory to ask for."""

    blocks: int
    threads: int
    shared_bytes: int


@dataclass(frozen=True, eq=False)
class Constants:
    """What the detector has fitted, and the shapes of its maps. Scales run from the finest on.

    gains, offsets: per scale float32 (3, height, width), of local, global and affinity branch (what the local
    branch has at a scale without target is not looked at); low, span float32 (3,); blur float32 (2 r + 1,).
    Raises BackendFault where the kernel is not made for it.
    """

    input_size: tuple[int, int]  # height, width in pixels
    channels: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]  # height, width in places
    local: tuple[bool, ...]  # whether the local student has a target here
    gains: Sequence[Floats]
    offsets: Sequence[Floats]
    low: Floats
    span: Floats
    blur: Floats
    grid: int  # context places are cells of a grid x grid raster
    top: int  # places whose mean is a score
    cosine: bool  # whether a student's error is squared error plus 1 - cosine, or the squared error alone

    def __post_init__(self) -> None:
        height, width = self.sizes[0]
        rows, columns = self.input_size
        fits = len(self.sizes) == SCALES and rows % height == 0 and columns % width == 0 and any(self.local)
        if not fits:
            raise _refused(f"maps {self.sizes} of a picture of {self.input_size}, local targets {self.local}")
        self._check_arrays()
        if len(self.blur) > 2 * MAX_RADIUS + 1:
            raise _refused(f"a blur over {len(self.blur)} places, {2 * MAX_RADIUS + 1} at most")
        for launch in self.launches():
            if launch.shared_bytes > SHARED_BYTES:
                raise _refused(f"{launch.shared_bytes} bytes of shared memory, {SHARED_BYTES} at most")

    def _check_arrays(self) -> None:
        """Each of its shape: the launches would read beyond a smaller one."""
        tables = [(BRANCHES, *size) for size in self.sizes]
        wanted = {"gains": tables, "offsets": tables, "low": (BRANCHES,), "span": (BRANCHES,)}
        for name, shape in wanted.items():
            array = getattr(self, name)
            found = [np.shape(a) for a in array] if name in TABLES else np.shape(array)
            types = {np.asarray(a).dtype for a in (array if name in TABLES else [array])}
            if found != shape or types != {np.dtype(np.float32)}:
                raise _refused(f"{name} of {found}, {'/'.join(map(str, types))}; it takes {shape}, float32")

    def to_bytes(self) -> bytes:
        """As one NumPy archive, for an engine or a file beside it."""
        packed = io.BytesIO()
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lists = {name: values.pop(name) for name in TABLES}
        tables = {f"{name}{k}": table for name in TABLES for k, table in enumerate(lists[name])}
        np.savez_compressed(packed, **tables, **values)
        return packed.getvalue()

    @classmethod
    def from_bytes(cls, packed: bytes) -> "Constants":
        """What `to_bytes` gave. Raises BackendFault for anything else, of another version too."""
        try:
            with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
                found: dict[str, Any] = {name: archive[name] for name in archive.files}
            for name in TABLES:
                found[name] = [found.pop(f"{name}{k}") for k in range(SCALES)]
            for name in PLAIN:
                found[name] = _plain(found[name].tolist())
            return cls(**found)
        except KeyError as error:
            raise _unreadable(f"{error} is missing") from error
        except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
            raise _unreadable(str(error)) from error

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Places (height, width) of a context place, per scale, as distillation/affinity.py cuts them."""
        return [(max(1, h // self.grid), max(1, w // self.grid)) for h, w in self.sizes]

    def launches(self) -> list[Shape]:
        """Blocks of a picture, threads and bytes of shared memory of the three launches."""
        rows = [h // ch for (h, _), (ch, _) in zip(self.sizes, self.cells, strict=True)]
        columns = [w // cw for (_, w), (_, cw) in zip(self.sizes, self.cells, strict=True)]
        cell_floats = max(n * (c + SHARES) for n, c in zip(columns, self.channels, strict=True))
        tiles = sum(-(-h * w // PLACES) for h, w in self.sizes)
        height, width = self.sizes[0]
        strip_floats = 2 * (STRIP + 2 * REACH + len(self.blur) - 1) * width
        return [
            Shape(NETWORKS * sum(rows), CONTEXT_THREADS, 4 * cell_floats),
            Shape(tiles, PLACE_THREADS, 0),
            Shape(-(-height // STRIP), FUSE_THREADS, 4 * strip_floats),
        ]


def _plain(x: Any) -> Any:
    """Lists as tuples."""
    return tuple(_plain(item) for item in x) if isinstance(x, list) else x


def _unreadable(why: str) -> BackendFault:
    hint = "Run build-engines of this version again."
    return BackendFault(f"not the kernel's constants: {why}", "edge/kernels", hint)


def _refused(what: str) -> BackendFault:
    hint = "Run the ONNX engine instead, or train with the default detector."
    return BackendFault(f"the affinity kernel is not made for {what}", "edge/kernels", hint)
