"""The whole detector as one module: camera pixels in, anomaly map and score out. This is what is exported."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.affinity import MEASURES, affinity_error
from distillation.students import LOCAL_STUDENTS, GlobalStudent
from distillation.teacher import Teacher

BRANCHES = ("local", "global", "affinity")


@dataclass(frozen=True)
class DetectorConfig:
    """What the network looks like; everything here is our reading unless docs/method.md says otherwise."""

    teacher: str = "efficientnet-lite0"
    input_size: tuple[int, int] = (256, 256)  # height, width; multiples of 32
    local_student: str = "forward"
    measure: str = "squared"
    width: int = 256  # channels at stride 32 of fusion and decoder
    context: int = 256  # length of the GCCB's context vector
    context_grid: int = 8  # affinity against grid x grid context places
    pooled_distance: bool = True  # Mahalanobis distance of pooled teacher features, added to the score
    smoothing: float = 1.0  # standard deviation in places of the finest map
    top_share: float = 0.005  # the score is the mean of this share of the map's places


class Detector(nn.Module):
    """Teacher, both students, map normalisation, fusion and score.

    The buffers below are fitted after training (`distillation/train.py`); until then the map is raw.
    """

    def __init__(self, teacher: Teacher, config: DetectorConfig):
        super().__init__()
        height, width = config.input_size
        self.config, self.teacher = config, teacher
        self.error = MEASURES[config.measure]
        self.local = LOCAL_STUDENTS[config.local_student](teacher.channels)
        self.globl = GlobalStudent(
            teacher.channels, (height // 32, width // 32), config.width, config.context
        )
        for k, c in enumerate(teacher.channels):
            self.register_buffer(f"mean{k}", torch.zeros(1, c, 1, 1))
            self.register_buffer(f"std{k}", torch.ones(1, c, 1, 1))
        self.register_buffer("low", torch.zeros(len(BRANCHES)))
        self.register_buffer("high", torch.ones(len(BRANCHES)))
        pooled = 2 * sum(teacher.channels)
        self.register_buffer("pooled_mean", torch.zeros(pooled))
        self.register_buffer("pooled_whiten", torch.eye(pooled))
        self.register_buffer("score_weights", torch.tensor([1.0, 0.0]))
        self.register_buffer("blur", _gaussian_kernel(config.smoothing))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, H, W, 3) BGR -> anomaly_map (B, H, W) float, score (B,) float."""
        maps = self.standardise(self.teacher(pixels))
        places = self.fuse(self.branch_errors(maps))  # (B, H/4, W/4)
        score = self.map_score(places) * self.score_weights[0]
        if self.config.pooled_distance:
            score = score + self.pooled_distance(maps) * self.score_weights[1]
        anomaly_map = F.interpolate(places.unsqueeze(1), self.config.input_size, mode="bilinear")
        return anomaly_map.squeeze(1), score

    def standardise(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Every channel to mean 0 and standard deviation 1 over the training pictures."""
        return [(m - getattr(self, f"mean{k}")) / getattr(self, f"std{k}") for k, m in enumerate(maps)]

    def branch_errors(self, maps: Sequence[Tensor]) -> Tensor:
        """Standardised teacher maps -> raw error maps (B, branches, H/4, W/4) in the order of BRANCHES."""
        size = maps[0].shape[2:]
        local, globl = self.local(maps), self.globl(maps)
        grid = self.config.context_grid
        errors = [
            [self.error(maps[k], y) for k, y in zip(self.local.targets, local, strict=True)],
            [self.error(maps[k], y) for k, y in zip(self.globl.targets, globl, strict=True)],
            [affinity_error(maps[k], y, grid) for k, y in zip(self.globl.targets, globl, strict=True)],
        ]
        return torch.stack([_mean_over_scales(e, size) for e in errors], dim=1)

    def fuse(self, errors: Tensor) -> Tensor:
        """Normalise each branch by its quantiles on good pictures, add, smooth: -> (B, H/4, W/4)."""
        low, high = self.low.view(1, -1, 1, 1), self.high.view(1, -1, 1, 1)
        fused = ((errors - low) / (high - low)).mean(dim=1, keepdim=True)
        pad = self.blur.shape[-1] // 2
        fused = F.pad(fused, (pad, pad, pad, pad), mode="replicate")
        return F.conv2d(fused, self.blur).squeeze(1)

    def map_score(self, places: Tensor) -> Tensor:
        """Mean of the largest share of places: (B, h, w) -> (B,). One noisy place alone decides nothing."""
        flat = places.flatten(1)
        return flat.topk(max(1, int(flat.shape[1] * self.config.top_share)), dim=1).values.mean(dim=1)

    def pooled(self, maps: Sequence[Tensor]) -> Tensor:
        """Mean and standard deviation over all places of every channel: -> (B, 2 * sum of channels)."""
        means = torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)
        squares = torch.cat([m.square().mean(dim=(2, 3)) for m in maps], dim=1)
        return torch.cat([means, (squares - means.square()).clamp_min(1e-6).sqrt()], dim=1)

    def pooled_distance(self, maps: Sequence[Tensor]) -> Tensor:
        """Mahalanobis distance of the pooled features (PUAD, ICIP 2024): -> (B,)."""
        z = (self.pooled(maps) - self.pooled_mean) @ self.pooled_whiten.T
        return z.square().sum(dim=1).sqrt()


def _mean_over_scales(errors: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Errors (B, h_k, w_k) of several scales -> their mean at `size`: (B, H, W)."""
    up = [F.interpolate(e.unsqueeze(1), tuple(size), mode="bilinear").squeeze(1) for e in errors]
    return torch.stack(up).mean(dim=0)


def _gaussian_kernel(sigma: float) -> Tensor:
    radius = max(1, round(2 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    line = torch.exp(-0.5 * (x / sigma) ** 2)
    line = line / line.sum()
    return (line[:, None] * line[None, :]).view(1, 1, len(x), len(x))
