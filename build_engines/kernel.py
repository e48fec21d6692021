"""From a trained detector to what the affinity kernel must know of it."""

import torch
from torch import Tensor

from distillation.detector import BRANCHES, Detector
from distillation.mapfusion import LARGEST
from distillation.students import SCALES
from edge.errors import BackendFault
from edge.kernels.constants import Constants, Floats


def kernel_constants(detector: Detector) -> Constants:
    """The detector's fitted constants in the kernel's order. Raises BackendFault for what it cannot do."""
    config, fusion = detector.config, detector.fusion
    wanted = {"measure": ("both", "squared"), "fusion": LARGEST, "branches": (BRANCHES,)}
    for name, values in wanted.items():
        if getattr(config, name) not in values:
            computed = " or ".join(map(repr, values))
            what = f"the affinity kernel computes {name} {computed}, not {getattr(config, name)!r}"
            hint = "Run the ONNX engine instead, or train with the default."
            raise BackendFault(what, "configuration of the detector", hint)
    height, width = config.input_size
    sizes = tuple((height // s, width // s) for s in detector.teacher.strides[:SCALES])
    return Constants(
        config.input_size, tuple(detector.teacher.channels[:SCALES]), sizes,
        local=tuple(k in detector.local.targets for k in range(SCALES)),
        gains=_tables(detector, "gain", sizes), offsets=_tables(detector, "offset", sizes),
        low=_array(fusion.low), span=_array(fusion.high - fusion.low),
        blur=_array(fusion.blur[0, 0].sum(dim=0)),  # the kernel blurs along one side, then along the other
        grid=config.context_grid, top=max(1, int(sizes[0][0] * sizes[0][1] * config.top_share)),
        cosine=config.measure == "both",
    )  # fmt: skip


def _tables(detector: Detector, name: str, sizes: tuple[tuple[int, int], ...]) -> list[Floats]:
    """Per scale (branches, height, width), from one buffer per sheet."""
    tables = [torch.zeros(len(BRANCHES), *size) for size in sizes]
    globl = detector.globl.targets
    targets = {"local": detector.local.targets, "global": globl, "affinity": globl}
    sheets = [(b, k) for b, branch in enumerate(BRANCHES) for k in targets[branch]]
    for i, (b, k) in enumerate(sheets):
        tables[k][b] = getattr(detector.fusion, f"{name}{i}")[0]
    return [_array(table) for table in tables]


def _array(x: Tensor) -> Floats:
    return x.detach().cpu().float().contiguous().numpy()
