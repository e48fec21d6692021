"""Which good pictures are unlike the others? Robust: several odd ones must not hide each other."""

import numpy as np
import numpy.typing as npt

from calibration.normalisation import Floats, cross_distances, fit_gaussian

Steps = npt.NDArray[np.float64]  # (N,)

# Robust standard deviations above the median: Iglewicz & Hoaglin (1993), "How to detect and handle outliers",
# their limit for the median absolute deviation. Logarithms of distances are near enough to normal for it.
FAR = 3.5

# Share of the pictures that the first fit trusts: those nearest to the middle in most features. So up to a
# quarter may be of another part, and alike, without being taken for the rule.
TRUSTED = 0.75

# Gaussians fitted in a round: up to so many pictures each is left out alone. One for every picture flags the
# same ones of 769, but takes 86 s instead of 6.
FOLDS = 50

ROUNDS = 6  # fits until the flagged pictures stay the same; two or three are usual

CLIPPED = 10.0  # robust standard deviations: one wild feature alone does not decide the first fit
MAD_TO_SD = 1.4826  # of a normal distribution


def unusualness(features: Floats) -> Steps:
    """How unlike the others each picture is: pooled features (N, D), N >= 4 -> steps (N,), FAR is far.

    The logarithm of each picture's distance from the Gaussian of the trusted others (itself left out, and of
    more than FOLDS pictures its neighbours too), in robust standard deviations from the median. NOT found:
    what is small in the picture, such as a scratch.
    """
    trusted = _middle(features)
    for _ in range(ROUNDS):
        steps = _steps(features, trusted)
        if np.array_equal(steps < FAR, trusted):
            break
        trusted = steps < FAR
    return steps


def robust_steps(values: Steps, least: float, reference: Steps | None = None) -> Steps:
    """(values - median) / robust standard deviation, both of `reference`; a deviation is at least `least`."""
    base = values if reference is None else reference
    median = np.median(base)
    steps: Steps = (values - median) / max(MAD_TO_SD * float(np.median(np.abs(base - median))), least)
    return steps


def _middle(features: Floats) -> npt.NDArray[np.bool_]:
    columns = (robust_steps(column, 1e-6) for column in features.T)
    away = np.mean([np.abs(column).clip(max=CLIPPED) for column in columns], axis=0)
    trusted = np.zeros(len(features), bool)
    trusted[np.argsort(away)[: int(np.ceil(TRUSTED * len(features)))]] = True
    return trusted


def _steps(features: Floats, trusted: npt.NDArray[np.bool_]) -> Steps:
    distances = np.empty(len(features))
    distances[trusted] = cross_distances(features[trusted], int(trusted.sum()), FOLDS)
    distances[~trusted] = fit_gaussian(features[trusted]).distance(features[~trusted])
    logs = np.log(np.maximum(distances, 1e-9))
    return robust_steps(logs, 1e-3, logs[trusted])
