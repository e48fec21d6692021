"""What the affinity kernel replaces, in PyTorch: the detector's own functions from the feature maps on."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.affinity import affinity_error, squared_error
from distillation.detector import Detector


class AfterNetworks(nn.Module):
    """Maps of any precision -> anomaly map (B, H, W), scores (B, 2), float32, as the kernel gives them."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(
        self, teacher: Sequence[Tensor], globl: Sequence[Tensor], local: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Per scale (B, C, h, w); `local` has the local student's targets alone."""
        detector = self.detector
        grid, targets = detector.config.context_grid, detector.local.targets
        teacher = [m.float() for m in teacher]
        globl = [m.float() for m in globl]
        sheets = [squared_error(teacher[k], y.float()) for k, y in zip(targets, local, strict=True)]
        sheets += [squared_error(x, y) for x, y in zip(teacher, globl, strict=True)]
        sheets += [affinity_error(x, y, grid) for x, y in zip(teacher, globl, strict=True)]
        places, branches = detector.fusion(sheets)
        scores = [detector.map_score(places), detector.map_score(branches[:, 0])]
        anomaly_map = F.interpolate(places.unsqueeze(1), detector.config.input_size, mode="bilinear")
        return anomaly_map.squeeze(1), torch.stack(scores, dim=1)


def student_maps(detector: Detector, pixels: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """uint8 (B, H, W, 3) -> what the networks give: teacher, global, local student, in FP16."""
    maps = detector.standardise(detector.teacher(pixels))
    globl, local = detector.globl(maps), detector.local(maps)
    return [m.half() for m in maps[: len(globl)]], [m.half() for m in globl], [m.half() for m in local]
