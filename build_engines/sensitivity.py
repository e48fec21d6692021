"""Which convolutions bear INT8: each alone in INT8, all others in float, how far do map and score move?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from build_engines.gate import run_graph
from build_engines.graph import convolutions, work_of
from edge.frame import Pixels

SCORE_WEIGHT = 5.0  # of the score's error beside the map's: the score decides
LONGEST_LAYER = 27  # characters of a layer's name that a table in 80 columns has room for
LEAST_WORK = 1e-4  # share of the work: what costs nothing in float is not divided by nothing

Say = Callable[[str], None]
Quantiser = Callable[[Sequence[str]], onnx.ModelProto]  # names of the convolutions left in float -> graph


@dataclass(frozen=True)
class Sensitivity:
    """What happens when this one convolution is in INT8."""

    name: str
    weights: tuple[int, ...]  # (out, in, height, width)
    work: float  # share of all convolutions' multiply-accumulates
    map_error: float  # root mean square over the map's standard deviation
    score_error: float  # the same of the score
    tensor: str = ""  # its weights' name in the export: which layer of which network

    @property
    def layer(self) -> str:
        """Where it stands, for a person: of `teacher.blocks.10.project.conv.weight` as much as fits, whole
        words, the last ones; its name where the weights have none."""
        words = [word for word in self.tensor.split(".") if word not in ("conv", "weight")]
        tail = ".".join(words)
        while len(tail) > LONGEST_LAYER and len(words) > 1:
            words = words[1:]
            tail = ".".join(["..", *words])
        return tail or self.name

    @property
    def damage(self) -> float:
        """Squared error for each share of the work: the largest stays in float first."""
        return (self.map_error**2 + SCORE_WEIGHT * self.score_error**2) / max(self.work, LEAST_WORK)


def sensitivities(
    model: onnx.ModelProto, quantised: Quantiser, pictures: Pixels, say: Say
) -> list[Sensitivity]:
    """A row for each convolution of the FP32 graph, the most damaging first; uint8 (N, H, W, 3)."""
    work, rows = work_of(model), []
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    maps, scores = run_graph(model, pictures)
    nodes = convolutions(model)
    begun = time.monotonic()
    for number, node in enumerate(nodes):
        left = time_left(time.monotonic() - begun, number, len(nodes))
        say(f"INT8: how convolution {number + 1} of {len(nodes)} bears it{left}")
        moved_maps, moved_scores = run_graph(quantised([n for n in work if n != node.name]), pictures)
        errors = _error(moved_maps, maps), _error(moved_scores, scores)
        share, tensor = work[node.name] / sum(work.values()), node.input[1]
        rows.append(Sensitivity(node.name, weights[tensor], share, *errors, tensor))
    return sorted(rows, key=lambda row: -row.damage)


def time_left(took_s: float, done: int, total: int) -> str:
    """ ", about 3 min left"; nothing where nothing is done yet, or less than a minute is left."""
    minutes = took_s / 60 * (total - done) / done if done else 0.0
    return f", about {minutes:.0f} min left" if minutes >= 1 else ""


def stay_float(table: Sequence[Sensitivity], share: float) -> tuple[str, ...]:
    """The most damaging convolutions whose work together is at most `share` of all."""
    kept, left = [], share
    for row in table:
        if row.work <= left:
            kept.append(row.name)
            left -= row.work
    return tuple(kept)


def _error(moved: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean((moved - right) ** 2)) / max(float(right.std()), 1e-9))
