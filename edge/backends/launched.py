"""An engine that ends at the feature maps, the affinity kernel, and what makes one score of its parts.

    pixels -> features -> maps, other parts of the score -> affinity kernel -> rest -> score
              (plan)                                        (three launches)   (plan)

Together they are one Plan: one memory, one stream, one CUDA graph. Which graphs the two plans are made of:
`build_engines/cut.py`. With full TensorRT the kernel is a plugin inside the engine (edge/kernels/plugin.py).
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edge.backends.plan import MAP, SCORE, Plan, Tensor
from edge.errors import BackendFault
from edge.kernels.constants import PARTS, SCALES, Constants
from edge.kernels.cuda import Gpu
from edge.kernels.launch import Launcher
from edge.kernels.problem import ALIGNMENT, SCORES, Maps, map_name
from edge.kernels.problem import Plan as KernelPlan

MAGIC = b"PK\3\4"  # of a NumPy archive; no plan of TensorRT begins like that
PIECES = ("features", "rest", "constants")
BYTES = {"HALF": 2, "FLOAT": 4}
AGAIN = "Build it again with build-engines."


@dataclass(frozen=True)
class Pieces:
    """What a file of such a plan holds: two plans of TensorRT, and the kernel's constants."""

    features: bytes
    rest: bytes
    constants: Constants

    def packed(self) -> bytes:
        """As one file's content."""
        archive = io.BytesIO()
        pieces = (np.frombuffer(of, np.uint8) for of in (self.features, self.rest, self.constants.to_bytes()))
        np.savez(archive, allow_pickle=False, **dict(zip(PIECES, pieces, strict=True)))
        return archive.getvalue()


def unpacked(content: bytes, path: Path) -> Pieces | None:
    """What `Pieces.packed` gave; None for a plan of TensorRT alone. Raises BackendFault."""
    if not content.startswith(MAGIC):
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            features, rest, constants = (archive[name].tobytes() for name in PIECES)
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise BackendFault(f"the plan is cut off or broken: {error}", str(path), AGAIN) from error
    return Pieces(features, rest, Constants.from_bytes(constants))


class LaunchedPlan:
    """See `Plan`. Raises BackendFault where the pieces do not belong together."""

    def __init__(
        self, gpu: Gpu, features: Plan, rest: Plan, constants: Constants, launcher: Launcher
    ) -> None:
        self.gpu, self.features, self.rest = gpu, features, rest
        self.constants, self.launcher = constants, launcher
        self.name, self.most = f"{features.name} with affinity kernel", min(features.most, rest.most)
        scales = {"teacher": (True,) * SCALES, "global": (True,) * SCALES, "local": constants.local}
        self.maps = [
            [map_name(network, k) if has else None for k, has in enumerate(of)]
            for network, of in scales.items()
        ]
        self.between = _between(features, rest, [name for of in self.maps for name in of if name])

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
        self._kernel = KernelPlan(plan.constants, pictures)
        sizes = {
            "features": self._features.memory_bytes, "rest": self._rest.memory_bytes,
            "tables": self._kernel.tables.nbytes, "scratch": self._kernel.scratch_bytes,
            SCORES: 4 * pictures * PARTS,
            **{t.name: pictures * BYTES[t.dtype] * prod(t.shape[1:]) for t in plan.between},
        }  # fmt: skip
        starts = [0, *accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes.values())]
        self._starts, self.memory_bytes = dict(zip(sizes, starts, strict=False)), starts[-1]

    def bind(self, memory: int, addresses: Mapping[str, int]) -> None:
        """See `Context`."""
        at = {name: memory + start for name, start in self._starts.items()} | dict(addresses)
        for piece, context, plan in (
            ("features", self._features, self._plan.features),
            ("rest", self._rest, self._plan.rest),
        ):
            context.bind(at[piece], {tensor.name: at[tensor.name] for tensor in plan.tensors})
        self._plan.gpu.write(at["tables"], self._kernel.tables)
        maps = Maps(*([None if name is None else at[name] for name in of] for of in self._plan.maps))
        self._problem = self._kernel.problem(maps, at["tables"], at["scratch"], at[MAP], at[SCORES])

    def can_be_captured(self, stream: Any) -> bool:
        """See `Context`."""
        return self._features.can_be_captured(stream) and self._rest.can_be_captured(stream)

    def enqueue(self, stream: Any) -> None:
        """See `Context`."""
        self._features.enqueue(stream)
        self._plan.launcher.run(self._problem, stream)
        self._rest.enqueue(stream)


def _between(features: Plan, rest: Plan, maps: Sequence[str]) -> list[Tensor]:
    """What `features` hands on: maps in FP16, other parts of the score as `rest` reads them."""
    made = [tensor for tensor in features.tensors if not tensor.is_input]
    halves = {tensor.name for tensor in made if tensor.dtype == "HALF"}
    parts = {tensor.name for tensor in made} - {*maps}
    read = {tensor.name for tensor in rest.tensors if tensor.is_input}
    given = [tensor.name for tensor in rest.tensors if not tensor.is_input]
    known = all(tensor.dtype in BYTES and min(tensor.shape[1:], default=1) > 0 for tensor in made)
    if not (known and {*maps} <= halves and read == {SCORES, *parts} and given == [SCORE]):
        what = f"the kernel reads {sorted(maps)} and the engine's features are {made}"
        raise BackendFault(what, "plan with the affinity kernel", AGAIN)
    return made
