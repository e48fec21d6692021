"""The graph cut at the feature maps: with the kernel in the middle it says what the plain graph says."""

import shutil
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from affinity_cases import fitted_detector
from onnx.utils import Extractor
from plans import good_pictures, needs_rtx

from build_engines.builder import open_builder
from build_engines.cut import DOMAIN, TABLES, Cut, cut
from build_engines.export import export_onnx
from build_engines.graph import INPUT, OUTPUTS, consumers, convolutions, producers, weights_of
from build_engines.precision import to_half
from build_engines.qdq import Int8, ranges
from build_engines.rounding import STEPS, Rounded
from build_engines.tail import Tail
from edge.demo.show import ENGINE
from edge.errors import BackendFault
from edge.kernels.constants import Constants
from edge.kernels.launch import run_on_host
from edge.kernels.plugin import FIELD, NAME
from edge.kernels.problem import SCORES, Layout

TOLERANCE = 1e-3  # of the map's unit and, where it is larger, of the value
FP16 = 5e-3  # what rounding the maps to FP16 changes, in the same unit

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


@pytest.fixture(scope="module")
def plain() -> onnx.ModelProto:
    """A detector that was really trained: the shipped one."""
    return onnx.load(ENGINE)


@cache
def exported(measure: str) -> onnx.ModelProto:
    """A detector of random weights, its teacher's channels standardised."""
    small = {"input_size": (256, 256), "width": 64, "context": 32}
    detector = fitted_detector("efficientnet-lite0", measure=measure, **small)
    with torch.inference_mode():
        for k, m in enumerate(detector.teacher(torch.from_numpy(good_pictures(2)))):
            getattr(detector, f"mean{k}").copy_(m.mean((0, 2, 3), keepdim=True))
            getattr(detector, f"std{k}").copy_(m.std((0, 2, 3), keepdim=True))
    return export_onnx(detector)


@pytest.fixture(params=["shipped", "both", "squared"])
def graph(request: pytest.FixtureRequest, plain: onnx.ModelProto) -> onnx.ModelProto:
    """The shipped detector, or one of this measure."""
    return plain if request.param == "shipped" else exported(request.param)


def run(model: onnx.ModelProto, given: dict[str, Any]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the backend does
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def through_the_kernel(parts: Cut, given: dict[str, Any]) -> dict[str, Any]:
    """What `features` gives -> map and score: the kernel's source on the CPU, then `rest`."""
    teacher, globl, local = (
        [given.get(f"affinity.{name}{k}") for k in range(3)] for name in ("teacher", "global", "local")
    )
    anomaly_map, scores = run_on_host(parts.constants, teacher, globl, local)
    beside = {value.name: given[value.name] for value in parts.rest.graph.input if value.name != SCORES}
    return {"anomaly_map": anomaly_map, **run(parts.rest, {SCORES: scores, **beside})}


def through_plain_operations(model: onnx.ModelProto, given: dict[str, Any]) -> dict[str, Any]:
    """The same by the uncut graph's own nodes."""
    maps = Tail(model).maps
    full = {maps.get(name, name): value.astype(np.float32) for name, value in given.items()}
    extractor = Extractor(onnx.shape_inference.infer_shapes(model))
    return run(extractor.extract_model([*full], [*OUTPUTS]), full)


def assert_agree(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    assert set(found) == set(wanted) == {*OUTPUTS}
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


@needs_gxx
def test_on_real_features_kernel_and_plain_operations_agree(plain: onnx.ModelProto) -> None:
    pictures = good_pictures(2)
    pictures[1, 60:90, 40:130] = 255  # a bad part too
    parts, whole = cut(plain), run(plain, {INPUT: pictures})
    features = run(parts.features, {INPUT: pictures})
    found = through_the_kernel(parts, features)
    assert found["score"].argmax() == 1 and found["score"][1] > 10
    assert_agree(found, through_plain_operations(plain, features))
    assert_agree(found, whole, FP16)
    np.testing.assert_allclose(found["score"], whole["score"], rtol=TOLERANCE)


@needs_gxx
def test_on_random_features_too(graph: onnx.ModelProto) -> None:
    parts, draw = cut(graph), np.random.default_rng(0)
    given = {name: draw.normal(size=(2, *shape)).astype(np.float16) for name, shape in shapes(parts).items()}
    given |= {v.name: draw.uniform(0, 9, (2, 1)).astype(np.float32) for v in parts.rest.graph.input[1:]}
    assert_agree(through_the_kernel(parts, given), through_plain_operations(graph, given))


@needs_gxx
def test_a_graph_in_fp16_is_cut_as_well(graph: onnx.ModelProto) -> None:
    half, pictures = to_half(graph).model, good_pictures(1)
    parts = cut(half)
    found = through_the_kernel(parts, run(parts.features, {INPUT: pictures}))
    assert_agree(found, run(half, {INPUT: pictures}), FP16)
    behind = producers(parts.features)
    for name in [name for name in shapes(parts) if "teacher" not in name]:
        made = behind[behind[name].input[0]]
        assert made.op_type == "Conv", "a student's map goes to FP32 and back"


@needs_gxx
def test_and_one_in_int8(graph: onnx.ModelProto) -> None:
    pictures, weights = good_pictures(1), {}
    for node in convolutions(graph):
        values = weights_of(graph, node.input[1])
        steps = np.abs(values).reshape(len(values), -1).max(axis=1).clip(1e-9) / STEPS
        rounded = np.rint(values / steps.reshape(-1, 1, 1, 1)).astype(np.int8)
        weights[node.name] = Rounded(rounded, steps.astype(np.float32), None)
    smoothing = [node.name for node in convolutions(graph) if node.input[1] == "fusion.blur"]
    changed = to_half(Int8(graph, weights, ranges(graph, pictures)).graph(smoothing)).model
    parts = cut(changed)
    found = through_the_kernel(parts, run(parts.features, {INPUT: pictures}))
    assert_agree(found, run(changed, {INPUT: pictures}), FP16)


def shapes(parts: Cut) -> dict[str, tuple[int, ...]]:
    constants = parts.constants
    every = [(constants.channels[k], *constants.sizes[k]) for k in range(3)]
    found = {f"affinity.{name}{k}": every[k] for name in ("teacher", "global") for k in range(3)}
    return found | {f"affinity.local{k}": every[k] for k in range(3) if constants.local[k]}


def test_the_whole_has_one_node_as_the_plugin_wants_it(graph: onnx.ModelProto) -> None:
    parts = cut(graph)
    assert [i.name for i in parts.whole.graph.input] == [INPUT]
    assert [o.name for o in parts.whole.graph.output] == [*OUTPUTS]
    (node,) = [node for node in parts.whole.graph.node if node.domain == DOMAIN]
    assert node.op_type == NAME and [*node.input] == [*shapes(parts), TABLES]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    packed = attributes[FIELD].raw_data
    assert attributes[FIELD].data_type == onnx.TensorProto.INT8 and attributes["plugin_version"] == b"1"
    assert Constants.from_bytes(packed).top == parts.constants.top
    (tables,) = [t for t in parts.whole.graph.initializer if t.name == TABLES]
    assert onnx.numpy_helper.to_array(tables).tobytes() == Layout(parts.constants, 1).tables.tobytes()
    operations = {node.op_type for node in parts.whole.graph.node}
    assert not operations & {"TopK", "AveragePool", "Pad"}, "what the kernel replaces is still there"


@pytest.mark.parametrize(
    ("operation", "other"),
    [("ReduceMax", "ReduceMean"), ("Pow", "Mul"), ("AveragePool", "MaxPool"), ("Gather", "Abs")],
)
def test_a_graph_that_computes_something_else_is_refused(
    graph: onnx.ModelProto, operation: str, other: str
) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    for node in changed.graph.node:
        if node.op_type == operation:
            node.op_type = other
            del node.attribute[:]
    with pytest.raises(BackendFault, match="does not compute what this graph does"):
        cut(changed)


def spoilt(how: str) -> onnx.ModelProto:
    """The graph of both measures with something else in the place of a student's error."""
    changed = onnx.ModelProto()
    changed.CopyFrom(exported("both"))
    behind, readers = producers(changed), consumers(changed)
    for i in range(5):  # sheets of local and global student
        (scaled,) = readers[f"fusion.gain{i}"]
        both = behind[scaled.input[0]]
        rest = behind[both.input[1]]
        cosine = behind[rest.input[1]]
        product = behind[behind[cosine.input[0]].input[0]]
        match how:
            case "the cosine alone":
                scaled.input[0] = both.input[1]
            case "one squared alone" if i == 0:
                scaled.input[0] = both.input[0]
            case "a product of other maps":
                product.input[0] = product.input[1]
            case "an undivided product":
                cosine.input[1] = cosine.input[0]
            case "another constant":
                rest.input[0] = "fusion.blur"
    return changed


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("the cosine alone", "is not made by ReduceMean"),
        ("one squared alone", "not all of one measure"),
        ("a product of other maps", "not of the same maps"),
        ("an undivided product", "is not made by Clip"),
        ("another constant", "not taken from 1"),
    ],
)
def test_other_errors_of_the_students_are_refused(how: str, why: str) -> None:
    assert cut(spoilt("not at all")).constants.cosine
    with pytest.raises(BackendFault, match=why):
        cut(spoilt(how))


def test_a_graph_without_branches_is_refused(plain: onnx.ModelProto) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(plain)
    for node in changed.graph.node:
        node.input[:] = ["other" if name == "fusion.gain7" else name for name in node.input]
    with pytest.raises(BackendFault, match="branches are not"):
        cut(changed)


# --- TensorRT


@needs_rtx
def test_the_graph_that_ends_at_the_features_is_built(plain: onnx.ModelProto) -> None:
    parts, builder = cut(to_half(plain).model), open_builder("tensorrt-rtx")
    _, network = builder.parse(parts.features.SerializeToString())
    types = {(tensor := network.get_output(i)).name: tensor.dtype.name for i in range(network.num_outputs)}
    assert {types[name] for name in shapes(parts)} == {"HALF"}
    plan, _ = builder.build(parts.features.SerializeToString(), 86, 4)
    assert len(plan) > 1_000_000


@needs_rtx
def test_of_the_whole_tensorrt_lacks_the_plugin_alone(plain: onnx.ModelProto) -> None:
    with pytest.raises(BackendFault, match=f"{NAME}.*no such operation"):
        open_builder("tensorrt-rtx").parse(cut(plain).whole.SerializeToString())
