"""The ONNX file as everything behind the export sees it: without torch, on a PC as on a Jetson."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edge.errors import RecipeError
from edge.recipe import METADATA_KEY

OPSET = 18  # the newest that ONNX Runtime 1.18, OpenVINO 2024 and TensorRT 10 all read
NEWEST_OPSET = 20  # what TensorRT 10 documents; its parser reads a newer one without a word, and by chance
IR_VERSION = 10
INPUT, OUTPUTS = "pixels", ("anomaly_map", "score")


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an exported detector. Raises RecipeError for what is no such graph, or of too new an opset."""
    hint = "Copy it again with its recipe, or run build-engines on the model folder."
    try:
        model = onnx.load(path)
    except DecodeError as error:
        raise RecipeError("the ONNX file is cut off or broken", str(path), hint) from error
    if [i.name for i in model.graph.input] != [INPUT] or [o.name for o in model.graph.output] != [*OUTPUTS]:
        raise RecipeError("this ONNX file is not one of our detectors", str(path), hint)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if not 0 < opset <= NEWEST_OPSET:
        what = f"the ONNX file has opset {opset}; TensorRT is asked for at most {NEWEST_OPSET}"
        raise RecipeError(what, str(path), "Export it with this version: build-engines on the model folder.")
    return model


def onnx_bytes(model: onnx.ModelProto, recipe_text: str) -> bytes:
    """The file's content, with a copy of the recipe in the metadata."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, recipe_text
    return bytes(model.SerializeToString())


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node behind each tensor name."""
    return {name: node for node in model.graph.node for name in node.output}


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor name."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def weights_of(model: onnx.ModelProto, name: str) -> npt.NDArray[np.float32]:
    """The value of a constant, by its name in the export."""
    return np.asarray(numpy_helper.to_array(_constant(model, name)))


def set_weights(model: onnx.ModelProto, name: str, value: npt.NDArray[np.floating]) -> None:
    """Give a constant another value, in place."""
    _constant(model, name).CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def _constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Each tensor's element type (`onnx.TensorProto.FLOAT`, ...), weights included."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    types = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    return types | {tensor.name: int(tensor.data_type) for tensor in graph.initializer}


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """In the order of the graph; without transposed ones, which stay in float."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def work_of(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of each convolution, transposed or not, for one picture, by its name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.value_info
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    work = {}
    for node in model.graph.node:  # each place of one side meets the weights of one channel of it
        if node.op_type in ("Conv", "ConvTranspose"):
            side = node.output[0] if node.op_type == "Conv" else node.input[0]
            work[node.name] = math.prod(shapes[side][1:]) * math.prod(shapes[node.input[1]][1:])
    return work
