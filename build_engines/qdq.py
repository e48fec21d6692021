"""Pairs of QuantizeLinear and DequantizeLinear before the convolutions, and nowhere else.

What statistics, errors, distances and residual additions read stays as it was computed: of a tensor that a
convolution reads too, only the convolution gets the INT8 copy. Nothing is rounded twice, as it would be with
pairs behind the convolutions, too.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from build_engines.graph import IR_VERSION, convolutions, weights_of
from build_engines.probe import look
from build_engines.rounding import STEPS, Rounded, held_by_half
from edge.frame import Pixels

TEACHER = "teacher."  # its weights' names in the export begin so
HEADROOM = 1.5  # other anomalies go further than the self-made ones


def ranges(model: onnx.ModelProto, pictures: Pixels) -> dict[str, float]:
    """Largest absolute value that INT8 is to hold of each convolution's input, by the tensor's name: the
    largest seen on the pictures, for the students with HEADROOM above it."""
    nodes, found = convolutions(model), dict[str, float]()
    for values in look(model, pictures, [node.input[0] for node in nodes]):
        for name, value in values.items():
            found[name] = max(found.get(name, 0.0), float(np.abs(value).max()))
    students = {node.input[0] for node in nodes if not node.input[1].startswith(TEACHER)}
    return {name: seen * (HEADROOM if name in students else 1.0) for name, seen in found.items()}


def fits_half(model: onnx.ModelProto) -> bool:
    """Whether FP16 holds every scale; engines of earlier versions have some that would become zero there."""
    nodes = (node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear"))
    scales = (weights_of(model, name) for name in {node.input[1] for node in nodes})
    return all(np.array_equal(scale, held_by_half(scale)) for scale in scales)


@dataclass(frozen=True)
class Int8:
    """What a graph in INT8 is made of: the FP32 one, its rounded weights, the range of each input."""

    model: onnx.ModelProto
    weights: dict[str, Rounded]  # by the convolution's name
    ranges: dict[str, float]  # by the tensor's name

    def graph(self, in_float: Collection[str]) -> onnx.ModelProto:
        """All convolutions but those named in INT8; weights per channel, symmetric, as TensorRT has it."""
        return _Inserting(self, in_float).result()


@dataclass
class _Inserting:
    """One pass over the nodes in their order."""

    source: Int8
    in_float: Collection[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)  # tensor -> its INT8 copy, dequantised

    def result(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self.source.model)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Conv" and node.name not in self.in_float:
                node.input[0] = self.pairs.get(node.input[0]) or self._pair(node.input[0])
                self._weights(node)
            self.nodes.append(node)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in used]
        graph = helper.make_graph(self.nodes, model.graph.name, model.graph.input, model.graph.output, kept)
        return helper.make_model(graph, opset_imports=model.opset_import, ir_version=IR_VERSION)

    def _pair(self, name: str) -> str:
        self._constant(f"{name}.scale", held_by_half(self.source.ranges[name] / STEPS))
        self._constant(f"{name}.zero", np.int8(0))
        self._node("QuantizeLinear", name, name, f"{name}.int8")
        self.pairs[name] = self._node("DequantizeLinear", f"{name}.int8", name, f"{name}.dequantised")
        return self.pairs[name]

    def _weights(self, node: onnx.NodeProto) -> None:
        name, rounded = node.input[1], self.source.weights[node.name]
        self._constant(f"{name}.int8", rounded.weights)
        self._constant(f"{name}.scale", rounded.scale)
        self._constant(f"{name}.zero", np.zeros(len(rounded.scale), np.int8))
        node.input[1] = self._node("DequantizeLinear", f"{name}.int8", name, f"{name}.dequantised", axis=0)
        if rounded.bias is not None:
            node.input[2] = self._constant(f"{node.input[2]}.corrected", rounded.bias)

    def _node(self, kind: str, source: str, of: str, target: str, **options: int) -> str:
        inputs = [source, f"{of}.scale", f"{of}.zero"]
        self.nodes.append(helper.make_node(kind, inputs, [target], f"{kind} {of}", **options))
        return target

    def _constant(self, name: str, value: "np.generic | np.ndarray") -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name
