"""INT8 by explicit Q/DQ pairs with ONNX Runtime's quantiser; ours is what stays in float, and the gate.

The students cost nothing in INT8, the teacher's first layers cost everything (docs/method.md). So the first
convolutions stay in float, and more of them from step to step, until the INT8 engine judges as the FP32 one.
"""

import contextlib
import io
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from build_engines.graph import INPUT, IR_VERSION
from calibration.metrics import auroc_of
from calibration.selfmade import make_anomalies
from edge.backends.ort import OnnxRuntimeBackend
from edge.errors import RecipeError
from edge.frame import Pixels

KEEP_FLOAT = (5, 9, 17, 33)  # convolutions from the input on; 33 is the whole Lite0 teacher
CALIBRATION_PICTURES = 48
GATE_PICTURES = 40
MAX_AUROC_LOSS = 0.005  # good parts against their self-made anomalies, INT8 against FP32


@dataclass(frozen=True)
class Quantised:
    """An INT8 graph that has passed the gate, and its figures."""

    model: onnx.ModelProto
    float_convolutions: int
    int8_mac_share: float  # of the convolutions' multiply-accumulates
    score_correlation: float  # Pearson; strong anomalies saturate in INT8, so 1.0 is not to be expected
    auroc_loss: float


def quantise(
    model: onnx.ModelProto, images: Pixels, say: Callable[[str], None], max_auroc_loss: float = MAX_AUROC_LOSS
) -> Quantised:
    """FP32 graph -> the same graph with as many INT8 convolutions as the gate lets through.

    `images` uint8 (N, H, W, 3) are held-out good pictures: ranges and gate come from them. Raises
    RecipeError, naming what was reached, when not even the students alone can be quantised.
    """
    pictures = np.concatenate([images[:GATE_PICTURES], make_anomalies(images[:GATE_PICTURES])])
    good = min(len(images), GATE_PICTURES)
    reference = _scores(model, pictures)
    reached = []
    for count in KEEP_FLOAT:
        say(f"INT8 with the first {count} convolutions in float")
        candidate = _quantise(model, images[:CALIBRATION_PICTURES], count)
        scores = _scores(candidate, pictures)
        loss = auroc_of(reference[:good], reference[good:]) - auroc_of(scores[:good], scores[good:])
        reached.append(f"{count}: {loss:.4f}")
        if loss <= max_auroc_loss:
            correlation = float(np.corrcoef(reference, scores)[0, 1])
            return Quantised(candidate, count, int8_mac_share(model, count), correlation, loss)
    what = f"INT8 judges worse than FP32: AUROC lost {', '.join(reached)} (convolutions in float: loss)"
    hint = f"At most {max_auroc_loss} is allowed. Use the FP32 engine, which was built."
    raise RecipeError(what, "INT8 gate", hint)


def int8_mac_share(model: onnx.ModelProto, float_convolutions: int) -> float:
    """Share of all convolutions' multiply-accumulates behind the first `float_convolutions`, 0..1."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.value_info}
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    work = [
        math.prod(shapes[node.output[0]][1:]) * math.prod(weights[node.input[1]][1:])
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in weights
    ]
    return sum(work[float_convolutions:]) / sum(work)


def _quantise(model: onnx.ModelProto, images: Pixels, float_convolutions: int) -> onnx.ModelProto:
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        source, target = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        quantize_static(
            source, target, _Pictures(images), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"], per_channel=True, activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8, nodes_to_exclude=convolutions[:float_convolutions],
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )  # fmt: skip
        quantised = onnx.load(target)
    quantised.ir_version = IR_VERSION
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _scores(model: onnx.ModelProto, pictures: Pixels) -> npt.NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        backend = OnnxRuntimeBackend(path, (pictures.shape[1], pictures.shape[2]))
    return np.array([backend.infer(picture)[1] for picture in pictures])


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


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """One picture at a time, as the quantiser wants them."""

    def __init__(self, images: Pixels) -> None:
        self._rows = iter([{INPUT: image[None]} for image in images])

    def get_next(self) -> dict[str, Pixels] | None:
        """The next feed, None at the end."""
        return next(self._rows, None)
