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


class GoodParts:
    """What good pictures uint8 (N, H, W, 3) look like to the FP32 graph: looked at once, for all tries."""

    def __init__(self, reference: onnx.ModelProto, images: Pixels) -> None:
        """Raises RecipeError for a graph of another version, which names its constants otherwise."""
        names = [tensor.name for tensor in reference.graph.initializer]
        if not {WEIGHTS, CENTRES} <= set(names):
            hint = "Run build-engines on the model folder; it says where training is needed again."
            raise RecipeError("this graph was exported by another version", "INT8", hint)
        self._images = images
        self._sheets = [_reader(reference, name).output[0] for name in names if name.startswith(OFFSET)]
        self._parts = _reader(reference, WEIGHTS).input[0]
        *sheets, parts = seen(reference, images, [*self._sheets, self._parts])
        self._quantiles, self._means = [map_quantiles(sheet) for sheet in sheets], parts.mean(axis=0)

    def recalibrate(self, model: onnx.ModelProto) -> None:
        """Move constants of a quantised `model`, in place, so that good pictures look so to it, too."""
        sheets = seen(model, self._images, self._sheets)
        for name, sheet, right in zip(self._sheets, sheets, self._quantiles, strict=True):
            _move_sheet(model, name, map_quantiles(sheet), right)
        (parts,) = seen(model, self._images, [self._parts])  # the maps' parts have moved with the sheets
        shift = parts.mean(axis=0) - self._means
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


def _tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _value(model: onnx.ModelProto, name: str) -> Floats:
    return np.asarray(numpy_helper.to_array(_tensor(model, name)))


def _set(model: onnx.ModelProto, name: str, value: Floats) -> None:
    _tensor(model, name).CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
