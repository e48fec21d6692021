"""Detectors and maps to measure the affinity kernel on, and what it must at least do for them."""

import copy
from typing import Any

import torch
from affinity_torch import AfterNetworks, KernelOnTorch
from torch import Tensor

from distillation.detector import Detector, DetectorConfig
from distillation.students import SCALES
from distillation.weights import new_teacher

Maps = tuple[list[Tensor], list[Tensor], list[Tensor]]  # FP16 of teacher, global student, local student


def largest_error(kernel: KernelOnTorch, detector: Detector, maps: Maps) -> float:
    """Against FP32 on the CPU, in the map's unit and, where it is larger, relative."""
    wanted = AfterNetworks(copy.deepcopy(detector).cpu())(*([m.cpu() for m in of] for of in maps))
    kernel.poison()
    found = [x.cpu() for x in kernel(*maps)]
    errors = [((f - w).abs() / w.abs().clamp_min(1)).max() for f, w in zip(found, wanted, strict=True)]
    return float(torch.stack(errors).max())


def fitted_detector(teacher: str, **changes: Any) -> Detector:
    """Random weights, the default configuration with changes; the maps' constants as large as fitted ones."""
    torch.manual_seed(0)
    config = DetectorConfig(teacher=teacher, **{"deep_distance": False, **changes})
    detector = Detector(new_teacher(teacher), config).eval()
    for name, table in detector.fusion.named_buffers():
        if name.startswith("gain"):
            table.uniform_(5, 15)
        elif name.startswith("offset"):
            table.uniform_(0, 1)
    return detector


def random_maps(detector: Detector, batch: int, device: str = "cuda") -> Maps:
    """Standard normal teacher maps, students a third beside them."""
    height, width = detector.config.input_size
    taps = zip(detector.teacher.channels[:SCALES], detector.teacher.strides[:SCALES], strict=True)
    teacher = [torch.randn(batch, c, height // s, width // s, device=device) for c, s in taps]
    globl, local = ([m + 0.3 * torch.randn_like(m) for m in teacher] for _ in range(2))
    halves = [[m.half() for m in of] for of in (teacher, globl, local)]
    return halves[0], halves[1], [halves[2][k] for k in detector.local.targets]


def least_bytes(detector: Detector, maps: Maps, batch: int) -> int:
    """Every feature once and the map; that teacher and global student are read twice is the kernel's own."""
    height, width = detector.config.input_size
    return sum(m.nbytes for of in maps for m in of) + 4 * batch * height * width


def operations(detector: Detector, batch: int) -> int:
    """Of the cosines: teacher's and student's maps against their context places."""
    config, teacher = detector.config, detector.teacher
    height, width = config.input_size
    values = sum(
        c * (height // s) * (width // s)
        for c, s in zip(teacher.channels[:SCALES], teacher.strides[:SCALES], strict=True)
    )
    return 2 * 2 * batch * values * config.context_grid**2
