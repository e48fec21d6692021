"""After quantisation: what good parts look like to the quantised networks is the new normal.

The graph's own constants are moved, by their names in the export (`fusion.gain0`, `score.centres`), so that
good pictures give the quantiles of every error map and the mean of every part of the score as in FP32.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from build_engines.graph import INPUT
from calibration.normalisation import map_quantiles
from edge.errors import RecipeError
from edge.frame import Pixels

GAIN, OFFSET, WEIGHTS, CENTRES = "fusion.gain", "fusion.offset", "score.weights", "score.centres"

Floats = npt.NDArray[np.float32]


def recalibrate(model: onnx.ModelProto, reference: onnx.ModelProto, images: Pixels) -> None:
    """Move constants of `model`, in place, to what `reference` gives for good pictures uint8 (N, H, W, 3).

    Raises RecipeError for a graph of another version, which names its constants otherwise.
    """
    if not {WEIGHTS, CENTRES} <= {tensor.name for tensor in model.graph.initializer}:
        hint = "Run build-engines on the model folder with this version, training again where it asks for it."
        raise RecipeError("this graph was exported by another version", "INT8", hint)
    sheets = [_reader(model, tensor.name).output[0]
              for tensor in model.graph.initializer if tensor.name.startswith(OFFSET)]  # fmt: skip
    for name, moved, right in zip(
        sheets, seen(model, images, sheets), seen(reference, images, sheets), strict=True
    ):
        _move_sheet(model, name, map_quantiles(moved), map_quantiles(right))
    parts = [_reader(model, WEIGHTS).input[0]]
    shift = seen(model, images, parts)[0].mean(axis=0) - seen(reference, images, parts)[0].mean(axis=0)
    _set(model, CENTRES, _value(model, CENTRES) + _value(model, WEIGHTS) * shift)


def seen(model: onnx.ModelProto, images: Pixels, names: Sequence[str]) -> list[Floats]:
    """Values (N, ...) of inner tensors for all pictures, on the CPU."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    for name in names:
        probed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = [session.run(list(names), {INPUT: image[None]}) for image in images]
    return [np.concatenate(values) for values in zip(*rows, strict=True)]


def _move_sheet(
    model: onnx.ModelProto, name: str, moved: tuple[float, float], right: tuple[float, float]
) -> None:
    """Bring the quantiles `moved` of a normalised error map back to `right`; it is gain * error - offset."""
    subtraction = next(node for node in model.graph.node if name in node.output)
    offset = subtraction.input[1]
    gain = offset.replace(OFFSET, GAIN)
    scale = (right[1] - right[0]) / (moved[1] - moved[0])
    _set(model, gain, _value(model, gain) * scale)
    _set(model, offset, _value(model, offset) * scale + moved[0] * scale - right[0])


def _reader(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if name in node.input)


def _value(model: onnx.ModelProto, name: str) -> Floats:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return np.asarray(numpy_helper.to_array(tensor))


def _set(model: onnx.ModelProto, name: str, value: Floats) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
