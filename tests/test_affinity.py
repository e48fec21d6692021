"""Errors between maps, against their definitions written out place by place."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from distillation.affinity import (
    NORM_FLOOR,
    affinity,
    affinity_error,
    context_places,
    cosine_error,
    hard_mean,
    squared_error,
)

GRID = 2


def maps(seed: int, shape: tuple[int, ...] = (2, 6, 4, 8), scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- contextual affinity


def written_out(x: npt.NDArray[np.float32], grid: int) -> npt.NDArray[np.float64]:
    """(C, H, W) -> (grid * grid, H, W): cosine of each place to each cell's mean, norms floored."""
    channels, height, width = x.shape
    floor = NORM_FLOOR * math.sqrt(channels)
    result = np.zeros((grid * grid, height, width))
    for row in range(grid):
        for column in range(grid):
            h, w = height // grid, width // grid
            cell = (
                x[:, row * h : (row + 1) * h, column * w : (column + 1) * w]
                .reshape(channels, -1)
                .mean(axis=1)
            )
            for i in range(height):
                for j in range(width):
                    norms = max(np.linalg.norm(cell), floor) * max(np.linalg.norm(x[:, i, j]), floor)
                    result[row * grid + column, i, j] = cell @ x[:, i, j] / norms
    return result


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])  # below the floor, about it, above it
def test_affinity_is_the_cosine_to_the_context_places(scale: float) -> None:
    x = maps(0, scale=scale)
    for ours, picture in zip(affinity(x, GRID), x, strict=True):
        np.testing.assert_allclose(ours.numpy(), written_out(picture.numpy(), GRID), atol=1e-6)


def test_affinity_error_is_the_mean_square_over_the_context_places() -> None:
    teacher, student = maps(0), maps(1)
    error = affinity_error(teacher, student, GRID)
    assert error.shape == (2, 4, 8)
    for ours, t, s in zip(error, teacher, student, strict=True):
        theirs = ((written_out(t.numpy(), GRID) - written_out(s.numpy(), GRID)) ** 2).mean(axis=0)
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


def test_context_places_run_along_the_rows_first() -> None:
    x = torch.arange(32.0).view(1, 1, 4, 8)
    left_top, right_top = (0 + 1 + 2 + 3) / 4 + 4, (4 + 5 + 6 + 7) / 4 + 4  # two rows, 8 apart: + 4
    assert context_places(x, 2).tolist() == [[[left_top, right_top, left_top + 16, right_top + 16]]]


def test_featureless_places_stay_quiet() -> None:
    """The story of the floor: on a plain background the direction of a map is noise. The plain cosine is at
    chance there, as loud as a real fault; the affinity with its floor hardly speaks."""
    features = maps(0)
    noise = torch.zeros(2, 1, 4, 8)
    noise[..., :4] = 1  # the left half is background
    teacher = features * (1 - noise) + 0.01 * maps(1) * noise
    student = features * (1 - noise) + 0.01 * maps(2) * noise
    background = noise[:, 0] == 1
    assert cosine_error(teacher, student)[background].mean() > 0.7
    assert affinity_error(teacher, student, GRID)[background].max() < 1e-3
    fault = features.clone()
    fault[..., 6:] = maps(3)[..., 6:]
    assert affinity_error(features, fault, GRID)[:, :, 6:].mean() > 0.1


def test_an_empty_map_gives_numbers() -> None:
    empty = torch.zeros(1, 6, 4, 8)
    assert torch.equal(affinity(empty, GRID), torch.zeros(1, 4, 4, 8))
    assert torch.equal(cosine_error(empty, empty), torch.ones(1, 4, 8))


# --- error per place


def test_cosine_error_is_0_for_the_same_1_for_a_right_angle_2_for_the_opposite_direction() -> None:
    teacher = torch.tensor([[3.0, 1.0, 2.0], [4.0, 0.0, 0.0]]).view(1, 2, 1, 3)
    student = torch.tensor([[6.0, 0.0, -1.0], [8.0, 5.0, 0.0]]).view(1, 2, 1, 3)
    torch.testing.assert_close(cosine_error(teacher, student), torch.tensor([[[0.0, 1.0, 2.0]]]))


def test_squared_error_is_the_mean_over_channels() -> None:
    teacher = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1)
    student = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1)
    assert squared_error(teacher, student).tolist() == [[[(4 + 16) / 2]]]


# --- the hard term


def test_hard_mean_by_hand() -> None:
    error = torch.tensor(
        [[[0.0, 8.0], [4.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]]]
    )  # mean 2, largest quarter 8 and 4
    assert float(hard_mean(error, share=0.25, weight=0.5)) == 2 + 0.5 * 6
    assert float(hard_mean(error, share=0.25, weight=0)) == 2
    assert float(hard_mean(error, share=1e-6, weight=1)) == 2 + 8  # at least one place


def test_hard_mean_pulls_harder_at_the_largest_errors() -> None:
    error = torch.tensor([[[0.0, 8.0], [4.0, 1.0]]], requires_grad=True)
    hard_mean(error, share=0.25, weight=0.5).backward()
    assert error.grad is not None
    assert error.grad.tolist() == [[[0.25, 0.25 + 0.5], [0.25, 0.25]]]
