"""The picture as a whole: pooled features and word histograms, and how far they lie from those of good parts.

Students judge places; what is wrong with a count, a sum or a mixture of colours may show at no single place.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from calibration.normalisation import Floats, fit_gaussian
from distillation.students import SCALES

WORDS = 64  # of the finest map; on top of the pyramid a vector of 64 * 14
PYRAMID = (1, 2, 3)  # the whole picture, quarters, ninths
SOFTNESS = 8.0  # in typical squared distances of a place to its word: every word takes part, smoothly
LEAST_DISTANCE = 0.03  # of these; the square of a typical place is its number of channels, 24 and more
WORD_PLACES = 20_000  # places that the words are learnt from
WORD_ROUNDS = 12  # of k-means; the words need not be exact


class Distance(nn.Module):
    """Mahalanobis distance to good pictures: x (B, D) -> (B,). `fit` first."""

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whiten", torch.eye(features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B,)."""
        return ((x - self.mean) @ self.whiten.T).square().sum(dim=1).sqrt()

    def fit(self, x: Floats) -> None:
        """Mean and Ledoit-Wolf covariance of good pictures' x (N, D)."""
        gaussian = fit_gaussian(x)
        self.mean.copy_(torch.from_numpy(gaussian.mean))
        self.whiten.copy_(torch.from_numpy(gaussian.whiten))


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Mean and deviation over all places of every channel the students see: -> (B, 2 * sum of channels)."""
    maps = maps[:SCALES]
    means = torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)
    squares = torch.cat([(m * m).mean(dim=(2, 3)) for m in maps], dim=1)
    return torch.cat([means, (squares - means * means).clamp_min(1e-6).sqrt()], dim=1)


class Cells(nn.Module):
    """Means over the cells of a pyramid, 1 x 1, 2 x 2, ...: places (B, H * W, C) -> (B, cells * C).

    One matrix, because adaptive pooling does not export where the cells are not equal.
    """

    def __init__(self, size: tuple[int, int], levels: Sequence[int]):
        """`size` is (height, width) of the map; each level cuts both sides into so many parts."""
        super().__init__()
        cells = [np.outer(_strip(size[0], n, i), _strip(size[1], n, j)).ravel()
                 for n in levels for i in range(n) for j in range(n)]  # fmt: skip
        self.register_buffer("weights", torch.from_numpy(np.stack(cells)))  # (cells, H * W)

    def forward(self, places: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, cells * C)."""
        return (self.weights @ places).flatten(1)


def places_of(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


class WordHistogram(nn.Module):
    """How often each of WORDS typical places of the finest map comes, in the cells of a pyramid.

    CSAD's patch histogram (BMVC 2024) without its segmenter: words by k-means, soft assignment, spatial
    pyramid (Lazebnik et al., CVPR 2006). Things may move in their cell, not out of it.
    """

    def __init__(self, channels: int, size: tuple[int, int]):
        """`size` is (height, width) of the map."""
        super().__init__()
        self.register_buffer("words", torch.zeros(WORDS, channels))
        self.register_buffer("softness", torch.ones(()))
        self.cells = Cells(size, PYRAMID)
        self.length = WORDS * sum(n * n for n in PYRAMID)

    def forward(self, x: Tensor) -> Tensor:
        """Standardised map (B, C, H, W) -> (B, length)."""
        bias = -(self.words * self.words).sum(dim=1) / self.softness
        near = (places_of(x) @ (2 * self.words.T / self.softness) + bias).softmax(dim=2)  # (B, H * W, K)
        return self.cells(near)

    def fit(self, places: Tensor) -> None:
        """Words and softness from places (N, C) of good pictures.

        Of places that are the same to the last bit (under a mask, on a burnt-out ground) one is taken: where
        most are, a typical distance would be 0, and the softmax a choice that rounding makes.
        """
        places = _different(places)
        words = k_means(places, WORDS, WORD_ROUNDS)
        distances = torch.cdist(places, words).square().amin(dim=1)
        self.words.copy_(words)
        self.softness.copy_(SOFTNESS * distances.median().clamp_min(LEAST_DISTANCE))


def k_means(x: Tensor, count: int, rounds: int) -> Tensor:
    """Lloyd's algorithm from `count` rows of x (N, C), drawn with torch's seed -> (count, C)."""
    centres = x[torch.randperm(len(x))[:count]].clone()
    if len(centres) < count:  # tiny sets: the same word twice does no harm
        centres = centres[torch.arange(count) % len(centres)]
    for _ in range(rounds):
        nearest = torch.cdist(x, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        sizes = torch.bincount(nearest, minlength=count).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres


def _different(x: Tensor) -> Tensor:
    """Rows of x (N, C) without repeats, in their order."""
    _, which = torch.unique(x, dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), len(x), device=x.device)
    rows = torch.arange(len(x), device=x.device)
    return x[first.scatter_reduce(0, which, rows, "amin").sort().values]


def _strip(side: int, n: int, i: int) -> npt.NDArray[np.float32]:
    """The mean over the i-th of n parts of a side, as weights."""
    begin, end = side * i // n, -(-side * (i + 1) // n)
    weights = np.zeros(side, np.float32)
    weights[begin:end] = 1 / (end - begin)
    return weights
