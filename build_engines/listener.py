"""Who is told what a build does. This one listens to nothing; the command line's shows it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from build_engines.gate import GateResult
    from build_engines.sensitivity import Sensitivity


class Listener:
    """Override what is of interest."""

    def say(self, text: str) -> None:
        """What is being done now."""

    def note(self, text: str) -> None:
        """What should be known when all is done."""

    def islands(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """What of a half-precision graph stays in FP32: (operations, what they are, why)."""

    def sensitivities(self, table: "Sequence[Sensitivity]", in_float: Sequence[str]) -> None:
        """How each convolution bears INT8, the worst first, and which of them stay in float."""

    def judged(self, result: "GateResult") -> None:
        """The gate's figures, passed or not."""
