"""Teacher features, computed once and kept: the teacher is frozen, so training pays only for the students."""

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distillation.teacher import Teacher
from edge.atomic import write_atomically
from edge.errors import DataError
from edge.frame import Pixels

Progress = Callable[[int, int], None]  # done, total

Rows = Sequence[int] | npt.NDArray[np.int64]


class FeatureCache:
    """Maps of all pictures as float16 files (N, C_k, H_k, W_k), read through the page cache.

    With the Lite0 teacher 360 kB a picture of 256x256, 811 kB of the default 384x384. `key` names pictures
    and teacher: files of another key are thrown away, files of the same key are used again after an
    interrupted training. Raises DataError where the disk cannot hold them.
    """

    def __init__(self, folder: Path, teacher: Teacher, images: Pixels, device: str, progress: Progress):
        folder.mkdir(parents=True, exist_ok=True)
        self.count = len(images)
        height, width = images.shape[1:3]
        taps = zip(teacher.channels, teacher.strides, strict=True)
        shapes = [(self.count, c, height // s, width // s) for c, s in taps]
        self.paths = [folder / f"map{k}.f16" for k in range(len(shapes))]
        self.maps: list[np.memmap] = []  # type: ignore[type-arg]
        self.key = key = _key(teacher, images)
        note = folder / "key.json"
        if _read(note) != key:
            note.unlink(missing_ok=True)
            try:
                _fill(self.paths, shapes, teacher, images, device, progress)
                write_atomically(note, json.dumps(key).encode())  # last: an interrupted fill leaves no key
            except OSError as error:
                self.delete()  # what there was room for helps nobody
                raise _no_room(folder, shapes, error) from error
        self.maps = [np.memmap(p, np.float16, "r", shape=s) for p, s in zip(self.paths, shapes, strict=True)]

    def __getitem__(self, rows: Rows) -> list[Tensor]:
        """Float32 maps (B, C_k, H_k, W_k) of these rows."""
        return [torch.from_numpy(m[rows].astype(np.float32)) for m in self.maps]

    def channel_statistics(self, rows: Rows) -> list[tuple[Tensor, Tensor]]:
        """Per map the mean and standard deviation of each channel over the pictures of `rows`, shape
        (1, C, 1, 1). A channel that never changes gets a deviation that leaves it quiet."""
        return [_statistics(m, np.asarray(rows)) for m in self.maps]

    def delete(self) -> None:
        """Remove the files."""
        self.maps = []
        for path in [*self.paths, self.paths[0].with_name("key.json")]:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody put a file of their own there
            self.paths[0].parent.rmdir()


def _key(teacher: Teacher, images: Pixels) -> dict[str, object]:
    weights = hashlib.sha256()
    for tensor in teacher.state_dict().values():
        weights.update(tensor.cpu().numpy().tobytes())
    return {
        "teacher": teacher.name,
        "weights": weights.hexdigest(),
        "images": hashlib.sha256(np.ascontiguousarray(images)).hexdigest(),
        "shape": list(images.shape),
    }


def _read(note: Path) -> object:
    """The key of the files that are there; None without one, or with what a power cut left of it."""
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


@torch.inference_mode()
def _fill(
    paths: Sequence[Path], shapes: Sequence[tuple[int, ...]], teacher: Teacher, images: Pixels, device: str,
    progress: Progress, batch: int = 8,
) -> None:  # fmt: skip
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for file, shape in zip(files, shapes, strict=True):
            _reserve(file, _bytes(shape))
        for start in range(0, len(images), batch):
            rows = torch.from_numpy(images[start : start + batch]).to(device)
            for file, maps in zip(files, teacher(rows), strict=True):
                file.write(np.ascontiguousarray(maps.cpu().numpy(), np.float16).data)
            progress(min(start + batch, len(images)), len(images))
        for file in files:
            file.flush()
            os.fsync(file.fileno())


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * math.prod(shape)  # float16


def _reserve(file: BinaryIO, size: int) -> None:
    """Raises OSError at once on a full disk, not after minutes; where nothing can be reserved, `write` does.

    A memory map of a file with holes would end the process without a word: SIGBUS.
    """
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # macOS has none
        pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise


def _no_room(folder: Path, shapes: Sequence[tuple[int, ...]], error: OSError) -> DataError:
    needed = sum(map(_bytes, shapes)) / 2**20
    what = f"the teacher's features of {shapes[0][0]} pictures need {needed:.0f} MiB here: {error.strerror}"
    hint = "Free so much, or give another --out; after training they are deleted. --size 256 needs less."
    return DataError(what, str(folder), hint)


def _statistics(maps: npt.NDArray[np.float16], rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    total, squares, count = 0.0, 0.0, 0
    for start in range(0, len(rows), 16):  # float64 sums over float16 files without a copy of the whole
        part = maps[rows[start : start + 16]].astype(np.float64)
        total, squares = total + part.sum(axis=(0, 2, 3)), squares + (part**2).sum(axis=(0, 2, 3))
        count += part.shape[0] * part.shape[2] * part.shape[3]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std = np.maximum(std, 0.05 * std.mean() + 1e-6)
    return torch.from_numpy(mean).float().view(1, -1, 1, 1), torch.from_numpy(std).float().view(1, -1, 1, 1)
