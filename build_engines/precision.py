"""FP16 by rewriting the ONNX: the networks in half precision, the arithmetic around them in FP32.

A node runs in half where its operation is one of NETWORK_OPERATIONS and a convolution with more than one
output channel lies at or behind it: teacher and students, found by structure and not by name. All else, from
standardisation to score, is an FP32 island; ISLANDS says why ("seen": by trying, see docs/engines.md).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from build_engines.graph import IR_VERSION, element_types, producers

HALF_OPSET = 19  # the first whose Q/DQ take half-precision scales
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
NETWORK_OPERATIONS = CONVOLUTIONS | QUANTISERS | {"Relu", "Clip", "Add", "Concat", "Resize", "MaxPool"}
FUSED = QUANTISERS | {"Relu", "Clip", "Add"}  # behind a convolution it is part of it

ISLANDS = (  # (operations, what they are here, why they are not in half)
    (("Sub", "Div"), "standardisation, map normalisation, cosines", "differences of nearly equal numbers"),
    (("Pow", "Mul"), "squares, gains of the places", "a square passes FP16's end, 65,504, from 256 on: seen"),
    (("ReduceMean", "ReduceSum", "AveragePool"), "sums over channels and places",
     "they pass FP16's end on pictures unlike any part, which then have no score: seen"),
    (("Sqrt",), "norms, distances", "of sums beyond FP16's end: seen"),
    (("MatMul", "Gemm"), "affinity, words, Mahalanobis distances", "a GPU may add these up in FP16"),
    (("Softmax", "Exp", "Log"), "words", "exponentials end at e to the 11.1"),
    (("Conv", "Pad"), "smoothing of the map", "one channel: nothing to gain"),
    (("TopK", "ReduceMax"), "fusion and score", "figures that meet a limit keep all their digits"),
)  # fmt: skip


@dataclass(frozen=True)
class HalfGraph:
    """`model` for TensorRT, and what ONNX Runtime must run to see its rounding (`emulated`)."""

    model: onnx.ModelProto
    half: Counter[str]  # operations in FP16, how often
    islands: Counter[str]  # operations in FP32

    def table(self) -> Iterator[tuple[str, str, str]]:
        """(operations with their number, what they are, why) of each island in this graph."""
        for operations, what, why in ISLANDS:
            found = [f"{op} {self.islands[op]}" for op in operations if self.islands[op]]
            if found:
                yield ", ".join(found), what, why


def to_half(model: onnx.ModelProto) -> HalfGraph:
    """FP32 graph, with Q/DQ pairs or without, to the strongly typed graph in mixed precision."""
    source = onnx.ModelProto()
    source.CopyFrom(model)
    half = _network(source)
    target = _Rewriting(source, half).result()
    names = [(node.op_type, node.name in half) for node in source.graph.node]
    counts = (Counter(op for op, inside in names if inside is wanted) for wanted in (True, False))
    return HalfGraph(target, *counts)


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """A half-precision graph as FP32 with every rounding written out: what the CPU must run to see it.

    ONNX Runtime's CPU convolutions compute a half-precision graph in FP32 and leave the rounding between them
    out, so that graph itself would show no error at all. Casts that stand in an FP32 graph are kept. A GPU
    rounds less often, for it fuses additions and activations into the convolution.
    """
    result, types = onnx.ModelProto(), element_types(model)
    result.CopyFrom(model)
    graph = result.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            )
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16:
            node.attribute[0].i = TensorProto.FLOAT
        nodes += [node, *_rounding(node, types)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return result


def _rounding(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[onnx.NodeProto]:
    """Two casts behind each half-precision output, which keeps its name; an INT8 convolution takes the INT8
    numbers themselves, so that nothing is rounded behind their DequantizeLinear."""
    if node.op_type == "DequantizeLinear":
        return
    for i, name in enumerate(node.output):
        if types.get(name) == TensorProto.FLOAT16:
            node.output[i] = f"{name}.exact"
            yield _cast(node.output[i], f"{name}.rounded", TensorProto.FLOAT16)
            yield _cast(f"{name}.rounded", name, TensorProto.FLOAT)


def _network(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that run in half precision."""
    behind = producers(model)
    dims = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    names: set[str] = set()
    wanted = [node for node in model.graph.node if _is_wide(node, behind, dims)]
    seen = {node.name for node in wanted}
    while wanted:  # from each convolution to all that stands before it
        node = wanted.pop()
        if node.op_type in NETWORK_OPERATIONS:
            names.add(node.name)
        before = [behind[name] for name in node.input if name in behind and behind[name].name not in seen]
        seen |= {node.name for node in before}
        wanted += before
    for node in model.graph.node:  # and to what is fused into it: activation, residual sum, its quantiser
        feeds = [behind[name].name for name in node.input if name in behind]
        if node.op_type in FUSED and feeds and names.issuperset(feeds):
            names.add(node.name)
    return names


def _is_wide(node: onnx.NodeProto, behind: dict[str, onnx.NodeProto], dims: dict[str, list[int]]) -> bool:
    """A convolution with more than one output channel; its weights may stand behind a DequantizeLinear."""
    if node.op_type not in CONVOLUTIONS:
        return False
    weights = node.input[1]
    shape = dims[behind[weights].input[0] if weights in behind else weights]
    return shape[0 if node.op_type == "Conv" else 1] > 1


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast {source}", to=to)


@dataclass
class _Rewriting:
    """One pass over the nodes in their order: weights converted, a cast wherever precision changes."""

    source: onnx.ModelProto
    half: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)  # converted, by their new name
    casts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.types, self.behind = element_types(self.source), producers(self.source)
        self.constants = {tensor.name: tensor for tensor in self.source.graph.initializer}

    def result(self) -> onnx.ModelProto:
        """The rewritten model, checked."""
        for node in self.source.graph.node:
            for i, name in enumerate(node.input):
                # A Resize's other inputs are sizes and scales, FP32 by definition.
                if self.types.get(name) == TensorProto.FLOAT and not (node.op_type == "Resize" and i):
                    node.input[i] = self._as_needed(name, node.name in self.half)
            self.nodes.append(node)
        return self._model()

    def _as_needed(self, name: str, half: bool) -> str:
        """The tensor in the precision that its reader wants."""
        if name in self.constants:
            return self._constant(name) if half else name
        made_half = name in self.behind and self.behind[name].name in self.half
        if made_half == half:
            return name
        target, to = (f"{name}.half", TensorProto.FLOAT16) if half else (f"{name}.full", TensorProto.FLOAT)
        if target not in self.casts:
            self.casts.add(target)
            self.nodes.append(_cast(name, target, to))
        return target

    def _constant(self, name: str) -> str:
        target = f"{name}.half"
        if target not in self.weights:
            value: npt.NDArray[np.float32] = numpy_helper.to_array(self.constants[name])
            self.weights[target] = numpy_helper.from_array(value.astype(np.float16), target)
        return target

    def _model(self) -> onnx.ModelProto:
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in used]
        graph = helper.make_graph(
            self.nodes, self.source.graph.name, self.source.graph.input, self.source.graph.output,
            [*kept, *self.weights.values()],
        )  # fmt: skip
        quantised = any(node.op_type in QUANTISERS for node in self.nodes)
        opset = HALF_OPSET if quantised else self.source.opset_import[0].version
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model
