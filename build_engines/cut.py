"""The detector's graph, cut at the feature maps: the affinity kernel in place of what comes after them.

pixels -> features -> maps in FP16 ------> ONE node -> anomaly map
                  |                               |
                  |                               +--> scores of map and local branch --> rest -> score
                  +--> the score's other parts -------------------------------------------^
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from build_engines.graph import INPUT, OUTPUTS, producers
from build_engines.tail import Tail
from edge.backends.launched import Pieces
from edge.kernels.constants import PARTS, Constants
from edge.kernels.plugin import FIELD, NAME, VERSION
from edge.kernels.problem import SCORES, Layout

DOMAIN = "edge_inspect"  # of the node; TensorRT looks at its name alone
TABLES = "affinity.tables"


@dataclass(frozen=True)
class Cut:
    """One graph in three ways, and what the kernel must know of it.

    whole: pixels -> anomaly_map, score; its one node of DOMAIN is the plugin of edge/kernels/plugin.py.
    features: pixels -> FP16 maps in the plugin's order, then the score's other parts.
    rest: SCORES float (batch, 2), then those parts -> score.
    """

    whole: onnx.ModelProto
    features: onnx.ModelProto
    rest: onnx.ModelProto
    constants: Constants

    def built(self, build: Callable[[bytes], bytes], plugins: bool) -> bytes:
        """A plan with the kernel: as the plugin where these are taken, else between the plans of two pieces.

        `build` makes a plan of ONNX bytes.
        """
        if plugins:
            return build(self.whole.SerializeToString())
        features, rest = (build(piece.SerializeToString()) for piece in (self.features, self.rest))
        return Pieces(features, rest, self.constants).packed()


def cut(model: onnx.ModelProto) -> Cut:
    """Of an exported detector. Raises BackendFault where the kernel does not compute what it does."""
    tail = Tail(model)
    changed = _changed(model, tail)
    others = _read_beside(changed, SCORES)
    extractor = Extractor(onnx.shape_inference.infer_shapes(changed))

    def between(inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
        part = extractor.extract_model(inputs, outputs)
        del part.graph.value_info[:]
        onnx.checker.check_model(part)
        return part

    whole, features = between([INPUT], [*OUTPUTS]), between([INPUT], [*tail.maps, *others])
    return Cut(whole, features, between([SCORES, *others], [OUTPUTS[1]]), tail.constants)


def _changed(model: onnx.ModelProto, tail: Tail) -> onnx.ModelProto:
    """The node stands where the first stood that made what it makes; what only those read is still there."""
    changed, made = onnx.ModelProto(), {OUTPUTS[0], *tail.parts}
    changed.CopyFrom(model)
    graph = changed.graph
    nodes = [*graph.node]
    first = min(i for i, node in enumerate(nodes) if made & set(node.output))
    later = [node for node in nodes[first:] if not made & set(node.output)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend([*nodes[:first], *_nodes(tail), *later])
    graph.initializer.append(
        numpy_helper.from_array(Layout(tail.constants, 1).tables.view(np.float32), TABLES)
    )
    for column in range(PARTS):
        graph.initializer.append(numpy_helper.from_array(np.array(column), _column(column)))
    graph.value_info.append(helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["batch", PARTS]))
    changed.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return changed


def _nodes(tail: Tail) -> Iterator[onnx.NodeProto]:
    """Maps to FP16, the kernel, its scores as the parts that they are."""
    for name, source in tail.maps.items():
        yield helper.make_node("Cast", [source], [name], name=f"cast {name}", to=TensorProto.FLOAT16)
    packed = tail.constants.to_bytes()
    field = helper.make_tensor(FIELD, TensorProto.INT8, [len(packed)], packed, raw=True)
    yield helper.make_node(
        NAME, [*tail.maps, TABLES], [OUTPUTS[0], SCORES], name="affinity", domain=DOMAIN,
        plugin_version=VERSION, plugin_namespace="", **{FIELD: field},
    )  # fmt: skip
    for part, column in tail.parts.items():
        yield helper.make_node("Gather", [SCORES, _column(column)], [part], name=f"take {part}", axis=1)


def _column(column: int) -> str:
    return f"{SCORES}.{column}"


def _read_beside(model: onnx.ModelProto, start: str) -> list[str]:
    """Tensors that are computed without `start` and read together with what comes of it."""
    behind, reached, beside = producers(model), {start}, dict[str, None]()
    for node in model.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            beside |= {name: None for name in node.input if name in behind and name not in reached}
    return [*beside]
