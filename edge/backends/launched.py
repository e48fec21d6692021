"""An engine that ends at the feature maps, the affinity kernel, and what makes one score of its parts.

    pixels -> features -> maps, other parts of the score -> affinity kernel -> rest -> score
              (plan)                                        (three launches)   (plan)

Together they are one Plan: one memory, one stream, one CUDA graph. Which graphs the two plans are made of:
`build_engines/cut.py`. With full TensorRT the kernel is a plugin inside the engine (edge/kernels/plugin.py).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edge.backends.plan import MAP, SCORE, WITH_KERNEL, Plan, Tensor
from edge.errors import BackendFault
from edge.kernels.constants import PARTS, SCALES, Constants
from edge.kernels.cuda import Gpu
from edge.kernels.launch import Launcher
from edge.kernels.problem import ALIGNMENT, SCORES, Layout, Maps, map_name

MAGIC = b"PK\3\4"  # of a NumPy archive; no plan of TensorRT begins like that
PIECES = ("features", "rest", "constants")
# What a context has in its memory besides the tensors, which have names of ONNX.
FEATURES, REST, TABLES, SCRATCH = (f"memory of {name}" for name in ("features", "rest", "tables", "scratch"))
BYTES = {"HALF": 2, "FLOAT": 4}


@dataclass(frozen=True)
class Pieces:
    """What a file of such a plan holds: two plans of TensorRT, and the kernel's constants."""

    features: bytes
    rest: bytes
    constants: Constants

    def packed(self) -> bytes:
        """As one file's content."""
        archive = io.BytesIO()
        contents = (self.features, self.rest, self.constants.to_bytes())
        pieces: dict[str, Any] = {
            name: np.frombuffer(of, np.uint8) for name, of in zip(PIECES, contents, strict=True)
        }
        np.savez(archive, **pieces)
        return archive.getvalue()


def unpacked(content: bytes, path: Path, hint: str) -> Pieces | None:
    """What `Pieces.packed` gave; None for a plan of TensorRT alone. `hint` says how to build it again.

    Raises BackendFault.
    """
    if not content.startswith(MAGIC):
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            features, rest, constants = (archive[name].tobytes() for name in PIECES)
        return Pieces(features, rest, Constants.from_bytes(constants))
    except BackendFault as error:
        raise BackendFault(error.what, str(path), hint) from error
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise BackendFault(f"the plan is cut off or broken: {error}", str(path), hint) from error


class LaunchedPlan:
    """See `Plan`. Raises ValueError where the pieces do not belong together."""

    def __init__(
        self, gpu: Gpu, features: Plan, rest: Plan, constants: Constants, launcher: Launcher
    ) -> None:
        self.gpu, self.features, self.rest = gpu, features, rest
        self.constants, self.launcher = constants, launcher
        self.name, self.most = features.name + WITH_KERNEL, min(features.most, rest.most)
        scales = {"teacher": (True,) * SCALES, "global": (True,) * SCALES, "local": constants.local}
        self.maps = [
            [map_name(network, k) if has else None for k, has in enumerate(of)]
            for network, of in scales.items()
        ]
        sides = [
            (channels, *size) for channels, size in zip(constants.channels, constants.sizes, strict=True)
        ]
        self.between = _between(
            features, rest, {name: sides[k] for of in self.maps for k, name in enumerate(of) if name}
        )

    @property
    def tensors(self) -> list[Tensor]:
        """See `Plan`."""
        pixels = [tensor for tensor in self.features.tensors if tensor.is_input]
        score = [tensor for tensor in self.rest.tensors if not tensor.is_input]
        return [*pixels, Tensor(MAP, False, "FLOAT", (-1, *self.constants.input_size)), *score]

    def context(self, pictures: int) -> "LaunchedContext":
        """See `Plan`."""
        return LaunchedContext(self, pictures)


class LaunchedContext:
    """See `Context`. Its memory: what both plans and the kernel work in, and what they hand to each other."""

    def __init__(self, plan: LaunchedPlan, pictures: int) -> None:
        self._plan = plan
        self._features, self._rest = plan.features.context(pictures), plan.rest.context(pictures)
        self._kernel = Layout(plan.constants, pictures)
        sizes = {
            FEATURES: self._features.memory_bytes, REST: self._rest.memory_bytes,
            TABLES: self._kernel.tables.nbytes, SCRATCH: self._kernel.scratch_bytes,
            SCORES: 4 * pictures * PARTS,
            **{t.name: pictures * BYTES[t.dtype] * prod(t.shape[1:]) for t in plan.between},
        }  # fmt: skip
        starts = [0, *accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes.values())]
        self._starts, self.memory_bytes = dict(zip(sizes, starts, strict=False)), starts[-1]

    def bind(self, memory: int, addresses: Mapping[str, int]) -> None:
        """See `Context`."""
        at = {name: memory + start for name, start in self._starts.items()} | dict(addresses)
        for piece, context, plan in (
            (FEATURES, self._features, self._plan.features),
            (REST, self._rest, self._plan.rest),
        ):
            context.bind(at[piece], {tensor.name: at[tensor.name] for tensor in plan.tensors})
        self._plan.gpu.write(at[TABLES], self._kernel.tables)
        maps = Maps(*([None if name is None else at[name] for name in of] for of in self._plan.maps))
        self._problem = self._kernel.problem(maps, at[TABLES], at[SCRATCH], at[MAP], at[SCORES])

    def can_be_captured(self, stream: Any) -> bool:
        """See `Context`."""
        return self._features.can_be_captured(stream) and self._rest.can_be_captured(stream)

    def enqueue(self, stream: Any) -> None:
        """See `Context`."""
        self._features.enqueue(stream)
        self._plan.launcher.run(self._problem, stream)
        self._rest.enqueue(stream)


def _between(features: Plan, rest: Plan, maps: Mapping[str, tuple[int, ...]]) -> list[Tensor]:
    """What `features` hands on: `maps` of these shapes in FP16, and of the score what `rest` reads."""
    made = [tensor for tensor in features.tensors if not tensor.is_input]
    halves = {tensor.name: tensor.shape[1:] for tensor in made if tensor.dtype == "HALF"}
    parts = {tensor.name: tensor.shape[1:] for tensor in made if tensor.dtype == "FLOAT"}
    read = {tensor.name: tensor.shape[1:] for tensor in rest.tensors if tensor.is_input}
    given = [tensor.name for tensor in rest.tensors if not tensor.is_input]
    if len(halves) + len(parts) != len(made) or halves != maps or read != {SCORES: (PARTS,), **parts}:
        raise ValueError(f"the kernel reads {dict(maps)} and its engine gives {made}")
    if given != [SCORE]:
        raise ValueError(f"its second plan gives {given}")
    return made
