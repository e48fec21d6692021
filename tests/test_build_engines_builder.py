"""TensorRT builds the real detector without a GPU, in the precisions that its ONNX says."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from plans import Told, good_pictures, needs_rtx

from build_engines.builder import EngineBuilder, _hint, open_builder
from build_engines.cache import MOST_PLANS, PlanCache, plan_key
from build_engines.export import export_onnx
from build_engines.graph import NEWEST_OPSET, load_onnx
from build_engines.precision import to_half
from build_engines.quantise import int8_of
from distillation.detector import Detector, DetectorConfig
from distillation.weights import new_teacher
from edge.demo.show import ENGINE
from edge.errors import BackendFault, InspectError, RecipeError

pytestmark = needs_rtx
GPUS = (86, 89, 120)


@pytest.fixture(scope="module")
def builder() -> EngineBuilder:
    return open_builder("tensorrt-rtx")


@pytest.fixture(scope="module")
def fp16() -> onnx.ModelProto:
    """The detector as it is exported today, with everything that it can have; numbers do not matter here."""
    config = DetectorConfig()
    return to_half(export_onnx(Detector(new_teacher(config.teacher), config).eval())).model


@pytest.fixture(scope="module")
def int8() -> onnx.ModelProto:
    """All in INT8: how well it judges does not matter here."""
    detector = load_onnx(ENGINE)
    return to_half(int8_of(detector, good_pictures(2)).graph(())).model


def layers(builder: EngineBuilder, model: onnx.ModelProto) -> Counter[tuple[str, str]]:
    """(layer type, precision of its output) of the parsed network, how often."""
    _, network = builder.parse(model.SerializeToString())
    found = [network.get_layer(i) for i in range(network.num_layers)]
    return Counter((one.type.name, one.get_output(0).dtype.name) for one in found if one.num_outputs)


@pytest.mark.parametrize("sm", GPUS)
def test_fp16_and_int8_engines_are_built_for(
    sm: int, builder: EngineBuilder, fp16: onnx.ModelProto, int8: onnx.ModelProto
) -> None:
    plans = [builder.build(model.SerializeToString(), sm, 4)[0] for model in (fp16, int8)]
    weights = sum(tensor.ByteSize() for tensor in fp16.graph.initializer)
    assert all(len(plan) > weights / 4 for plan in plans)
    assert plans[0] != plans[1]


def test_each_gpu_has_its_own_plan(builder: EngineBuilder, fp16: onnx.ModelProto) -> None:
    assert len({builder.build(fp16.SerializeToString(), sm, 1)[0] for sm in GPUS}) == len(GPUS)


def test_pixels_go_in_and_map_and_score_come_out(builder: EngineBuilder, fp16: onnx.ModelProto) -> None:
    _, network = builder.parse(fp16.SerializeToString())
    edges = [network.get_input(0), network.get_output(0), network.get_output(1)]
    described = [(t.name, t.dtype.name, tuple(t.shape)) for t in edges]
    assert described == [
        ("pixels", "UINT8", (-1, 384, 384, 3)),
        ("anomaly_map", "FLOAT", (-1, 384, 384)),
        ("score", "FLOAT", (-1,)),
    ]


def test_the_networks_run_in_half_and_their_surroundings_in_full(
    builder: EngineBuilder, fp16: onnx.ModelProto
) -> None:
    found = layers(builder, fp16)
    assert found["CONVOLUTION", "HALF"] > 50 and found["CONVOLUTION", "FLOAT"] == 1  # the map's smoothing
    assert found["DECONVOLUTION", "HALF"] == 1
    for kind in ("REDUCE", "MATRIX_MULTIPLY", "SOFTMAX", "TOPK", "UNARY"):
        assert found[kind, "FLOAT"] > 0 and found[kind, "HALF"] == 0, kind


def test_int8_convolutions_take_int8_and_give_half(builder: EngineBuilder, int8: onnx.ModelProto) -> None:
    found = layers(builder, int8)
    assert found["CONVOLUTION", "HALF"] > 50 and found["CONVOLUTION", "FLOAT"] == 1
    assert found["CONSTANT", "INT8"] >= 20  # their weights
    assert found["QUANTIZE", "INT8"] >= found["CONSTANT", "INT8"] / 2  # their data; some read the same
    assert found["DEQUANTIZE", "HALF"] >= found["CONSTANT", "INT8"]


def test_gpus_that_cannot_be_built_for_are_refused_with_those_that_can(builder: EngineBuilder) -> None:
    assert builder.targets((86, 120, 86)) == [86, 120]
    with pytest.raises(InspectError, match=r"SM 86, .*not for SM 87.*full TensorRT on the machine"):
        builder.targets((86, 87))
    with pytest.raises(InspectError, match=r"unknown runtime 'cuda'.*Known: tensorrt, tensorrt-rtx"):
        open_builder("cuda")


@pytest.mark.parametrize("operation", ["Det", "Frobnicate"])
def test_an_operation_that_is_not_there_is_named_with_its_node(
    builder: EngineBuilder, operation: str
) -> None:
    model = load_onnx(ENGINE)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = operation
    with pytest.raises(BackendFault, match=rf"node {node.name} \({operation}\) cannot be built: there is no"):
        builder.build(model.SerializeToString(), 86, 1)


def test_bytes_that_are_no_network_are_refused(builder: EngineBuilder) -> None:
    """The story: TensorRT parses a few bytes of text as a network without a layer, and says nothing."""
    with pytest.raises(BackendFault, match="the ONNX holds no network"):
        builder.build(b"hello", 86, 1)
    with pytest.raises(BackendFault, match="the ONNX cannot be read"):
        builder.build(load_onnx(ENGINE).SerializeToString()[:100_000], 86, 1)


def test_a_graph_of_another_kind_of_a_newer_opset_or_cut_off_is_refused(tmp_path: Path) -> None:
    """The story: TensorRT's parser took opset 99 without a word."""
    path, model = tmp_path / "x.onnx", load_onnx(ENGINE)
    path.write_bytes(model.SerializeToString()[:-1000])
    with pytest.raises(RecipeError, match="cut off or broken"):
        load_onnx(path)
    model.opset_import[0].version = NEWEST_OPSET + 1
    onnx.save(model, path)
    with pytest.raises(RecipeError, match=f"has opset {NEWEST_OPSET + 1}; TensorRT is asked for at most"):
        load_onnx(path)
    model.graph.input[0].name = "images"
    onnx.save(model, path)
    with pytest.raises(RecipeError, match="not one of our detectors"):
        load_onnx(path)


def test_a_plan_is_built_once(tmp_path: Path, builder: EngineBuilder, fp16: onnx.ModelProto) -> None:
    said = Told()
    model: Any = fp16.SerializeToString()
    first = PlanCache(tmp_path, said).plan(model, builder, 86, 1)
    assert PlanCache(tmp_path, said).plan(model, builder, 86, 1) == first
    assert said.said == [f"building for SM 86 with {builder.name}"]
    PlanCache(tmp_path, said).plan(model, builder, 89, 1)
    assert len(said.said) == 2


def test_a_kept_plan_that_was_damaged_is_built_again(
    tmp_path: Path, builder: EngineBuilder, fp16: onnx.ModelProto
) -> None:
    """The story: a bit that fell over on a disk went into every plan of that model, with a fresh seal."""
    said = Told()
    model, cache = fp16.SerializeToString(), PlanCache(tmp_path, said)
    first = cache.plan(model, builder, 86, 1)
    (kept,) = tmp_path.glob("*.plan")
    data = kept.read_bytes()
    for broken in (data[:-1], data[:1000] + b"?" + data[1001:], b"", first):
        kept.write_bytes(broken)
        assert len(cache.plan(model, builder, 86, 1)) > len(first) / 2
    assert len(said.said) == 5
    assert kept.read_bytes()[32:] == cache.plan(model, builder, 86, 1)
    assert len(said.said) == 5


SHORT_OF_MEMORY = """
import resource, sys
import numpy
from build_engines.builder import open_builder
from edge.errors import BackendFault
builder, model = open_builder("tensorrt-rtx"), open(sys.argv[1], "rb").read()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(sys.argv[2]),) * 2)
try:
    builder.build(model, 86, 1)
except BackendFault as error:
    print(error)
"""


@pytest.mark.parametrize("free", [1_000_000, 100_000_000])
def test_too_little_memory_is_said_so(free: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, str(ENGINE), str(free)], capture_output=True, text=True,
        check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout.count("\n") == 1, done.stderr
    assert "bad_alloc" in done.stdout and "Free memory and try again" in done.stdout


@pytest.mark.parametrize("batch", [0, 2**40])
def test_what_the_bindings_refuse_is_a_sentence(
    builder: EngineBuilder, fp16: onnx.ModelProto, batch: int
) -> None:
    """The story: TensorRT's bindings answer with a TypeError of many lines, or with None."""
    with pytest.raises(BackendFault, match="the engine for SM 86 was not built: ") as caught:
        builder.build(fp16.SerializeToString(), 86, batch)
    assert "\n" not in str(caught.value)


def test_what_helps_is_told_by_the_words_of_tensorrt() -> None:
    driver = "Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)"
    assert "nvidia-smi" in _hint(driver)
    assert "Free memory" in _hint("Cuda Runtime (out of memory)") and "Report it" in _hint("no reason")


def test_a_plan_is_kept_for_all_that_went_into_it() -> None:
    first = (b"graph", "tensorrt-rtx 1.7.1", 86, 1)
    others = [(b"other", *first[1:]), (b"graph", "tensorrt-rtx 1.7.2", 86, 1), (*first[:2], 89, 1),
              (*first[:3], 2)]  # fmt: skip
    assert len({plan_key(*values) for values in [first, *others]}) == 5
    assert plan_key(*first) == plan_key(*first)


def test_the_newest_plans_are_kept(tmp_path: Path, builder: EngineBuilder, fp16: onnx.ModelProto) -> None:
    for i in range(MOST_PLANS):
        (tmp_path / f"{i}.plan").write_bytes(b"old")
    PlanCache(tmp_path).plan(fp16.SerializeToString(), builder, 86, 1)
    kept = list(tmp_path.glob("*.plan"))
    assert len(kept) == MOST_PLANS and any(path.stat().st_size > 100 for path in kept)
