"""Files that are there whole or not at all, whatever ends the program."""

import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_S = 3600.0  # no write takes so long


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside, flush to disk, rename. Raises OSError naming `path`.

    What does not come to its end, by a full disk or by Ctrl-C, leaves nothing behind.
    """
    with _part(path, data) as part:
        _rename(part, path)


def write_pair(large: Path, data: bytes, small: Path, text: bytes) -> None:
    """Both or neither: where one cannot be written, both are as they were before.

    `small` is kept in memory meanwhile. Raises OSError naming the one that failed.
    """
    before = content_of(small)
    with _part(large, data) as part:
        try:
            write_atomically(small, text)
            _rename(part, large)
        except BaseException:  # a signal may come when one is renamed already
            if part.exists() and content_of(small) != before:
                small.unlink() if before is None else write_atomically(small, before)
            raise


def sweep(folder: Path, name: str = "") -> None:
    """Remove what writers of `name` (of any file: "") left in `folder` when they were killed an hour ago.

    Whether a writer still lives its number does not tell: it may be in another container that shares the
    folder. What cannot be removed stays.
    """
    before = time.time() - LEFT_S
    for part in folder.glob(f"{glob.escape(name) or '*'}.*.part"):
        if part.name.split(".")[-2].isdecimal():
            with suppress(OSError):
                if part.stat().st_mtime < before:
                    part.unlink()


@contextmanager
def _part(path: Path, data: bytes) -> Iterator[Path]:
    """All of `data` in a file beside `path`, which is gone afterwards. Raises OSError naming `path`."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two at once must not write one file
    try:
        with _naming(path), part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def content_of(path: Path) -> bytes | None:
    """None where there is no such file."""
    return path.read_bytes() if path.is_file() else None


def _rename(part: Path, path: Path) -> None:
    with _naming(path):
        part.replace(path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
