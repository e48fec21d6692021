"""Plans that were built before: building the same graph again for the same GPU takes no time.

A plan's name is the sha256 of all that goes into it: the ONNX, the builder's version, the GPU, the options.
Files are written atomically, so a build that was interrupted is not there; each begins with the sha256 of the
rest, and one that does not fit it is dropped. The newest MOST_PLANS are kept.

Nothing here is ever needed: what cannot be read is built again, what cannot be written is not kept; with one
note for each fault, however many files it meets.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from build_engines.builder import EngineBuilder
from build_engines.listener import Listener
from edge.atomic import sweep, write_atomically

MOST_PLANS = 20  # 30 MB each


@dataclass(frozen=True)
class PlanCache:
    """A folder of plans, and of timings of the flavour that measures while it builds."""

    folder: Path
    listener: Listener = field(default_factory=Listener)

    def plan(self, model: bytes, builder: EngineBuilder, sm: int, batch: int) -> bytes:
        """The plan of an ONNX for a GPU: kept from before, or built. Raises BackendFault."""
        path = self.folder / f"{plan_key(model, builder.name, sm, batch)}.plan"
        notes: dict[int | None, str] = {}  # of each errno
        if kept := self._kept(path, notes):
            return kept
        self.listener.say(f"building for SM {sm} with {builder.name}")
        timing = self.folder / f"{builder.name.replace(' ', '-')}.sm{sm}.timing"
        plan, measured = builder.build(model, sm, batch, self._kept(timing, notes))
        self._keep({timing: measured, path: plan}, notes)
        for text in notes.values():
            self.listener.note(text)
        return plan

    def _kept(self, path: Path, notes: dict[int | None, str]) -> bytes:
        try:
            kept = _read(path)
        except OSError as error:
            notes.setdefault(error.errno, f"what earlier builds may have kept cannot be read: {_why(error)}")
            return b""
        if kept:
            with suppress(OSError):
                os.utime(path)  # the newest are kept
        return kept

    def _keep(self, files: dict[Path, bytes], notes: dict[int | None, str]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._prune()
            for path, content in files.items():
                if content:
                    _write(path, content)
        except OSError as error:
            notes[error.errno] = f"the next build will take as long, this one cannot be kept: {_why(error)}"

    def _prune(self) -> None:
        """Room for one more."""
        sweep(self.folder)
        for old in sorted(self.folder.glob("*.plan"), key=_written, reverse=True)[MOST_PLANS - 1 :]:
            old.unlink(missing_ok=True)


def _written(path: Path) -> int:
    """When, in ns; 0 for what another build has removed meanwhile."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _why(error: OSError) -> str:
    return f"{error.strerror or error} ({error.filename})"


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, hashlib.sha256(content).digest() + content)


def _read(path: Path) -> bytes:
    """What was written, b"" for nothing; a file that is not as it was written is dropped. Raises OSError."""
    if not path.is_file():
        return b""
    data = path.read_bytes()
    digest, content = data[:32], data[32:]  # the bytes of a sha256
    if hashlib.sha256(content).digest() == digest:
        return content
    path.unlink(missing_ok=True)
    return b""


def plan_key(model: bytes, builder: str, sm: int, batch: int) -> str:
    """Hex sha256 over everything that a plan depends on."""
    options = f"{builder}\0sm{sm}\0batch{batch}\0user allocation\0".encode()
    return hashlib.sha256(options + hashlib.sha256(model).digest()).hexdigest()
