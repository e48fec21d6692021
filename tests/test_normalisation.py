"""The constants of the score, against other implementations and by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from calibration.normalisation import (
    Floats,
    cross_distances,
    fit_gaussian,
    map_quantiles,
    score_weights,
)

SHAPES = [
    (12, 30),
    (40, 30),
    (400, 6),
]  # rows, features: fewer, about as many and many more rows than features


def features(rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Correlated features of very different scale, as pooled teacher channels are."""
    rng = np.random.default_rng(rows)
    mixed = rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))
    return 5 + mixed * np.geomspace(0.01, 100, columns)


# --- Ledoit-Wolf Gaussian


def peer_distances(train: Floats, x: Floats) -> npt.NDArray[np.float64]:
    """Mahalanobis distances with scikit-learn's Ledoit-Wolf covariance of the standardised features."""
    covariance = pytest.importorskip("sklearn.covariance")
    mean, std = train.mean(axis=0), train.std(axis=0)
    fitted = covariance.LedoitWolf(assume_centered=True).fit((train - mean) / std)
    return np.sqrt(fitted.mahalanobis((x - mean) / std))


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_are_those_of_scikit_learns_ledoit_wolf(shape: tuple[int, int]) -> None:
    train, x = features(*shape), features(*shape)[::-1] * 1.1
    np.testing.assert_allclose(fit_gaussian(train).distance(x), peer_distances(train, x), rtol=1e-8)


def test_whitening_is_a_root_of_the_inverse_covariance() -> None:
    """With very many rows nothing is left to shrink, and the plain covariance comes out."""
    covariance = np.array([[4.0, 1.2, 0.0], [1.2, 1.0, 0.1], [0.0, 0.1, 0.25]])
    train = np.random.default_rng(0).multivariate_normal([1, 2, 3], covariance, 50_000)
    gaussian = fit_gaussian(train)
    np.testing.assert_allclose(gaussian.mean, [1, 2, 3], atol=0.05)
    np.testing.assert_allclose(np.linalg.inv(gaussian.whiten.T @ gaussian.whiten), covariance, atol=0.1)


def test_a_channel_that_never_changes_gives_finite_distances() -> None:
    train = features(12, 30)
    train[:, 3] = 7.0
    assert np.isfinite(fit_gaussian(train).distance(train)).all()


# --- cross-validated distances


@pytest.mark.parametrize("shape", [(12, 30), (40, 5)])
def test_with_a_fold_for_each_picture_it_is_a_fit_without_each(shape: tuple[int, int]) -> None:
    x = features(*shape)
    brute = [peer_distances(np.delete(x, i, axis=0), x[i : i + 1])[0] for i in range(len(x))]
    np.testing.assert_allclose(cross_distances(x, len(x), len(x)), brute, rtol=1e-6)


def test_a_row_left_out_lies_further_away_than_inside() -> None:
    x = features(20, 30)
    assert (cross_distances(x, 20, 20) > fit_gaussian(x).distance(x)).all()


def test_a_pictures_variations_leave_with_it() -> None:
    """Else every picture would know itself from its variation, and no good part would look new."""
    x = features(24, 30)
    varied = np.concatenate([x, x * 1.001])
    np.testing.assert_allclose(
        cross_distances(varied, 24), cross_distances(np.concatenate([x, x]), 24), rtol=0.2
    )
    assert (cross_distances(varied, 24) > fit_gaussian(varied).distance(x)).mean() > 0.9


# --- quantiles and score


def test_map_quantiles_by_hand() -> None:
    maps = np.random.default_rng(0).permutation(np.arange(1001.0)).reshape(7, 11, 13)
    low, high = map_quantiles(maps)
    assert low == pytest.approx(900) and high == pytest.approx(995)


def test_quantiles_of_a_flat_map_stay_apart() -> None:
    low, high = map_quantiles(np.full((3, 4, 4), 2.5, np.float32))
    assert low == 2.5 < high


def test_a_typical_good_picture_scores_one() -> None:
    means, spreads = [3.0, 40.0, 900.0], [0.2, 2.0, 50.0]
    weights = score_weights(means, spreads)
    assert sum(w * mean for w, mean in zip(weights, means, strict=True)) == pytest.approx(1)
    assert [w * s for w, s in zip(weights, spreads, strict=True)] == pytest.approx([weights[0] * 0.2] * 3)


def test_without_a_distance_the_map_is_the_score() -> None:
    assert score_weights([2.0], [1.0]) == [0.5]
