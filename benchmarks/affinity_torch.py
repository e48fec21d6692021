"""The affinity kernel and what it replaces, both on PyTorch's tensors."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.affinity import affinity_error
from distillation.detector import Detector
from edge.kernels.constants import PARTS, SCALES, Constants
from edge.kernels.launch import Launcher, check_maps
from edge.kernels.problem import Layout, Maps


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
        sheets = [detector.error(teacher[k], y.float()) for k, y in zip(targets, local, strict=True)]
        sheets += [detector.error(x, y) for x, y in zip(teacher, globl, strict=True)]
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


class KernelOnTorch:
    """The kernel on a batch of maps in PyTorch's memory and on its current stream; one output, used again."""

    def __init__(self, constants: Constants, pictures: int, launcher: Launcher, device: str = "cuda"):
        """`device` "cpu" is for the host build."""
        self.constants, self.launcher, self.device = constants, launcher, device
        self.layout = Layout(constants, pictures)
        self.tables = torch.from_numpy(self.layout.tables).to(device)
        self.scratch = torch.empty(self.layout.scratch_bytes, dtype=torch.uint8, device=device)
        self.map = torch.empty(pictures, *constants.input_size, device=device)
        self.scores = torch.empty(pictures, PARTS, device=device)

    def __call__(
        self, teacher: Sequence[Tensor], globl: Sequence[Tensor], local: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """As `AfterNetworks`, maps in FP16. Raises BackendFault."""
        given = iter(local)
        networks = [teacher, globl, [next(given) if has else None for has in self.constants.local]]
        check_maps(self.constants, self.layout.pictures, networks)
        maps = Maps(
            *([None if of[k] is None else of[k].data_ptr() for k in range(SCALES)] for of in networks)
        )
        memory = (x.data_ptr() for x in (self.tables, self.scratch, self.map, self.scores))
        self.launcher.run(self.layout.problem(maps, *memory), self._stream())
        return self.map, self.scores

    def _stream(self) -> Any:
        """PyTorch's, or None for its default stream, which is everybody's."""
        return torch.cuda.current_stream().cuda_stream or None if self.device == "cuda" else None

    def poison(self) -> None:
        """NaN in the output: what is not written is seen."""
        self.map.fill_(torch.nan)
        self.scores.fill_(torch.nan)
