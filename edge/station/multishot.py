"""One part, several pictures: their verdicts become one. Pure.

any picture judged bad                   fail: the part has a fault, whatever the others say
any picture missing or not judged        no decision, with that picture's reason
any picture between the limits           review
all of them good                         pass, with the score that came nearest to its limit
"""

from collections.abc import Sequence
from dataclasses import replace

from edge.verdict import Outcome, Reason, Verdict


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """The part's verdict: that of the picture which decides, over the time of all.

    Oldest first, at least one; all of one part, so with its part id and request. A picture that did not come
    is there with the verdict that says so.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    decisive = max(verdicts, key=lambda verdict: (_rank(verdict), _nearness(verdict)))
    return replace(
        decisive,
        frame_id=verdicts[-1].frame_id,
        captured_ns=min(verdict.captured_ns for verdict in verdicts),
        decided_ns=max(verdict.decided_ns for verdict in verdicts),
        preprocess_ms=sum(verdict.preprocess_ms for verdict in verdicts),
        infer_ms=sum(verdict.infer_ms for verdict in verdicts),
    )


def _rank(verdict: Verdict) -> int:
    """What decides, lowest first."""
    if verdict.reason.is_fault:
        return 2
    if verdict.outcome is Outcome.FAIL and verdict.reason is Reason.ANOMALY:
        return 3
    return 0 if verdict.outcome is Outcome.PASS else 1


def _nearness(verdict: Verdict) -> float:
    """The score against its own limit: two engines' scores are on two scales."""
    return 0.0 if verdict.score is None else verdict.score / (verdict.threshold or 1.0)
