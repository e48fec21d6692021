"""Plans that were built before: building the same graph again for the same GPU takes no time.

A plan's name is the sha256 of all that goes into it: the ONNX, the builder's version, the GPU, the options.
Files are written atomically, so a build that was interrupted is not there; each begins with the sha256 of the
rest, and one that does not fit it is dropped. The newest MOST_PLANS are kept.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from build_engines.builder import EngineBuilder
from edge.recipe import write_atomically

MOST_PLANS = 20  # 30 MB each


@dataclass(frozen=True)
class PlanCache:
    """A folder of plans, and of timings of the flavour that measures while it builds."""

    folder: Path

    def plan(
        self, model: bytes, builder: EngineBuilder, sm: int, batch: int, say: Callable[[str], None]
    ) -> bytes:
        """The plan of an ONNX for a GPU: kept from before, or built. Raises BackendFault, OSError."""
        path = self.folder / f"{plan_key(model, builder.name, sm, batch)}.plan"
        if kept := _read(path):
            path.touch()  # the newest are kept
            return kept
        self.folder.mkdir(parents=True, exist_ok=True)
        say(f"building for SM {sm} with {builder.name}")
        timing = self.folder / f"{builder.name.replace(' ', '-')}.sm{sm}.timing"
        plan, measured = builder.build(model, sm, batch, _read(timing))
        if measured:
            _write(timing, measured)
        _write(path, plan)
        self._prune()
        return plan

    def _prune(self) -> None:
        plans = sorted(self.folder.glob("*.plan"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in plans[MOST_PLANS:]:
            old.unlink(missing_ok=True)


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
