"""Constants that make raw errors comparable, fitted on good pictures only. Pure numpy.

They end up inside the engine as constants: the runtime never normalises anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

# EfficientAD's quantiles (arXiv 2303.14535, section 3.4): 0 is where the worst tenth of good places begins,
# 1 is a place as bad as the worst half per cent of good ones.
LOW_QUANTILE, HIGH_QUANTILE = 0.90, 0.995
LEAST_SPREAD = 1e-6  # equal pictures have none


def map_quantiles(maps: Floats) -> tuple[float, float]:
    """Good pictures' raw error maps (N, h, w) of one branch -> the two quantiles (low, high), high > low."""
    low, high = np.quantile(maps, [LOW_QUANTILE, HIGH_QUANTILE])
    return float(low), float(max(high, low + 1e-6))


@dataclass(frozen=True)
class Gaussian:
    """A multivariate normal: distance(x) = |whiten @ (x - mean)|, the Mahalanobis distance."""

    mean: Floats  # (D,)
    whiten: Floats  # (D, D), whiten.T @ whiten = inverse covariance

    def distance(self, x: Floats) -> Floats:
        """(N, D) -> (N,)."""
        distances: Floats = np.linalg.norm((x - self.mean) @ self.whiten.T, axis=1)
        return distances


def fit_gaussian(x: Floats) -> Gaussian:
    """Mean and Ledoit-Wolf covariance (Ledoit & Wolf 2004, "A well-conditioned estimator") of x (N, D).

    Columns are brought to unit variance first, so that the shrinkage target (a multiple of the identity)
    treats every feature alike.
    """
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    z = (x - mean) / scale
    values, vectors = np.linalg.eigh(_ledoit_wolf(z))
    # Equal pictures leave directions without any spread; there, nothing may count as infinitely far.
    whiten = (vectors / np.sqrt(np.maximum(values, 1e-6))).T / scale
    return Gaussian(mean, whiten)


def cross_distances(x: Floats, pictures: int, folds: int = 8) -> Floats:
    """Each picture's distance from the Gaussian of the other folds: (V * pictures, D) -> (pictures,).

    What a good part the model has never seen looks like, without giving up a single picture for it. Rows are
    the pictures, then `V - 1` times the same pictures in light variations; a picture's variations leave with
    it.
    """
    folds = min(folds, pictures)
    # Neighbours, such as the tiles of one picture, stay together.
    fold = np.arange(len(x)) % pictures * folds // pictures
    distances = np.empty(pictures)
    for i in range(folds):
        out = np.flatnonzero(fold[:pictures] == i)
        distances[out] = fit_gaussian(x[fold != i]).distance(x[out])
    return distances


def _ledoit_wolf(z: Floats) -> Floats:
    """Shrunk covariance of centred rows z (N, D)."""
    n, d = z.shape
    sample = z.T @ z / n
    target = np.trace(sample) / d
    spread = np.sum((sample - target * np.eye(d)) ** 2) / d
    # sum over rows of |z z' - S|^2 / d, written without building N matrices of D x D
    noise = (np.mean(np.sum(z**2, axis=1) ** 2) - np.sum(sample**2)) / (n * d)
    shrink = min(1.0, max(noise / max(spread, 1e-12), 1e-3))
    shrunk: Floats = (1 - shrink) * sample + shrink * target * np.eye(d)
    return shrunk


def score_weights(means: Sequence[float], spreads: Sequence[float]) -> list[float]:
    """Weights that make all parts of the score equally wide on good pictures, and a typical sum of them 1.0.

    means, spreads: mean and standard deviation of each part on good pictures.
    """
    spreads = [max(spread, LEAST_SPREAD) for spread in spreads]
    typical = sum(mean / spread for mean, spread in zip(means, spreads, strict=True))
    return [1 / (spread * max(typical, LEAST_SPREAD)) for spread in spreads]
