"""Inner tensors of a graph, looked at on the CPU."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from build_engines.graph import INPUT
from edge.frame import Pixels

Floats = npt.NDArray[np.float32]


def look(model: onnx.ModelProto, images: Pixels, names: Sequence[str]) -> Iterator[dict[str, Floats]]:
    """Values (1, ...) by name, picture after picture: all pictures' together would not fit in memory."""
    wanted, probed = list(dict.fromkeys(names)), onnx.ModelProto()
    probed.CopyFrom(model)
    for name in wanted:
        probed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the backend does
    serialized, providers = probed.SerializeToString(), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(serialized, options, providers=providers)
    for image in images:
        yield dict(zip(wanted, session.run(wanted, {INPUT: image[None]}), strict=True))


def look_at(model: onnx.ModelProto, images: Pixels, name: str) -> Floats:
    """Values (N, ...) of one tensor for all pictures."""
    return np.concatenate([values[name] for values in look(model, images, [name])])
