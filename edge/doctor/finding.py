"""What one check of the doctor found."""

from dataclasses import asdict, dataclass
from enum import Enum

Json = dict[str, str]


class State(Enum):
    """OK: nothing to do. WARN: it runs, but not as it should for long. FAIL: it does not run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


COLOURS = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `todo` is "" where there is nothing to do."""

    what: str
    state: State
    detail: str
    todo: str = ""

    def to_json(self) -> Json:
        """As `--json` prints it."""
        return {**asdict(self), "state": self.state.value}
