"""What the user typed, and the station that comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.engines.engine import ISOLATED, Housing
from edge.errors import CameraLost, OutputLost
from edge.recipe import Recipe
from edge.station.archive import Archive
from edge.station.capture import Policy
from edge.station.evidence import EvidenceWriter
from edge.station.line import LineOptions
from edge.station.loop import Station
from edge.station.outbox import Outbox


@dataclass(frozen=True)
class RunOptions:
    """`edge-inspect run`, as typed."""

    camera: str
    engine: Path
    outputs: Sequence[str] = ()
    backend: str = "auto"
    policy: Policy = Policy.LATEST
    save: Path | None = None
    save_all: bool = False
    count: int = 0
    rebuild: bool = False  # a plan that does not fit this machine
    housing: Housing = ISOLATED
    line: LineOptions = field(default_factory=LineOptions)


@dataclass
class Running:
    """A station that is about to run, with all its parts."""

    station: Station
    picture_ms: float  # what one picture takes here, with the engine that the station begins with
    outboxes: dict[str, Outbox | Archive] = field(default_factory=dict)  # URI without password -> outbox
    evidence: EvidenceWriter | None = None

    @property
    def recipe(self) -> Recipe:
        """That the next part is judged by."""
        return self.station.recipe

    def exit_code(self) -> int:
        """0, or the code of what never worked: camera 4, an output 5 (docs/errors.md)."""
        if self.station.counters.total and not self.station.capture.counters.frames:
            return CameraLost.exit_code
        silent = [box for box in self.outboxes.values() if box.last_error and not box.counters.sent]
        return OutputLost.exit_code if silent else 0
