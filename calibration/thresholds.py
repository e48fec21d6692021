"""Limits from good parts only, with honest bounds on how many good parts they will reject.

The question is an extrapolation: "above what score lies 1 good part in 300?" is asked of 5 to 200 scores. So
the answer comes from a model, and what few pictures cannot tell is carried into the bounds:

    y = log(1 + k z) / k,   z = (score - mean) / standard deviation        k = 0: y = z

is taken as normal: a shifted log-normal, whose right tail grows with k. Neither the place nor the unit of
the scores matters. Mean, variance and k are all unknown; their joint posterior (Jeffreys prior for the first
two, so that for known k the predictive distribution is Student's t with n - 1 degrees of freedom and scale
s sqrt(1 + 1/n); see Gelman et al., "Bayesian Data Analysis", 3.2) is drawn from with a fixed seed. A limit
is set where the chance that the next good part reaches it, averaged over the draws, is the rate asked for;
its bounds are quantiles of the chance over the draws.

NOT covered: good parts unlike the held-out ones (another batch, another lamp), a spread that has two humps,
and single wild pictures. Check with a few hundred good parts of the running line.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import DataError

# Parts that come out as REVIEW or FAIL though they are good: 3 in 1,000, which is 24 in a shift of 8,000.
FALSE_REJECT_RATE = 0.003

# FAIL sorts out without a person looking, so it is asked to be wrong ten times more rarely than REVIEW.
FAIL_IS_RARER = 10.0

# From normal to tails heavier than an exponential distribution's. Negative k, a tail that ends, is left out:
# believing in it would only ever pull the limits down on thin evidence.
SKEWS = np.linspace(0.0, 0.9, 19)
NO_SKEW = SKEWS[:1]

# Before any picture is seen: small k is likelier, k = 0.3 (skewness 1, as of a largest value) is common.
SKEW_SCALE = 0.3

# Limits are at most this many standard deviations above the mean. From 20 pictures on they lie below it by
# themselves; with fewer, what is unknown would push them out to where no defect is ever caught, so there we
# accept (and state) more false rejects instead.
MOST_REVIEW_STEPS, MOST_FAIL_STEPS = 6.0, 12.0

FEW = 20  # pictures; below it the bounds span more than a factor of 100

DRAWS = 1200  # the outer 2.5 % are then told by 30 draws
COVERAGE = 0.95

Scores = npt.NDArray[np.float64]
_erfc = np.frompyfunc(math.erfc, 1, 1)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits on the score, and what they cost in good parts.

    `expected_rate` is the share of good parts at or above `review`, with its bounds `low` and `high` (95 %);
    `n` is how many good pictures it rests on, `above` how many of them score above `review`. `capped`: the
    rate asked for was out of reach; `flat`: all have one score.
    """

    review: float
    fail: float
    expected_rate: float
    low: float
    high: float
    n: int
    above: int = 0
    capped: bool = False
    flat: bool = False

    def to_recipe(self) -> dict[str, Any]:
        """For the recipe's `expected_false_rejects`."""
        return {"rate": self.expected_rate, "low": self.low, "high": self.high, "pictures": self.n}

    def carried(self, reference: npt.ArrayLike, scores: npt.ArrayLike) -> "Thresholds":
        """These limits of `reference` scores (n,), for an engine that gives the same pictures `scores` (n,).

        They are moved by the median difference: a fit of its own would extrapolate from n scores once more,
        and so multiply what a rounding moves in each of them. What is expected of good parts stays as it is:
        that holds for engines that score alike (`build_engines/gate.py`). Raises DataError for a score that
        is not finite.
        """
        mine, theirs = np.asarray(scores, np.float64), np.asarray(reference, np.float64)
        if mine.shape != theirs.shape or not np.isfinite(mine).all():
            what = f"{int(np.isfinite(mine).sum())} scores for {theirs.size} good pictures"
            hint = "The engine does not compute as FP32 does: take FP32, or --fp16 in place of --int8."
            raise DataError(what, "thresholds", hint)
        shift = float(np.median(mine - theirs))
        above = int((mine >= self.review + shift).sum())
        return replace(self, review=self.review + shift, fail=self.fail + shift, above=above)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person has to know of them."""
        notes = {
            f"{self.n} held-out good pictures cannot promise the false reject rate asked for: expect the one "
            "stated. More good pictures lower it": self.capped,
            f"{self.above} of {self.n} held-out good pictures score above the review limit": self.above,
            f"the limits rest on {self.n} good pictures only; the bounds are wide": self.n < FEW,
            "all held-out good pictures have the same score, so their spread is unknown": self.flat,
        }
        return tuple(note for note, holds in notes.items() if holds)


@dataclass(frozen=True, slots=True)
class _Posterior:
    """Draws of what the good scores may be like; each field is (DRAWS,)."""

    centre: float
    spread: float
    skew: Scores
    mean: Scores
    deviation: Scores

    def rates(self, limit: float) -> Scores:
        """Chance of a good part at or above `limit`, for each draw."""
        y = _bend((limit - self.centre) / self.spread, self.skew)
        return np.asarray(_erfc((y - self.mean) / (self.deviation * math.sqrt(2))) / 2, np.float64)


def fit_thresholds(
    scores: npt.ArrayLike, false_reject_rate: float = FALSE_REJECT_RATE, seed: int = 0
) -> Thresholds:
    """Set limits from the scores of held-out good parts, (n,) with n >= 2; 20 or more give useful bounds.

    Raises DataError for fewer than two scores or a score that is not finite.
    """
    values = np.asarray(scores, np.float64).ravel()
    _check(values)
    rng = np.random.default_rng(seed)
    posterior = _draw_posterior(values, SKEWS, rng)
    review = _limit_for(posterior, false_reject_rate, MOST_REVIEW_STEPS)
    fail = _limit_for(posterior, false_reject_rate / FAIL_IS_RARER, MOST_FAIL_STEPS)
    rates = posterior.rates(review)
    # Without negative k, normal scores look a little skewed: the lower bound is that of the thinner tail.
    thin = _draw_posterior(values, NO_SKEW, rng).rates(review)
    low = min(np.quantile(r, (1 - COVERAGE) / 2) for r in (rates, thin))
    high, expected = np.quantile(rates, (1 + COVERAGE) / 2), float(rates.mean())
    return Thresholds(
        review, max(fail, review), expected, float(low), float(high), values.size,
        above=int((values >= review).sum()), capped=expected > 1.1 * false_reject_rate,
        flat=bool(np.ptp(values) == 0),
    )  # fmt: skip


def describe(thresholds: Thresholds, parts_per_shift: int = 8000) -> str:
    """The expectation in a line engineer's words: "about 24 of 8,000 good parts per shift (9 to 38)"."""
    return describe_rate(thresholds.expected_rate, thresholds.low, thresholds.high, parts_per_shift)


def describe_rate(rate: float, low: float, high: float, parts_per_shift: int = 8000) -> str:
    """`describe` for figures that come from a recipe; all three are shares of the good parts, 0..1."""
    expected = round(rate * parts_per_shift)
    about = f"about {expected:,}" if expected else "fewer than 1"
    bounds = f"{math.floor(low * parts_per_shift):,} to {math.ceil(high * parts_per_shift):,}"
    return f"{about} of {parts_per_shift:,} good parts per shift ({bounds})"


def _check(values: Scores) -> None:
    if values.size < 2:
        hint = "Hold out more pictures of good parts; 20 or more give useful bounds."
        raise DataError(f"{values.size} held-out scores, limits need at least 2", "thresholds", hint)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        hint = "Train again; if it stays, look for broken pictures."
        raise DataError(f"{bad} of {values.size} held-out scores are not finite", "thresholds", hint)


def _draw_posterior(values: Scores, skews: Scores, rng: np.random.Generator) -> _Posterior:
    centre, spread = float(values.mean()), _spread(values)
    z, n = (values - centre) / spread, values.size
    skews = skews[1 + skews * z.min() > 0]  # a log needs a positive number
    bent = _bend(z[:, None], skews)  # (n, k)
    squares = np.maximum(((bent - bent.mean(0)) ** 2).sum(0), 1e-12)
    log_weight = -(n - 1) / 2 * np.log(squares) - np.log1p(z[:, None] * skews).sum(0)
    log_weight -= (skews / SKEW_SCALE) ** 2 / 2
    weight = np.exp(log_weight - log_weight.max())
    chosen = rng.choice(skews.size, DRAWS, p=weight / weight.sum())
    deviation = np.sqrt(squares[chosen] / rng.chisquare(n - 1, DRAWS))
    mean = bent.mean(0)[chosen] + deviation / math.sqrt(n) * rng.standard_normal(DRAWS)
    return _Posterior(centre, spread, skews[chosen], mean, deviation)


def _spread(values: Scores) -> float:
    """Standard deviation; where all scores are equal, a sliver of their size, so that limits lie above."""
    floor = 1e-6 * max(abs(float(values.mean())), 1e-6)
    return max(float(values.std(ddof=1)), floor)


def _bend(z: npt.ArrayLike, skew: Scores) -> Scores:
    """log(1 + k z) / k, and z where k is 0; minus infinity below the shifted log-normal's end."""
    z = np.asarray(z, np.float64)
    k = np.where(skew == 0, 1.0, skew)
    inside = np.maximum(1 + k * z, np.finfo(float).tiny)
    return np.where(skew == 0, z, np.log(inside) / k)


def _limit_for(posterior: _Posterior, rate: float, most_steps: float) -> float:
    """The score that the next good part reaches with chance `rate`, over everything that is unknown.

    Found by halving to 1e-3 of a standard deviation of the good scores; never beyond `most_steps` of them.
    """
    below, above = -most_steps, most_steps
    while above - below > 1e-3:
        middle = (below + above) / 2
        if posterior.rates(posterior.centre + middle * posterior.spread).mean() > rate:
            below = middle
        else:
            above = middle
    return posterior.centre + above * posterior.spread
