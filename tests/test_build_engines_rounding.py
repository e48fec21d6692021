"""Weights rounded together move the answer less than each alone; centred activations do not move it."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from plans import good_pictures

from build_engines.centre import centred
from build_engines.gate import run_graph
from build_engines.graph import load_onnx, set_weights, weights_of
from build_engines.qdq import fits_half
from build_engines.quantise import int8_of
from build_engines.rounding import STEPS, gptq, held_by_half, rounded
from edge.demo.show import ENGINE

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("groups", [1, 6])
def test_rounding_makes_up_for_its_own_errors(groups: int) -> None:
    """Inputs that move together, as neighbouring places and channels do: half the error of plain rounding."""
    shared = RNG.normal(size=(groups, 500, 3)) @ RNG.normal(size=(groups, 3, 9))
    inputs = shared + 0.1 * RNG.normal(size=(groups, 500, 9))
    weights = RNG.uniform(-STEPS, STEPS, (groups, 4, 9))
    covariance = np.stack([np.cov(rows.T) for rows in inputs])
    whole = gptq(weights, covariance)

    def error(other: np.ndarray) -> float:
        moved = (weights - other) @ (inputs - inputs.mean(1, keepdims=True)).transpose(0, 2, 1)
        return float(np.sqrt(np.mean(moved**2)))

    assert np.array_equal(whole, whole.round()) and np.abs(whole).max() <= STEPS
    assert error(whole) < 0.5 * error(weights.round())


def test_what_never_moves_is_rounded_plainly() -> None:
    weights = RNG.uniform(-STEPS, STEPS, (1, 4, 9))
    assert np.array_equal(gptq(weights, np.zeros((1, 9, 9))), weights.round())


def small_network() -> onnx.ModelProto:
    """Pixels, a depthwise 3x3 with stride and lopsided padding, ReLU6, a 1x1, ReLU6, a padded 3x3."""
    shapes = {"w0": (3, 1, 3, 3), "w1": (8, 3, 1, 1), "w2": (4, 8, 3, 3)}
    values = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    values |= {f"b{i}": RNG.normal(size=len(values[f"w{i}"])).astype(np.float32) for i in range(3)}
    values |= {
        "low": np.float32(0),
        "high": np.float32(6),
        "grey": np.float32(100),
        "channels": np.array([1]),
        "twice": np.array([1, 2, 2], np.float32),
        "all": np.array([1, 2, 3]),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["rgb"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["rgb", "grey"], ["x"]),
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "depthwise", group=3, kernel_shape=[3, 3],
                         pads=[0, 0, 1, 1], strides=[2, 2]),
        helper.make_node("Clip", ["c0", "low", "high"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "pointwise", kernel_shape=[1, 1], pads=[0] * 4,
                         strides=[1, 1]),
        helper.make_node("Clip", ["c1", "low", "high"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "padded", kernel_shape=[3, 3], pads=[1] * 4,
                         strides=[1, 1]),
        helper.make_node("ReduceMean", ["c2", "channels"], ["half"], keepdims=0),
        helper.make_node("Resize", ["half", "", "twice"], ["anomaly_map"], mode="nearest"),
        helper.make_node("ReduceMax", ["c2", "all"], ["score"], keepdims=0),
    ]  # fmt: skip
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in ("anomaly_map", "score")]
    pixels = helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["batch", 16, 16, 3])
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "small", [pixels], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_centring_changes_nothing_and_leaves_what_is_padded_alone() -> None:
    model, pictures = small_network(), RNG.integers(0, 256, (3, 16, 16, 3), np.uint8)
    other = centred(model)
    limits = [[float(weights_of(other, name)) for name in node.input[1:]]
              for node in other.graph.node if node.op_type == "Clip"]  # fmt: skip
    assert limits == [[-3, 3], [0, 6]]  # the second is read with a border of zeros
    for found, right in zip(run_graph(other, pictures), run_graph(model, pictures), strict=True):
        assert np.allclose(found, right, atol=1e-4)


def test_the_shipped_detector_is_centred_and_answers_the_same() -> None:
    model, pictures = load_onnx(ENGINE), good_pictures(3)
    other = centred(model)
    assert sum(tensor.name.endswith(".low") for tensor in other.graph.initializer) == 15  # one a block
    maps, scores = run_graph(model, pictures)
    moved_maps, moved_scores = run_graph(other, pictures)
    assert np.abs(maps - moved_maps).max() < 1e-2 and np.abs(scores - moved_scores).max() < 1e-3


def test_the_bias_takes_what_is_left_of_the_mean() -> None:
    """The mean of what a convolution gives stays, whatever its weights became."""
    model, pictures = small_network(), RNG.integers(0, 256, (40, 16, 16, 3), np.uint8)
    found = rounded(model, pictures)["depthwise"]
    weights = found.weights * found.scale[:, None, None, None]
    seen = (pictures.transpose(0, 3, 1, 2) / np.float32(100)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(seen, ((0, 0), (0, 0), (0, 1), (0, 1))), (3, 3), (2, 3)
    )
    windows = windows[:, :, ::2, ::2]
    answers = [
        np.einsum("ncyxij,cij->nyxc", windows, w[:, 0]).mean((0, 1, 2)) + b
        for w, b in ((weights, found.bias), (weights_of(model, "w0"), weights_of(model, "b0")))
    ]
    assert np.allclose(*answers, atol=1e-4)
    assert not np.allclose(found.bias, weights_of(model, "b0"), atol=1e-4)


def test_scales_are_numbers_that_fp16_holds() -> None:
    """The story: a plan rounded them, which moved the map as much again as half of INT8's own rounding."""
    wanted = np.abs(RNG.normal(size=1000)) ** 7 + 1e-12  # from far below FP16's smallest to far above one
    scale = held_by_half(wanted)
    assert np.array_equal(scale, scale.astype(np.float16)) and (scale >= wanted).all()
    normal = wanted > 2.0**-14
    assert (scale[normal] <= wanted[normal] * (1 + 2.0**-10)).all()
    assert np.array_equal(held_by_half(scale), scale)


def test_an_int8_engine_of_an_earlier_version_is_known_by_its_scales() -> None:
    """The story: a dead channel's scale of 1e-12 became zero in FP16, and no plan could be built."""
    graph = int8_of(load_onnx(ENGINE), good_pictures(2)).graph(())
    assert fits_half(graph)
    name = next(node.input[1] for node in graph.graph.node if node.op_type == "DequantizeLinear")
    set_weights(graph, name, np.full_like(weights_of(graph, name), 1e-12))
    assert not fits_half(graph)
