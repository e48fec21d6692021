"""ReLU6 gives 0 to 6; symmetric INT8 holds -6 to 6 and would leave half of its steps unused.

A ReLU6 that only 1x1 convolutions without padding read can give -3 to 3 instead: the convolution before it
takes 3 from its bias, those behind it add what the 3 would have brought. The answer is the same, each step of
INT8 half as wide. With padding it would not be: a border of zeros would become one of threes.
"""

import numpy as np
import onnx
from onnx import numpy_helper

from build_engines.graph import consumers, producers, set_weights, weights_of


def centred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same detector with every such activation centred round zero."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    behind, readers = producers(result), consumers(result)
    for node in result.graph.node:
        before, after = behind.get(node.input[0]), readers.get(node.output[0], [])
        bounded = node.op_type == "Clip" and len(node.input) == 3
        if bounded and before is not None and _has_bias(before) and after and all(map(_is_pointwise, after)):
            _centre(result, node, before, after)
    return result


def _centre(
    model: onnx.ModelProto, clip: onnx.NodeProto, before: onnx.NodeProto, after: list[onnx.NodeProto]
) -> None:
    low, high = (float(weights_of(model, name)) for name in clip.input[1:])
    middle = (low + high) / 2
    set_weights(model, before.input[2], weights_of(model, before.input[2]) - middle)
    for node in after:
        brought = middle * weights_of(model, node.input[1]).sum(axis=(1, 2, 3))
        set_weights(model, node.input[2], weights_of(model, node.input[2]) + brought)
    for place, limit in ((1, low - middle), (2, high - middle)):
        clip.input[place] = f"{clip.output[0]}.{'low' if place == 1 else 'high'}"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(limit), clip.input[place]))


def _has_bias(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and len(node.input) == 3


def _is_pointwise(node: onnx.NodeProto) -> bool:
    """A 1x1 convolution with a bias, over all channels, without padding."""
    options = {attribute.name: attribute for attribute in node.attribute}
    if not _has_bias(node) or ("group" in options and options["group"].i != 1):
        return False
    return set(options["kernel_shape"].ints) == {1} and not any(options["pads"].ints)
