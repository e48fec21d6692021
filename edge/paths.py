"""Can a result be written where it is wanted? Asked before a long job, not at its end. Where caches lie."""

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edge.errors import DataError


def check_file(path: Path, option: str) -> None:
    """Raises DataError where no file can be written at `path`, naming the option that gave it."""
    if path.is_dir():
        raise DataError("this is a folder", f"{option} {path}", f"Give a file, e.g. {path / 'report.html'}.")
    if not path.parent.is_dir():
        hint = f"Make it: mkdir -p {shlex.quote(str(path.parent))}"
        raise DataError("there is no such folder", f"{option} {path}", hint)
    check_folder(path.parent, option)


def check_folder(folder: Path, option: str) -> None:
    """Raises DataError where no files can be written into `folder`; it need not be there yet."""
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        hint = "Give another folder, or check its rights and the free space."
        raise DataError(f"cannot write here: {error.strerror}", f"{option} {folder}", hint) from error


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/edge-inspect`, by default `~/.cache/edge-inspect`."""
    base = Path(environ.get("XDG_CACHE_HOME", ""))  # the specification: a relative path is to be ignored
    return (base if base.is_absolute() else Path.home() / ".cache") / "edge-inspect"
