"""INT8 by explicit Q/DQ pairs: ONNX Runtime's quantiser does the work, ours is what stays in float.

A detector of anomalies must stay linear far beyond what good parts show, so ranges come from good pictures
and self-made anomalies together. What spoils the answer stays in float: the most damaging convolutions
(`sensitivity.py`) within a budget of the work, more of it from step to step until the gate lets it pass.
"""

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from build_engines.gate import Gate, GateResult
from build_engines.graph import INPUT, IR_VERSION, producers
from build_engines.listener import Listener
from build_engines.recalibrate import GoodParts
from build_engines.sensitivity import Say, Sensitivity, sensitivities, stay_float
from calibration.selfmade import make_anomalies
from edge.errors import RecipeError
from edge.frame import Pixels

RANGE_PICTURES = 12  # good ones, with two self-made anomalies of each: the range of every tensor
SWEEP_PICTURES = 4  # the same, for the sweep: its errors are far apart
CENTRE_PICTURES = 48  # good ones: what is typical of them in INT8
# How a tensor's range comes from what it was seen to hold: ways to try, in this order.
OBSERVERS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "maximum": (CalibrationMethod.MinMax, {}),
    "percentile 99.999": (CalibrationMethod.Percentile, {"percentile": 99.999}),
}
# Shares of the work that may stay in float: 90 % in INT8 is the goal, the last is nearly the whole teacher.
FLOAT_SHARES = (0.1, 0.2, 0.4, 0.7)


@dataclass(frozen=True)
class Quantised:
    """An INT8 graph, how it was found, and what the gate says of it."""

    model: onnx.ModelProto
    observer: str
    in_float: tuple[str, ...]
    table: list[Sensitivity]
    gate: GateResult

    def accepted(self) -> "Quantised":
        """Itself. Raises RecipeError, naming what bears INT8 worst, where the gate refused it."""
        if self.gate:
            return self
        worst = "; ".join(f"{row.name} {row.weights}: score {row.score_error:.3f}" for row in self.table[:5])
        what = f"INT8 judges otherwise than FP32: {self}. Errors with this one alone in INT8: {worst}"
        hint = f"{self.gate.tolerance}. Use the FP32 engine or an FP16 plan (--fp16), or --force it."
        raise RecipeError(what, "accuracy gate", hint)

    def __str__(self) -> str:
        return f"{self.gate.int8_mac_share:.0%} of the work in INT8 (ranges by {self.observer}); {self.gate}"


def quantise(model: onnx.ModelProto, images: Pixels, gate: Gate, listener: Listener) -> Quantised:
    """FP32 graph -> the same graph with as many convolutions in INT8 as `gate` lets through.

    The last one tried, where none passes: `Quantised.gate` is then false.

    `images` uint8 (N, H, W, 3) are held-out good pictures that `gate` does not judge on.
    """
    good = GoodParts(model, images[:CENTRE_PICTURES])
    for sweep, share in _tries(model, images, listener.say):
        in_float = stay_float(sweep.table, share)
        graph = quantised(model, sweep.ranges, in_float)
        good.recalibrate(graph)
        onnx.checker.check_model(graph, full_check=True)
        listener.say(f"INT8 with {len(in_float)} convolutions in float: comparing with FP32")
        found = Quantised(graph, sweep.observer, in_float, sweep.table, gate.judge(graph, "int8"))
        if found.gate:
            break
    listener.sensitivities(found.table, found.in_float)
    return found


@dataclass(frozen=True)
class _Sweep:
    """One observer's ranges, and how each convolution bears INT8 with them."""

    observer: str
    ranges: TensorsData
    table: list[Sensitivity]


def _tries(model: onnx.ModelProto, images: Pixels, say: Say) -> Iterator[tuple[_Sweep, float]]:
    """What to try: ranges, and the share of the work that may stay in float; most INT8 first."""
    sweeps = []
    for observer in OBSERVERS:
        say(f"INT8: ranges by {observer}")
        ranges = observed_ranges(model, _with_anomalies(images, RANGE_PICTURES), observer)
        pictures = _with_anomalies(images, SWEEP_PICTURES)
        table = sensitivities(model, partial(quantised, model, ranges), pictures, say)
        sweeps.append(_Sweep(observer, ranges, table))
        yield sweeps[-1], FLOAT_SHARES[0]
    yield from ((sweep, share) for share in FLOAT_SHARES[1:] for sweep in sweeps)


def _with_anomalies(images: Pixels, count: int) -> Pixels:
    return np.concatenate([images[:count], make_anomalies(images[:count])])


def observed_ranges(model: onnx.ModelProto, pictures: Pixels, observer: str) -> TensorsData:
    """Range of every convolution's input and output over the pictures."""
    method, options = OBSERVERS[observer]
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        source = Path(scratch) / "fp32.onnx"
        source.write_bytes(model.SerializeToString())
        calibrator = create_calibrator(
            source, ["Conv"], str(Path(scratch) / "observed.onnx"), calibrate_method=method,
            extra_options={"symmetric": True, **options},
        )  # fmt: skip
        for picture in pictures:  # one by one: the quantiser keeps all it is given until it has seen the last
            calibrator.collect_data(_OnePicture(picture))
        return calibrator.compute_data()


def quantised(model: onnx.ModelProto, ranges: TensorsData, in_float: Sequence[str]) -> onnx.ModelProto:
    """The graph with Q/DQ pairs round all convolutions but those named; weights per channel, all symmetric,
    as TensorRT has it."""
    with _quiet():
        quantiser = QDQQuantizer(
            copy.deepcopy(model), per_channel=True, reduce_range=False, weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8, tensors_range=ranges, nodes_to_quantize=[],
            nodes_to_exclude=list(in_float), op_types_to_quantize=["Conv"],
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )  # fmt: skip
        quantiser.quantize_model()
    found = quantiser.model.model
    found.ir_version = IR_VERSION
    share_skips(found)
    quantiser.model.topological_sort()  # new nodes stand at the end
    return found


def share_skips(model: onnx.ModelProto) -> int:
    """Let a residual's skip be the INT8 tensor that the block's own convolution reads. Returns how many.

    TensorRT then fuses the addition into the block's last convolution and keeps no second copy in float.
    """
    behind = producers(model)
    pairs = {
        behind[node.input[0]].input[0]: node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in behind
    }
    shared = 0
    for node in model.graph.node:
        if node.op_type == "Add" and all(name in behind for name in node.input):
            for place, name in enumerate(node.input):
                if name in pairs:
                    node.input[place] = pairs[name]
                    shared += 1
    return shared


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises a pre-processing that the export has done already."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.getLogger().setLevel(level)


class _OnePicture(CalibrationDataReader):  # type: ignore[misc]
    """What the quantiser wants to be asked for pictures through."""

    def __init__(self, image: Pixels) -> None:
        self._rows = iter([{INPUT: image[None]}])

    def get_next(self) -> dict[str, Pixels] | None:
        """The next feed, None at the end."""
        return next(self._rows, None)
