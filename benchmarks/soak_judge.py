"""What the soak counts. Pure: what the line saw of each part, and the rows of the archive."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

PASS = 1  # register VERDICT
WARM_PARTS = 2500  # of each process: its bounded memories (events, timings) fill up
MOST_DETAILS = 20


@dataclass(frozen=True, slots=True)
class Part:
    """One part as the line saw it."""

    number: int
    good: bool
    seen: bool  # False: no honest picture of it could be taken while it was there
    verdicts: tuple[int, ...] = ()  # register VERDICT of every result taken for its id; normally one


@dataclass
class Counts:
    """The result. The first three have to be 0."""

    parts: int = 0
    false_pass: int = 0  # passes for bad parts, or for parts that no picture was taken of
    mispaired: int = 0  # verdicts with another part's picture, or that differ between PLC and archive
    lost_verdicts: int = 0  # taken by the PLC, not in the archive
    strangers: int = 0  # results for ids that were never a part
    passed: int = 0
    failed: int = 0
    undecided: int = 0
    without_result: int = 0  # rejected by the PLC, since nothing came
    good_stopped: int = 0  # good parts that were not passed: the price of the faults
    faults: dict[str, int] = field(default_factory=dict)
    safe_state_ms: dict[str, list[float]] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)  # the first things that went wrong

    def add_part(self, part: Part, rows: Sequence[Mapping[str, Any]]) -> None:
        """One part that has gone by, with the archive's rows that name it."""
        self.parts += 1
        passed = PASS in part.verdicts
        self.passed += passed
        self.failed += not passed and 2 in part.verdicts
        self.undecided += not passed and 2 not in part.verdicts and bool(part.verdicts)
        self.without_result += not part.verdicts
        self.good_stopped += part.good and not passed
        if passed and not (part.good and part.seen):
            self.false_pass += 1
            self._tell(f"false pass: {part}, archive {list(rows)}")
        self._pair(part, rows)

    def add_stranger(self, part_id: int, verdict: int) -> None:
        """A result for something that is no part."""
        self.strangers += 1
        self.mispaired += 1
        self._tell(f"a result {verdict} for the id {part_id}, which is no part")

    def summary(self, samples: Sequence["Sample"]) -> dict[str, Any]:
        """For people and --json."""
        every = [ms for times in self.safe_state_ms.values() for ms in times]
        figures = asdict(self)
        figures["safe_state_ms"] = {
            kind: {"median": round(float(np.median(times)), 1), "max": round(max(times), 1), "n": len(times)}
            for kind, times in sorted(self.safe_state_ms.items())
        }
        return figures | {
            "safe_state_p99_ms": round(float(np.quantile(every, 0.99)), 1) if every else None,
            "leaked_bytes_per_1000": leaked_bytes_per_1000(samples),
            "handles_grown": handles_grown(samples),
            "lives": len({sample.life for sample in samples}),
        }

    def _pair(self, part: Part, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if row["score"] is not None and row["label"].split()[1] != str(part.number):
                self.mispaired += 1
                self._tell(f"part {part.number} judged by the picture of {row['label']}: {row}")
        told = [{"pass": 1, "fail": 2}.get(row["outcome"], 3) for row in rows]
        told = [3 if row["reason_code"] >= 2 else code for row, code in zip(rows, told, strict=True)]
        for verdict in part.verdicts:
            if verdict in told:
                told.remove(verdict)
                continue
            self.lost_verdicts += not told
            self.mispaired += bool(told)
            self._tell(f"part {part.number}: the PLC took {verdict}, the archive says {list(rows)}")

    def _tell(self, text: str) -> None:
        if len(self.details) < MOST_DETAILS:
            self.details.append(text)


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory and handles of the station at one moment."""

    life: int  # which process: one that was killed has a successor
    parts: int  # that this process had judged
    resident: int  # bytes, children included
    handles: int


def leaked_bytes_per_1000(samples: Sequence[Sample]) -> float | None:
    """Median slope between samples of one life (Theil-Sen), weighted by nothing; None: too few."""
    slopes: list[float] = []
    for life in _lives(samples):
        warm = [sample for sample in life if sample.parts >= WARM_PARTS]
        slopes += [
            (b.resident - a.resident) / (b.parts - a.parts) * 1000
            for i, a in enumerate(warm)
            for b in warm[i + 1 :]
            if b.parts - a.parts >= 1000
        ]
    return round(float(np.median(slopes)), 1) if slopes else None


def handles_grown(samples: Sequence[Sample]) -> int:
    """The most that a life's last sample has over its first warm one."""
    grown = [0]
    for life in _lives(samples):
        warm = [sample for sample in life if sample.parts >= WARM_PARTS]
        grown += [warm[-1].handles - warm[0].handles] if len(warm) > 1 else []
    return max(grown)


def _lives(samples: Sequence[Sample]) -> list[list[Sample]]:
    return [[s for s in samples if s.life == life] for life in sorted({s.life for s in samples})]
