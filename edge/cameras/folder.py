"""A folder of pictures, or one picture, as a camera: for trying, evaluating and showing.

FOLDER?recursive=1&loop=1&fps=5

recursive  1: pictures of the folders below as well (default 0)
loop       1: start again after the last picture (default 0: EndOfStream)
fps        at most so many pictures a second (default 0: as fast as asked)
"""

import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from edge.errors import DataError, EndOfStream
from edge.frame import Shot
from edge.picture.images import list_images, read_image


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """What stands behind the question mark."""

    recursive: bool = False
    loop: bool = False
    fps: float = 0.0


def folder_settings(uri: str) -> tuple[Path, FolderSettings]:
    """Split path and settings; a folder whose name holds a question mark is taken as it is."""
    if Path(uri).exists():
        return Path(uri), FolderSettings()
    path, _, query = uri.partition("?")
    hint = "Known: recursive=1, loop=1, fps=NUMBER."
    try:
        given = {name: float(value) for name, value in parse_qsl(query, keep_blank_values=True)}
        if unknown := given.keys() - FolderSettings.__slots__:
            raise DataError(f"unknown setting {min(unknown)!r}", uri, hint)
        flags = {name: bool(given.pop(name)) for name in ("recursive", "loop") if name in given}
        return Path(path), FolderSettings(**flags, **given)  # type: ignore[arg-type]
    except ValueError as error:
        raise DataError(f"the setting cannot be read: {error}", uri, hint) from error


class FolderCamera:
    """Gives the pictures in the order of their names. Not live: it waits for whoever asks."""

    live = False

    def __init__(self, path: Path, settings: FolderSettings | None = None) -> None:
        self.uri = str(path)
        self._settings = settings or FolderSettings()
        self._root = path if path.is_dir() else path.parent
        self._files = _pictures(path, self._settings.recursive)
        self._next = 0
        self._due = time.monotonic()

    def read(self, timeout_s: float) -> Shot:
        """The next picture, labelled with its path below the folder. A broken file raises DataError."""
        if self._next == len(self._files):
            if not self._settings.loop:
                raise EndOfStream
            self._next = 0
        self._pace()
        file = self._files[self._next]
        self._next += 1
        return Shot(read_image(file), label=file.relative_to(self._root).as_posix())

    def close(self) -> None:
        """No more pictures."""
        self._files, self._next, self._settings = [], 0, FolderSettings()

    def _pace(self) -> None:
        if self._settings.fps > 0:
            time.sleep(max(0.0, self._due - time.monotonic()))
            self._due = time.monotonic() + 1 / self._settings.fps


def _pictures(path: Path, recursive: bool) -> list[Path]:
    if path.is_file():
        return [path]
    below = sorted(d for d in path.rglob("*") if d.is_dir()) if recursive else []
    files = [file for folder in (path, *below) for file in list_images(folder)]
    if not files:
        hint = "Name another folder, or add ?recursive=1 for the folders below."
        raise DataError("there are no pictures here", str(path), hint)
    return files
