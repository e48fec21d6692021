"""FP16: which nodes, and what the CPU must run to see the rounding."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from plans import good_pictures

from build_engines.gate import run_graph
from build_engines.graph import element_types, load_onnx
from build_engines.precision import ISLANDS, NETWORK_OPERATIONS, emulated, to_half
from edge.demo.show import ENGINE


@pytest.fixture(scope="module")
def detector() -> onnx.ModelProto:
    return load_onnx(ENGINE)


def test_every_convolution_of_the_networks_runs_in_half_and_nothing_behind_them(
    detector: onnx.ModelProto,
) -> None:
    half = to_half(detector)
    types = element_types(half.model)
    in_half = [n for n in half.model.graph.node
               if types.get(n.output[0]) == TensorProto.FLOAT16 and n.op_type != "Cast"]  # fmt: skip
    convolutions = [node for node in detector.graph.node if node.op_type == "Conv"]
    assert half.half["Conv"] == len(convolutions) - 1 and half.islands["Conv"] == 1  # the smoothing
    assert {node.op_type for node in in_half} <= NETWORK_OPERATIONS
    assert [types[o.name] for o in half.model.graph.output] == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert sum(half.half.values()) + sum(half.islands.values()) == len(detector.graph.node)


def test_every_island_is_explained(detector: onnx.ModelProto) -> None:
    """Operations that compute, as against those that move values or count places."""
    moving = {"Cast", "Transpose", "GatherND", "Gather", "Reshape", "Unsqueeze", "Squeeze", "Shape", "Concat",
              "Resize", "Slice", "Clip", "Add"}  # fmt: skip
    explained = {operation for operations, _, _ in ISLANDS for operation in operations}
    assert set(to_half(detector).islands) <= explained | moving


def two_convolutions() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((16, 3, 3, 3), (8, 16, 3, 3))]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="second", pads=[1] * 4),
        helper.make_node("Sqrt", ["c"], ["y"], name="behind"),
    ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16]),
              helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 16, 16])]  # fmt: skip
    initializers = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "two", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def squares(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        return np.square(session.run(None, {"x": x})[0])


def test_the_rounding_is_seen_only_where_it_is_written_out() -> None:
    """The story: ONNX Runtime computes a half-precision graph in FP32 and leaves the rounding between its
    convolutions out. A gate on that graph would have passed anything."""
    half = to_half(two_convolutions()).model
    written, left_out = (squares(model)[0] for model in (emulated(half), half))
    positive = np.isfinite(written) & np.isfinite(left_out) & (written > 1)
    roots = [np.sqrt(values[positive]) for values in (written, left_out)]
    assert not np.array_equal(*roots)
    assert np.allclose(*roots, rtol=0.05)


def test_emulated_values_are_numbers_that_half_precision_has() -> None:
    model = emulated(to_half(two_convolutions()).model)
    model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 8, 16, 16]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["c"], {"x": np.ones((1, 3, 16, 16), np.float32)})[0]
    assert np.array_equal(found, found.astype(np.float16).astype(np.float32))


def test_in_fp16_the_shipped_detector_scores_as_in_fp32(detector: onnx.ModelProto) -> None:
    pictures = good_pictures(8)
    (maps, scores), (half_maps, half_scores) = (
        run_graph(model, pictures) for model in (detector, emulated(to_half(detector).model))
    )
    assert 0 < np.abs(half_scores / scores - 1).max() < 0.1  # of a good part: the limit stands at 3
    assert 0 < np.sqrt(np.mean((maps - half_maps) ** 2)) < 2e-2


def test_a_picture_unlike_any_part_still_has_a_score(detector: onnx.ModelProto) -> None:
    """The story: with the sums in half, noise and a black picture had no score; the worst parts of all."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    wild = np.concatenate([noise, np.zeros_like(noise), np.full_like(noise, 255)])
    maps, scores = run_graph(emulated(to_half(detector).model), wild)
    assert np.isfinite(maps).all() and np.isfinite(scores).all() and scores.min() > 2
