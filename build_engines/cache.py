"""Plans that were built before: building the same graph again for the same GPU takes no time.

A plan's name is the sha256 of all that goes into it: the ONNX, the builder's version, the GPU, the options.
Files are written atomically, so a build that was interrupted is not there; the newest MOST_PLANS are kept.
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
        if path.is_file():
            path.touch()  # the newest are kept
            return path.read_bytes()
        self.folder.mkdir(parents=True, exist_ok=True)
        say(f"building for SM {sm} with {builder.name}")
        timing = self.folder / f"{builder.name.replace(' ', '-')}.sm{sm}.timing"
        known = timing.read_bytes() if timing.is_file() else b""
        plan, measured = builder.build(model, sm, batch, known)
        if measured:
            write_atomically(timing, measured)
        write_atomically(path, plan)
        self._prune()
        return plan

    def _prune(self) -> None:
        plans = sorted(self.folder.glob("*.plan"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in plans[MOST_PLANS:]:
            old.unlink(missing_ok=True)


def plan_key(model: bytes, builder: str, sm: int, batch: int) -> str:
    """Hex sha256 over everything that a plan depends on."""
    options = f"{builder}\0sm{sm}\0batch{batch}\0user allocation\0".encode()
    return hashlib.sha256(options + hashlib.sha256(model).digest()).hexdigest()
