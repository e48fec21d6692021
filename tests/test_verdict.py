"""Nothing but a finite score below the limit is a pass, whatever comes in."""

import itertools
import math

import numpy as np
import pytest

from edge.frame import Frame, Inspection, Shot, make_frame
from edge.recipe import Recipe
from edge.verdict import Outcome, Reason, Verdict, decide

RECIPE = Recipe("loco", (64, 64), review=1.0, fail=2.0, deadline_ms=100.0)
MS = 1_000_000


def frame() -> Frame:
    return make_frame(Shot(np.zeros((4, 4, 3), np.uint8)), 7, "test", captured_ns=1000 * MS)


def inspection(score: float) -> Inspection:
    return Inspection(7, score, np.zeros((4, 4), np.float32), "sha", 2 * MS, 3 * MS)


@pytest.mark.parametrize(
    "score, outcome, reason",
    [
        (-1.0, Outcome.PASS, Reason.WITHIN_LIMITS),
        (0.999, Outcome.PASS, Reason.WITHIN_LIMITS),
        (1.0, Outcome.REVIEW, Reason.BORDERLINE),
        (1.999, Outcome.REVIEW, Reason.BORDERLINE),
        (2.0, Outcome.FAIL, Reason.ANOMALY),
        (math.inf, Outcome.FAIL, Reason.SCORE_INVALID),
        (-math.inf, Outcome.FAIL, Reason.SCORE_INVALID),
        (math.nan, Outcome.FAIL, Reason.SCORE_INVALID),
    ],
)
def test_a_score_is_judged_by_its_limits(score: float, outcome: Outcome, reason: Reason) -> None:
    verdict = decide(frame(), inspection(score), RECIPE, 1010 * MS)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.total_ms == 10.0
    assert (verdict.preprocess_ms, verdict.infer_ms) == (2.0, 3.0)


def test_a_late_good_answer_is_a_fault() -> None:
    verdict = decide(frame(), inspection(0.1), RECIPE, 1000 * MS + 100 * MS + 1)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.DEADLINE_MISSED)


@pytest.mark.parametrize("reason", list(Reason))
def test_no_reason_alone_makes_a_pass(reason: Reason) -> None:
    verdict = decide(frame(), reason, RECIPE, 1010 * MS)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.is_fault
    assert verdict.score is None


def test_the_fail_safe_outcome_is_the_recipes() -> None:
    careful = Recipe("loco", (64, 64), 1.0, 2.0, on_fault="review")
    assert decide(frame(), Reason.CAMERA_LOST, careful, 1010 * MS).outcome is Outcome.REVIEW


@pytest.mark.parametrize(
    "reason, score",
    [
        *itertools.product([r for r in Reason if r is not Reason.WITHIN_LIMITS], [0.5]),
        *((Reason.WITHIN_LIMITS, s) for s in (None, math.nan, math.inf, -math.inf, 1.0, 5.0)),
    ],
)
def test_a_pass_that_was_not_earned_cannot_be_constructed(reason: Reason, score: float | None) -> None:
    with pytest.raises(ValueError, match="refusing a PASS"):
        Verdict(1, None, Outcome.PASS, reason, score, 1.0, "loco@x", 0, 1)


def test_the_answer_for_another_part_is_no_answer() -> None:
    stranger = Inspection(8, 0.1, np.zeros((4, 4), np.float32), "sha", 0, 0)
    verdict = decide(frame(), stranger, RECIPE, 1010 * MS)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.STATION_FAULT)
