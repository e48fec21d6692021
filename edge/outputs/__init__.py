"""Outputs behind one Protocol. To add one: a file here, one `case` below, one line in the contract test."""

from typing import Protocol

from edge.verdict import Verdict


class Output(Protocol):
    """One place that verdicts go to. Lives in its outbox's thread, so it may block up to its own timeout."""

    @property
    def uri(self) -> str:
        """What the user typed, without password."""

    def send(self, verdict: Verdict) -> None:
        """Publish one verdict. Raises OutputLost."""

    def beat(self, counter: int, healthy: bool) -> None:
        """Show life, about once a second; `healthy` False means: the loop is stalled. Raises OutputLost."""

    def close(self) -> None:
        """Withdraw the verdict and let go; may be called twice."""
