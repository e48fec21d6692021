"""What a station has judged since its start."""

from collections import Counter, deque
from dataclasses import dataclass, field

from edge.frame import Frame
from edge.verdict import Verdict

KEPT_TIMINGS = 2_000  # the summary speaks of the last ones; a station runs for months
KEPT_LABELS = 100  # kinds that a source may name; a folder names every file, and those are not counted


@dataclass(slots=True)
class StationCounters:
    """Since start. `blind` verdicts answered no picture, all others one."""

    total: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    # Judged parts: (what the source said of the picture that decided, outcome).
    by_label: Counter[tuple[str, str]] = field(default_factory=Counter)
    blind: int = 0
    observer_faults: int = 0
    total_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMINGS))
    infer_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMINGS))

    def add(self, frame: Frame, verdict: Verdict) -> None:
        """Count one part's verdict; `frame` is the last picture of it."""
        self.total += 1
        self.outcomes[verdict.outcome.value] += 1
        self.reasons[verdict.reason.name] += 1
        key = (verdict.label or "", verdict.outcome.value)
        if (
            verdict.label
            and not verdict.reason.is_fault
            and (key in self.by_label or len(self.by_label) < KEPT_LABELS)
        ):
            self.by_label[key] += 1
        if not frame.pixels.size:
            self.blind += 1
        elif not verdict.reason.is_fault:
            self.total_ms.append(verdict.total_ms)
            self.infer_ms.append(verdict.infer_ms)
