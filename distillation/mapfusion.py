"""From raw error maps to one anomaly map: normalise each map, fuse scales and branches, smooth.

A *sheet* is the error map of one branch at one scale. Everything here is an affine map with constants fitted
on good pictures, then a maximum or a mean, so it costs next to nothing in the engine.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.normalisation import Floats, map_quantiles

PLACE_SMOOTHING = 2.0  # places of the finest map: what is known of a place is shared with its neighbours
PLACE_FLOOR = 1.0  # in typical deviations of the sheet: quiet places are not made louder than the rest

NORMALISATIONS = ("place", "quantile", "deviation")
FUSIONS = ("trusted", "max", "sum", "reliability")
LARGEST = ("trusted", "max")  # of these the largest counts; of the others the mean
LEAST_WORTH = 0.01  # beside the best branch; nothing is divided by nothing


class FusionConfig(Protocol):
    """The part of DetectorConfig that matters here."""

    @property
    def normalisation(self) -> str: ...
    @property
    def fusion(self) -> str: ...
    @property
    def smoothing(self) -> float: ...


class MapFusion(nn.Module):
    """Sheets (B, h_i, w_i) -> one map (B, H, W) at the size of the finest, and one of each branch.

    normalisation: "place" (z-score of the place's own errors, then quantiles), "quantile", "deviation" (mean
    and standard deviation). fusion: "max" of scales and branches, "trusted" (the same, each branch as loud
    as it is worth), "sum" (their mean), or "reliability" (mean of the branches, weighted by worth).
    The buffers are fitted after training; until then the map is raw.
    """

    def __init__(self, branches: Sequence[str], sizes: Sequence[tuple[int, int]], config: FusionConfig):
        """branches, sizes: one entry per sheet; sheets of one branch stand together."""
        super().__init__()
        self.sheets = list(branches)
        self.names = list(dict.fromkeys(branches))
        self.size = max(sizes)
        self.normalisation, self.fusion = config.normalisation, config.fusion
        for i, size in enumerate(sizes):
            self.register_buffer(f"gain{i}", torch.ones(1, *size))
            self.register_buffer(f"offset{i}", torch.zeros(1, *size))
        self.register_buffer("low", torch.zeros(len(self.names)))
        self.register_buffer("high", torch.ones(len(self.names)))
        self.register_buffer("weights", torch.full((len(self.names),), 1 / len(self.names)))  # of a mean
        self.register_buffer("blur", gaussian_kernel(config.smoothing))

    def forward(self, sheets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Raw errors (B, h_i, w_i) -> (B, H, W), and each branch's own (B, branches, H, W).

        About 1 is as bad as good parts get."""
        branches = self.normalised(self.branches(sheets))
        if self.fusion in LARGEST:
            fused = branches.amax(dim=1, keepdim=True)
        else:
            fused = (branches * self.weights.view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
        return smooth(fused, self.blur).squeeze(1), branches

    def branches(self, sheets: Sequence[Tensor]) -> Tensor:
        """Sheets -> normalised, fused over scales: (B, branches, H, W)."""
        errors = [
            F.interpolate(self.normalised_sheet(i, e).unsqueeze(1), self.size, mode="bilinear")
            for i, e in enumerate(sheets)
        ]
        fused = []
        for name in self.names:
            of_branch = torch.cat([e for e, b in zip(errors, self.sheets, strict=True) if b == name], dim=1)
            fused.append(of_branch.amax(dim=1) if self.fusion in LARGEST else of_branch.mean(dim=1))
        return torch.stack(fused, dim=1)

    def normalised_sheet(self, i: int, error: Tensor) -> Tensor:
        """(B, h_i, w_i) -> the same, with the constants of each place."""
        return error * getattr(self, f"gain{i}") - getattr(self, f"offset{i}")

    def normalised(self, branches: Tensor) -> Tensor:
        """Branches (B, branches, H, W) on one scale: 0 where bad good places begin, 1 the worst."""
        low, high = self.low.view(1, -1, 1, 1), self.high.view(1, -1, 1, 1)
        return (branches - low) / (high - low)

    def trust(self, worth: Sequence[float]) -> None:
        """After `fit`: let the branches count by their worth (any unit, 0 and more), the best in full.

        For a maximum that is one more factor of a branch's range, so it costs the engine nothing."""
        weights = torch.tensor(worth) if sum(worth) > 0 else torch.ones(len(self.names))
        if self.fusion in LARGEST:
            span = self.high - self.low
            self.high.copy_(self.low + span / (weights / weights.max()).clamp_min(LEAST_WORTH).to(span))
        else:
            self.weights.copy_(weights / weights.sum())

    def fit(self, train: Sequence[Tensor], held: Sequence[Tensor]) -> None:
        """Constants from the sheets of good pictures: learnt ones tell how errors differ from place to place,
        held-out ones how large they are."""
        for i, (seen, unseen) in enumerate(zip(train, held, strict=True)):
            mean, deviation = self._of_places(seen, unseen)
            low, high = self._range(((unseen - mean) / deviation).numpy())
            getattr(self, f"gain{i}").copy_((1 / (deviation * (high - low))).expand(1, *seen.shape[1:]))
            getattr(self, f"offset{i}").copy_(
                ((mean / deviation + low) / (high - low)).expand(1, *seen.shape[1:])
            )
        fused = self.branches([sheet.to(self.low.device) for sheet in held]).cpu().numpy()
        ranges = [self._range(fused[:, b]) for b in range(len(self.names))]
        self.low.copy_(torch.tensor([low for low, _ in ranges]))
        self.high.copy_(torch.tensor([high for _, high in ranges]))

    def _range(self, errors: Floats) -> tuple[float, float]:
        if self.normalisation == "deviation":
            return float(errors.mean()), float(errors.mean() + max(errors.std(), 1e-6))
        return map_quantiles(errors)

    def _of_places(self, seen: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each place's error over pictures: (N, h, w) -> two of (1, h, w).

        From learnt pictures, brought to the size of unseen errors by one factor. Held-out pictures must not
        tell their own places: the limits are set on them, and would come out too tight for new parts.
        """
        if self.normalisation != "place":
            return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        kernel = gaussian_kernel(PLACE_SMOOTHING * seen.shape[1] / self.size[0])
        mean = smooth(seen.mean(dim=0)[None, None], kernel)[0]
        variance = smooth((seen - mean).square().mean(dim=0)[None, None], kernel)[0]
        factor = float(unseen.mean() / seen.mean().clamp_min(1e-9))
        mean, deviation = mean * factor, variance.sqrt() * factor
        return mean, deviation.clamp_min(max(PLACE_FLOOR * float(deviation.mean()), 1e-9))


def smooth(maps: Tensor, kernel: Tensor) -> Tensor:
    """(B, 1, h, w) blurred with kernel (1, 1, k, k), edges repeated."""
    pad = kernel.shape[-1] // 2
    return F.conv2d(F.pad(maps, (pad, pad, pad, pad), mode="replicate"), kernel)


def gaussian_kernel(sigma: float) -> Tensor:
    """(1, 1, k, k), sum 1; `sigma` in places."""
    radius = max(1, round(2 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    line = torch.from_numpy(np.exp(-0.5 * (x.numpy() / sigma) ** 2))
    line = line / line.sum()
    return (line[:, None] * line[None, :]).view(1, 1, len(x), len(x))
