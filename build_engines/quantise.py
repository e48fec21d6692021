"""INT8 by explicit Q/DQ pairs: what is rounded, how, and what stays in float.

A detector of anomalies must stay linear far beyond what good parts show, so ranges come from good pictures
and self-made anomalies together. Activations are centred (`centre.py`), weights rounded so that little moves
(`rounding.py`), pairs set where nothing else reads them (`qdq.py`). What spoils the answer still stays in
float: the most damaging convolutions (`sensitivity.py`) within a budget of the work, more of it from step to
step until the gate lets it pass. Then good parts' look in INT8 becomes the normal one (`recalibrate.py`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from build_engines.centre import centred
from build_engines.gate import Gate, GateResult
from build_engines.listener import Listener
from build_engines.qdq import Int8, ranges
from build_engines.recalibrate import GoodParts
from build_engines.rounding import rounded
from build_engines.sensitivity import Say, Sensitivity, sensitivities, stay_float
from calibration.selfmade import make_anomalies
from edge.errors import RecipeError
from edge.frame import Pixels

RANGE_PICTURES = 12  # good ones, with two self-made anomalies of each: ranges, and how inputs move together
SWEEP_PICTURES = 4  # the same, for the sweep: its errors are far apart
CENTRE_PICTURES = 48  # good ones: what is typical of them in INT8
# Shares of the work that may stay in float: 90 % in INT8 is the goal, the last is nearly the whole teacher.
FLOAT_SHARES = (0.1, 0.2, 0.4, 0.7)

Runs = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclass(frozen=True)
class Quantised:
    """An INT8 graph, how it was found, and what the gate says of it."""

    model: onnx.ModelProto
    in_float: tuple[str, ...]
    table: list[Sensitivity]
    gate: GateResult

    def accepted(self) -> "Quantised":
        """Itself. Raises RecipeError, naming what bears INT8 worst, where the gate refused it."""
        if self.gate:
            return self
        worst = "; ".join(f"{row.layer} {row.weights}: score {row.score_error:.3f}" for row in self.table[:5])
        what = f"INT8 judges otherwise than FP32: {self}. Errors with this one alone in INT8: {worst}"
        hint = f"{self.gate.tolerance}. Use the FP32 engine or an FP16 plan (--fp16), or --force it."
        raise RecipeError(what, "accuracy gate", hint)

    def __str__(self) -> str:
        return f"{self.gate.int8_mac_share:.0%} of the work in INT8; {self.gate}"


def quantise(
    model: onnx.ModelProto, images: Pixels, gate: Gate, listener: Listener, as_run: Runs = lambda graph: graph
) -> Quantised:
    """FP32 graph -> the same graph with as many convolutions in INT8 as `gate` lets through.

    The last one tried, where none passes: `Quantised.gate` is then false.

    `images` uint8 (N, H, W, 3) are held-out good pictures that `gate` does not judge on. `as_run` gives what
    the gate is to run for a graph, where that is not the graph itself.
    """
    tries = Tries(model, images, listener.say)
    for share in FLOAT_SHARES:
        in_float, graph = tries.graph(share)
        listener.say(f"INT8 with {len(in_float)} convolutions in float: comparing with FP32")
        result = gate.judge(as_run(graph), "int8")
        found = Quantised(graph, in_float, tries.table, result)
        if found.gate:
            break
        if share != FLOAT_SHARES[-1]:
            moved = f"{result.flip_rate:.2%} of the verdicts differ, AUROC {result.auroc_delta:+.4f}"
            listener.note(f"with {result.int8_mac_share:.0%} of the work in INT8 {moved}: less is tried")
    listener.sensitivities(found.table, found.in_float)
    listener.judged(found.gate)
    return found


class Tries:
    """INT8 graphs of one FP32 graph; images uint8 (N, H, W, 3) are good pictures that nobody judges on."""

    def __init__(self, model: onnx.ModelProto, images: Pixels, say: Say) -> None:
        self._good = GoodParts(model, images[:CENTRE_PICTURES])
        say("INT8: rounding weights")
        self._int8 = int8_of(model, with_anomalies(images, RANGE_PICTURES))
        self.table = sensitivities(model, self._int8.graph, with_anomalies(images, SWEEP_PICTURES), say)

    def graph(self, share: float) -> tuple[tuple[str, ...], onnx.ModelProto]:
        """The convolutions that stay in float, at most `share` of the work, and the graph, recalibrated."""
        transposed = 1 - sum(row.work for row in self.table)  # always in float
        in_float = stay_float(self.table, share - transposed)
        graph = self._int8.graph(in_float)
        self._good.recalibrate(graph)
        onnx.checker.check_model(graph, full_check=True)
        return in_float, graph


def int8_of(model: onnx.ModelProto, pictures: Pixels) -> Int8:
    """The FP32 graph with ranges and rounded weights from the pictures uint8 (N, H, W, 3)."""
    source = centred(model)
    return Int8(source, rounded(source, pictures), ranges(source, pictures))


def with_anomalies(images: Pixels, count: int) -> Pixels:
    """`count` good pictures, or all where there are fewer, and about twice `count` self-made anomalies."""
    good = images[:count]
    rounds = math.ceil(count / len(good))
    return np.concatenate([good, *(make_anomalies(good, seed) for seed in range(rounds))])
