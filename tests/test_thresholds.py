"""Limits keep what they promise: simulated lines whose true false reject rate is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from calibration.thresholds import (
    FALSE_REJECT_RATE,
    MOST_REVIEW_STEPS,
    Thresholds,
    describe,
    fit_thresholds,
)
from edge.errors import DataError
from edge.recipe import Recipe

Line = tuple[Callable[[np.random.Generator, int], np.ndarray], Callable[[float], float]]

# How good parts score, and the true chance of a good part at or above a limit.
LINES: dict[str, Line] = {
    "normal": (lambda rng, n: rng.normal(10, 2, n), lambda limit: math.erfc((limit - 10) / 2**1.5) / 2),
    "skewed": (  # gamma of shape 4: skewness 1
        lambda rng, n: rng.gamma(4, 1, n),
        lambda limit: math.exp(-limit) * sum(limit**i / math.factorial(i) for i in range(4)),
    ),
    "largest value": (  # Gumbel: skewness 1.14, and negative scores
        lambda rng, n: rng.gumbel(0, 1, n),
        lambda limit: -math.expm1(-math.exp(-limit)),
    ),
}


@pytest.mark.parametrize("line", ["normal", "skewed"])
@pytest.mark.parametrize("n", [20, 60])
def test_the_true_rate_lies_within_the_printed_bounds(line: str, n: int) -> None:
    draw, true_rate = LINES[line]
    rng = np.random.default_rng(2024)
    fits = [fit_thresholds(draw(rng, n)) for _ in range(200)]
    rates = [true_rate(fit.review) for fit in fits]
    inside = np.mean([fit.low <= rate <= fit.high for fit, rate in zip(fits, rates, strict=True)])
    assert inside >= 0.9
    assert np.mean(rates) < 2 * FALSE_REJECT_RATE


@pytest.mark.parametrize("line", list(LINES))
@pytest.mark.parametrize("n", [5, 200])
def test_the_bounds_also_hold_at_the_ends_of_the_range(line: str, n: int) -> None:
    draw, true_rate = LINES[line]
    rng = np.random.default_rng(7)
    fits = [fit_thresholds(draw(rng, n)) for _ in range(40)]
    assert np.mean([fit.low <= true_rate(fit.review) <= fit.high for fit in fits]) >= 0.9


def test_more_pictures_give_narrower_bounds_and_lower_limits() -> None:
    scores = np.random.default_rng(0).normal(0, 1, 200)
    few, some, many = (fit_thresholds(scores[:n]) for n in (10, 40, 200))
    assert few.high > some.high > many.high
    assert few.fail > some.fail > many.fail > many.review > scores.mean()


@pytest.mark.parametrize(("factor", "shift"), [(1e-3, 0), (50, -7), (1, 1000)])
def test_unit_and_zero_of_the_score_do_not_matter(factor: float, shift: float) -> None:
    scores = np.random.default_rng(1).gamma(4, 1, 30)
    plain, moved = fit_thresholds(scores), fit_thresholds(scores * factor + shift)
    assert moved.review == pytest.approx(plain.review * factor + shift, rel=1e-6)
    assert (moved.low, moved.high) == pytest.approx((plain.low, plain.high))


def test_same_scores_give_same_limits() -> None:
    scores = np.random.default_rng(1).normal(size=25)
    assert fit_thresholds(scores) == fit_thresholds(scores)


def test_a_lower_rate_gives_a_higher_limit_with_that_expectation() -> None:
    scores = np.random.default_rng(3).normal(size=100)
    strict, loose = fit_thresholds(scores, 0.001), fit_thresholds(scores, 0.02)
    assert strict.review > loose.review
    assert strict.expected_rate == pytest.approx(0.001, rel=0.02)
    assert loose.expected_rate == pytest.approx(0.02, rel=0.02)


def test_two_pictures_give_a_limit_that_can_still_catch_something_and_say_what_it_costs() -> None:
    """What two scores leave unknown would put the limit a hundred deviations away, catching nothing."""
    fit = fit_thresholds([1.0, 2.0])
    assert fit.review <= 1.5 + MOST_REVIEW_STEPS * math.sqrt(0.5) + 0.01
    assert fit.expected_rate > FALSE_REJECT_RATE
    assert fit.high > 0.2
    assert any("cannot promise" in note for note in fit.notes)


def test_a_held_out_picture_above_the_limit_is_mentioned() -> None:
    scores = np.append(np.linspace(-1, 1, 100), 9.0)
    fit = fit_thresholds(scores, 0.02)
    assert fit.review < 9.0 and fit.above == 1
    assert any("1 of 101 held-out good pictures score above" in note for note in fit.notes)
    assert not fit_thresholds(scores[:-1]).notes


def test_equal_scores_still_pass_their_own_limit_and_are_mentioned() -> None:
    fit = fit_thresholds([3.0] * 30)
    assert 3.0 < fit.review <= fit.fail
    assert any("same score" in note for note in fit.notes)
    assert fit_thresholds([0.0] * 30).review > 0


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, math.nan, 2.0], [1.0, math.inf]])
def test_scores_that_allow_no_limit_are_refused(scores: list[float]) -> None:
    with pytest.raises(DataError, match="held-out scores"):
        fit_thresholds(scores)


def test_description_speaks_of_parts_per_shift() -> None:
    fit = Thresholds(1, 2, expected_rate=0.003, low=0.00115, high=0.00472, n=60)
    assert describe(fit) == "about 24 of 8,000 good parts per shift (9 to 38)"
    assert describe(fit, 100) == "fewer than 1 of 100 good parts per shift (0 to 1)"


def test_the_recipe_takes_the_figures() -> None:
    fit = fit_thresholds(np.random.default_rng(0).normal(size=20))
    recipe = Recipe("p", (8, 8), fit.review, fit.fail, expected_false_rejects=fit.to_recipe())
    assert recipe.expected_false_rejects["pictures"] == 20


def test_limits_carried_over_move_as_the_scores_of_the_same_pictures_do() -> None:
    scores = np.random.default_rng(0).normal(1, 0.2, 12)
    limits = fit_thresholds(scores)
    moved = limits.carried(scores, scores + 0.3)
    assert (moved.review, moved.fail) == pytest.approx((limits.review + 0.3, limits.fail + 0.3))
    assert (moved.expected_rate, moved.low, moved.high) == (limits.expected_rate, limits.low, limits.high)
    assert limits.carried(scores, scores) == limits
    with pytest.raises(DataError, match=r"11 scores for 12 good pictures.*--fp16"):
        limits.carried(scores, np.where(np.arange(12) == 3, np.nan, scores))


def test_one_wild_score_moves_no_limit_and_is_told() -> None:
    """The story: with the mean, one picture of twenty that an engine scored 1,000 took the limit to 51."""
    scores = np.random.default_rng(0).normal(1, 0.2, 20)
    moved = fit_thresholds(scores).carried(scores, np.where(np.arange(20) == 3, 1000.0, scores))
    assert moved.review == pytest.approx(fit_thresholds(scores).review)
    assert moved.notes == ("1 of 20 held-out good pictures score above the review limit",)


def test_what_a_rounding_moves_in_each_score_is_not_multiplied_in_the_limit() -> None:
    """The story: limits fitted anew on three good pictures moved by 0.05 where FP16 had moved scores by 0.01,
    and 8 of 201 verdicts changed, for which the gate refused it."""
    rng = np.random.default_rng(0)
    fitted, carried = [], []
    for _ in range(100):
        scores = rng.normal(1, 0.2, 6)
        rounded = scores + rng.normal(0, 0.01, 6)
        limits = fit_thresholds(scores)
        fitted.append(fit_thresholds(rounded).review - limits.review)
        carried.append(limits.carried(scores, rounded).review - limits.review)
    assert np.std(carried) < np.std(fitted) / 3
