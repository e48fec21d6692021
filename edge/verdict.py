"""The verdict, and the one place where a pass is made.

Pure and total: every input, however broken, gives a verdict, and nothing but a finite score below the
limit gives a pass.
"""

import math
from dataclasses import dataclass
from enum import Enum, IntEnum

from edge.frame import Frame, Inspection
from edge.recipe import Recipe


class Outcome(Enum):
    """What happens with the part. Only PASS lets it through; REVIEW is for a person's eyes."""

    PASS = "pass"
    REVIEW = "review"
    FAIL = "fail"


class Reason(IntEnum):
    """Why. The numbers are PLC register values: never renumbered, listed in docs/errors.md."""

    WITHIN_LIMITS = 0
    ANOMALY = 1
    BORDERLINE = 2
    CAMERA_LOST = 10
    CAMERA_TIMEOUT = 11
    FRAME_FROZEN = 12
    FRAME_BLANK = 13
    PART_NOT_FOUND = 14
    FRAME_INCOMPLETE = 15
    FRAME_EXPOSURE = 16
    FRAME_BLURRED = 17
    FRAME_SHIFTED = 18
    BACKEND_FAULT = 20
    SCORE_INVALID = 21
    DEADLINE_MISSED = 30
    FRAME_STALE = 31
    STATION_OVERLOADED = 32
    RECIPE_MISMATCH = 40
    RECIPE_NOT_LOADED = 41
    CHALLENGE_FAILED = 42
    OUTPUT_LOST = 50
    STATION_FAULT = 60
    GATE_NO_VERDICT = 70
    GATE_NOT_CONFIRMED = 71
    GATE_UNEXPECTED = 72
    GATE_PASSED_UNSEEN = 73
    GATE_POSITION_LOST = 74
    PARTS_LOST = 75
    PART_EXTRA = 76
    REJECTS_IN_A_ROW = 77

    @property
    def is_fault(self) -> bool:
        """True where the part was not judged at all; such a verdict says nothing about the part."""
        return self >= Reason.CAMERA_LOST


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one part.

    `score` is None where the part was not judged. Raises ValueError when asked to be a PASS without a
    finite score below the threshold: no code path can let a part through by mistake.
    """

    frame_id: int
    part_id: int | None
    outcome: Outcome
    reason: Reason
    score: float | None
    threshold: float  # the pass limit: scores below it pass
    recipe: str  # "name@digest"
    captured_ns: int
    decided_ns: int
    preprocess_ms: float = 0.0
    infer_ms: float = 0.0
    label: str | None = None
    request: int | None = None  # the station's own number of the trigger that asked; None in free run
    recipe_number: int = 0  # as the PLC calls the recipe that judged it; 0: the only one there is
    lot: int | None = None  # the PLC's number of the lot

    def __post_init__(self) -> None:
        if self.outcome is not Outcome.PASS:
            return
        judged = self.score is not None and math.isfinite(self.score) and self.score < self.threshold
        if self.reason is not Reason.WITHIN_LIMITS or not judged:
            raise ValueError(f"refusing a PASS with reason {self.reason.name} and score {self.score}")

    @property
    def total_ms(self) -> float:
        """Milliseconds from the picture to the decision."""
        return (self.decided_ns - self.captured_ns) / 1e6


def decide(frame: Frame, result: Inspection | Reason, recipe: Recipe, now_ns: int) -> Verdict:
    """Judge one frame; never raises.

    `result` is what the model said, or the reason why there is nothing to say. `now_ns` is the time of the
    decision: later than the recipe's deadline after capture, even a good answer is a fault.
    """
    late = now_ns - frame.captured_ns > recipe.deadline_ms * 1_000_000
    if isinstance(result, Inspection) and result.frame_id != frame.id:
        result = Reason.STATION_FAULT  # the answer for another part is no answer
    if isinstance(result, Inspection):
        outcome, reason = _judge(result, recipe, late)
        score = result.score if math.isfinite(result.score) else None
        timings = (result.preprocess_ns / 1e6, result.infer_ns / 1e6)
    else:
        outcome, reason, score, timings = Outcome(recipe.on_fault), result, None, (0.0, 0.0)
        if not reason.is_fault:  # a caller may not smuggle "within limits" past the model
            reason = Reason.STATION_FAULT
    return Verdict(
        frame.id, frame.part_id, outcome, reason, score, recipe.review, recipe.identity,
        frame.captured_ns, now_ns, *timings, label=frame.label, request=frame.request,
    )  # fmt: skip


def _judge(inspection: Inspection, recipe: Recipe, late: bool) -> tuple[Outcome, Reason]:
    fault = Outcome(recipe.on_fault)
    if late:
        return fault, Reason.DEADLINE_MISSED
    if not math.isfinite(inspection.score):
        return fault, Reason.SCORE_INVALID
    if inspection.score >= recipe.fail:
        return Outcome.FAIL, Reason.ANOMALY
    if inspection.score >= recipe.review:
        return Outcome.REVIEW, Reason.BORDERLINE
    return Outcome.PASS, Reason.WITHIN_LIMITS
