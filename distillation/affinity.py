"""Errors between maps of teacher and student, and the contextual affinity.

Pure tensor functions; shapes are (B, C, H, W) for maps and (B, H, W) for errors per place.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Our reading, not the paper's. Maps are standardised per channel, so a typical place has norm sqrt(C);
# below this share of it a direction is noise, and the cosine is damped instead of trusted.
NORM_FLOOR = 0.5


def squared_error(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over channels of the squared difference of standardised maps: (B, C, H, W) x 2 -> (B, H, W)."""
    return (teacher - student).square().mean(dim=1)


def cosine_error(teacher: Tensor, student: Tensor) -> Tensor:
    """1 - cosine per place, the measure of the paper's line of work: (B, C, H, W) x 2 -> (B, H, W), 0..2.

    Falls to chance where the picture is featureless: the direction of a near-zero vector is noise.
    """
    dot = (teacher * student).sum(dim=1)
    return 1 - dot / (_norm(teacher) * _norm(student)).clamp_min(1e-6)


def both_errors(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared error plus cosine error, per place."""
    return squared_error(teacher, student) + cosine_error(teacher, student)


MEASURES = {"squared": squared_error, "cosine": cosine_error, "both": both_errors}


def context_places(x: Tensor, grid: int) -> Tensor:
    """Mean over the cells of a raster: (B, C, H, W) -> (B, C, G).

    G is grid * grid where grid divides H and W; else the cells are the next smaller ones, and a map smaller
    than the grid is its own context. A fixed kernel, because an adaptive pooling does not export everywhere.
    """
    kernel = (max(1, x.shape[2] // grid), max(1, x.shape[3] // grid))
    return F.avg_pool2d(x, kernel, kernel).flatten(2)  # (B, C, G)


def affinity(x: Tensor, grid: int) -> Tensor:
    """Cosines of every place to the map's own context places: (B, C, H, W) -> (B, G, H, W).

    With 64 context places this costs 1 MiB a picture at 64 x 64 places; nothing is places x places.
    """
    floor = NORM_FLOOR * x.shape[1] ** 0.5
    context = context_places(x, grid)  # (B, C, G)
    context = context / _norm(context).clamp_min(floor).unsqueeze(1)
    places = x / _norm(x).clamp_min(floor).unsqueeze(1)
    cosines = torch.matmul(context.transpose(1, 2), places.flatten(2))  # (B, G, H * W)
    return cosines.unflatten(2, x.shape[2:])


def affinity_error(teacher: Tensor, student: Tensor, grid: int) -> Tensor:
    """Contextual affinity disagreement: mean over context places of the squared difference -> (B, H, W)."""
    return (affinity(teacher, grid) - affinity(student, grid)).square().mean(dim=1)


def hard_mean(error: Tensor, share: float, weight: float) -> Tensor:
    """Mean, plus `weight` times the mean of the largest `share` of all places: () scalar.

    The hard term (EfficientAD's idea, arXiv 2303.14535, in a softer form) keeps the student learning where
    it is still wrong, when nine places of ten are already right.
    """
    if weight == 0:
        return error.mean()
    flat = error.flatten()
    hardest = flat.topk(max(1, int(flat.numel() * share))).values
    return flat.mean() + weight * hardest.mean()


def _norm(x: Tensor) -> Tensor:
    return x.square().sum(dim=1).clamp_min(1e-12).sqrt()  # the root has no slope at 0
