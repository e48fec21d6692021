"""What the affinity kernel must give, written out in float64: nothing of the product's own arithmetic."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from distillation.detector import DetectorConfig
from distillation.students import LOCAL_STUDENTS, SCALES
from distillation.weights import TEACHERS
from edge.kernels.constants import Constants

Doubles = npt.NDArray[np.float64]
Networks = tuple[list[Any], list[Any], list[Any]]  # teacher, global, local: per scale (B, C, h, w) or None


def reference(constants: Constants, teacher: Any, globl: Any, local: Any) -> tuple[Doubles, Doubles]:
    """-> map (B, H, W), scores (B, 2)."""
    pictures = []
    for b in range(len(teacher[0])):
        of_one = ([m if m is None else m[b].astype(float) for m in of] for of in (teacher, globl, local))
        pictures.append(_one(constants, *of_one))
    return np.stack([m for m, _ in pictures]), np.stack([s for _, s in pictures])


def _one(c: Constants, teacher: Any, globl: Any, local: Any) -> tuple[Doubles, Doubles]:
    branches: list[list[Doubles]] = [[], [], []]
    for k, (f, g, student) in enumerate(zip(teacher, globl, local, strict=True)):
        of_local = None if student is None else _between(f, student, c.cosine)
        of_affinity = ((_cosines(f, c.grid) - _cosines(g, c.grid)) ** 2).mean(0)
        errors = [of_local, _between(f, g, c.cosine), of_affinity]
        for b, error in enumerate(errors):
            if error is not None:
                branches[b].append(_bilinear(error * c.gains[k][b] - c.offsets[k][b], c.sizes[0]))
    ranged = [(np.max(x, axis=0) - c.low[b]) / c.span[b] for b, x in enumerate(branches)]
    places = _blurred(np.max(ranged, axis=0), c.blur.astype(np.float64))
    scores = [np.sort(x.ravel())[-c.top :].mean() for x in (places, ranged[0])]  # NaN sorts last
    return _bilinear(places, c.input_size), np.array(scores)


def _between(teacher: Doubles, student: Doubles, cosine: bool) -> Doubles:
    """A student's error: (C, h, w) x 2 -> (h, w)."""
    squared = ((teacher - student) ** 2).mean(0)
    if not cosine:
        return squared
    norms = [np.sqrt(np.maximum((x**2).sum(0), 1e-12)) for x in (teacher, student)]
    return squared + 1 - (teacher * student).sum(0) / np.maximum(norms[0] * norms[1], 1e-6)


def _cosines(x: Doubles, grid: int) -> Doubles:
    """(C, h, w) -> (context places, h, w)."""
    channels, height, width = x.shape
    h, w = max(1, height // grid), max(1, width // grid)
    rows, columns = height // h, width // w
    cells = x[:, : rows * h, : columns * w].reshape(channels, rows, h, columns, w)
    cells = cells.mean((2, 4)).reshape(channels, -1)
    floor = 0.5 * math.sqrt(channels)
    contexts = cells / np.maximum(np.linalg.norm(cells, axis=0), floor)
    places = x / np.maximum(np.linalg.norm(x, axis=0), floor)
    return np.einsum("cg,cij->gij", contexts, places)


def _bilinear(x: Doubles, size: tuple[int, int]) -> Doubles:
    for axis, n in enumerate(size):
        have = x.shape[axis]
        source = np.maximum((np.arange(n) + 0.5) * have / n - 0.5, 0)
        first = np.minimum(source.astype(int), have - 1)
        share = np.expand_dims(source - first, 1 - axis)
        x = (1 - share) * x.take(first, axis) + share * x.take(np.minimum(first + 1, have - 1), axis)
    return x


def _blurred(x: Doubles, line: Doubles) -> Doubles:
    radius = len(line) // 2
    for axis in (0, 1):
        size = x.shape[axis]
        at = [np.clip(np.arange(size) + j - radius, 0, size - 1) for j in range(len(line))]
        x = np.sum([weight * x.take(i, axis) for weight, i in zip(line, at, strict=True)], axis=0)
    return x


def default_shapes() -> dict[str, Any]:
    """Arguments of `random_case`: the maps, and what is made of them, of today's default detector."""
    config = DetectorConfig()
    teacher = TEACHERS[config.teacher]
    sizes = tuple((config.input_size[0] // s, config.input_size[1] // s) for s in teacher.strides[:SCALES])
    targets = LOCAL_STUDENTS[config.local_student].targets
    return {
        "sizes": sizes, "channels": teacher.channels[:SCALES], "grid": config.context_grid,
        "local": tuple(k in targets for k in range(SCALES)), "zoom": teacher.strides[0],
        "sigma": config.smoothing, "top": int(math.prod(sizes[0]) * config.top_share),
        "cosine": config.measure == "both",
    }  # fmt: skip


def random_case(
    seed: int, sizes: Any = ((16, 16), (8, 8), (4, 4)), channels: Any = (24, 40, 112),
    local: Any = (False, True, True), pictures: int = 1, grid: int = 8, zoom: int = 4, sigma: float = 1.0,
    top: int = 2, cosine: bool = True, apart: float = 0.3,
) -> tuple[Constants, Networks]:  # fmt: skip
    """Constants and maps as a fitted detector has them: students near the teacher, branches about 1.

    apart: deviation of a student from its teacher, whose own is 1.
    """
    rng = np.random.default_rng(seed)
    teacher, globl, local_maps, gains, offsets = [], [], [], [], []
    for c, size, has in zip(channels, sizes, local, strict=True):
        maps = rng.normal(size=(pictures, c, *size))
        teacher.append(maps.astype(np.float16))
        globl.append((maps + rng.normal(0, apart, maps.shape)).astype(np.float16))
        local_maps.append((maps + rng.normal(0, apart, maps.shape)).astype(np.float16) if has else None)
        error = apart**2 * (1.5 if cosine else 1)
        typical = np.array([error, error, 0.02 / math.sqrt(c)])[:, None, None]
        gains.append((rng.uniform(1, 3, (3, *size)) / typical).astype(np.float32))
        offsets.append(rng.uniform(1, 2, (3, *size)).astype(np.float32))
    x = np.arange(-max(1, round(2 * sigma)), max(1, round(2 * sigma)) + 1)
    blur = np.exp(-0.5 * (x / sigma) ** 2)
    constants = Constants(
        (sizes[0][0] * zoom, sizes[0][1] * zoom), tuple(channels), tuple(sizes), tuple(local), gains, offsets,
        low=np.float32([0.1, 0.2, 0.3]), span=np.float32([1.5, 2.0, 2.5]),
        blur=(blur / blur.sum()).astype(np.float32), grid=grid, top=top, cosine=cosine,
    )  # fmt: skip
    return constants, (teacher, globl, local_maps)
