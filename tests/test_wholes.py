"""The picture as a whole: a count that is wrong shows in no single place."""

import numpy as np
import torch
from torch import Tensor

from calibration.metrics import auroc_of
from distillation.wholes import PYRAMID, WORDS, Distance, WordHistogram, k_means, pooled

SIDE = 30  # divides by 1, 2 and 3


def scenes(pictures: int, things: int, seed: int) -> Tensor:
    """`things` equal blobs at free places of a quiet map: (N, 4, SIDE, SIDE)."""
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.normal(0, 0.05, (pictures, 4, SIDE, SIDE)).astype(np.float32))
    for m in maps:
        places = rng.choice(9, things, replace=False)
        for place in places:
            y, x = (int(v) * 10 + int(rng.integers(0, 6)) for v in divmod(place, 3))
            m[:, y : y + 4, x : x + 4] += torch.tensor([2.0, -2.0, 1.0, 3.0])[:, None, None]
    return maps


def fitted_histogram(maps: Tensor) -> WordHistogram:
    torch.manual_seed(0)
    histogram = WordHistogram(4, (SIDE, SIDE))
    histogram.fit(maps.flatten(2).transpose(1, 2).flatten(0, 1))
    return histogram


def test_shares_of_words_add_up_to_one_in_every_cell() -> None:
    maps = scenes(3, 4, 0)
    counts = fitted_histogram(maps)(maps)
    cells = sum(n * n for n in PYRAMID)
    assert counts.shape == (3, WORDS * cells)
    torch.testing.assert_close(counts.unflatten(1, (cells, WORDS)).sum(dim=2), torch.ones(3, cells))


def test_cells_are_means_over_their_places() -> None:
    maps = scenes(2, 4, 0)
    histogram = fitted_histogram(maps)
    squares = (maps[:, None] - histogram.words[None, :, :, None, None]).square().sum(dim=2)
    near = (-squares / histogram.softness).softmax(dim=1)  # (2, WORDS, SIDE, SIDE)
    torch.testing.assert_close(histogram(maps)[:, :WORDS], near.mean(dim=(2, 3)), rtol=1e-4, atol=1e-6)
    corner = histogram(maps)[:, WORDS : 2 * WORDS]
    torch.testing.assert_close(corner, near[:, :, :15, :15].mean(dim=(2, 3)), rtol=1e-4, atol=1e-6)


def test_ground_that_is_the_same_everywhere_leaves_the_words_soft() -> None:
    """The story: under a mask most places are one and the same. The words became a choice that rounding made,
    and the exported graph chose otherwise."""
    maps = scenes(8, 4, 0)
    maps[:, :, :26] = 0.3  # nine tenths of the picture
    histogram = fitted_histogram(maps)
    assert histogram.softness > 0.2
    rounded = maps * (1 + 1e-6)
    assert (histogram(rounded) - histogram(maps)).abs().max() < 1e-4
    apart = histogram.words.unique(dim=0)
    assert len(apart) == WORDS  # none is spent twice on the ground


def test_one_thing_too_many_lies_further_from_good_pictures() -> None:
    good = scenes(60, 4, 0)
    histogram, distance = fitted_histogram(good), Distance(WORDS * 14)
    distance.fit(histogram(good).double().numpy())
    right, wrong = (distance(histogram(scenes(40, n, 1))).numpy() for n in (4, 5))
    assert auroc_of(right, wrong) > 0.95


def test_pooled_features_are_means_and_deviations() -> None:
    maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    features = pooled(maps)
    means = torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)
    deviations = torch.cat([m.flatten(2).std(dim=2, correction=0) for m in maps], dim=1)
    torch.testing.assert_close(features, torch.cat([means, deviations], dim=1), rtol=1e-4, atol=1e-5)


def test_k_means_finds_separate_heaps_and_bears_fewer_places_than_words() -> None:
    torch.manual_seed(0)
    heaps = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = heaps.repeat(50, 1) + 0.01 * torch.randn(150, 2)
    centres = k_means(x, 12, 5)
    assert torch.cdist(heaps, centres).amin(dim=1).max() < 0.1
    assert k_means(x[:2], 5, 3).shape == (5, 2)
