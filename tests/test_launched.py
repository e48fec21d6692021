"""Plans with the affinity kernel between their two pieces: on the host GPU, and built by build-engines."""

import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from host_gpu import HostGpu, HostKernel, HostLauncher, HostPlan
from plans import carried_folder, good_pictures, needs_rtx, own_cache, refused, reseal
from typer.testing import CliRunner

from build_engines.cli import app
from build_engines.cut import Cut, cut, with_kernel
from edge.backends import open_backend
from edge.backends.launched import LaunchedPlan, Pieces, unpacked
from edge.backends.ort import OnnxRuntimeBackend
from edge.backends.plan import check_tensors
from edge.backends.trt import AT_ONCE, TensorRtBackend
from edge.demo.show import ENGINE
from edge.errors import BackendFault
from edge.frame import Pixels
from edge.kernels.constants import Constants
from edge.recipe import load_pair, load_recipe, recipe_path
from edge.remake import plan_words

SIDE = 256
MAP, SCORE = 5e-3, 1e-3  # what FP16 maps change, in units of a good part's spread; relative, of the score

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


@cache
def pieces() -> Cut:
    """Of the shipped detector."""
    return cut(onnx.load(ENGINE))


def launched(gpu: HostGpu, captured: bool = True) -> LaunchedPlan:
    features, rest = (HostPlan(p.SerializeToString(), captured) for p in (pieces().features, pieces().rest))
    return LaunchedPlan(gpu, features, rest, pieces().constants, HostLauncher())


@pytest.fixture(params=["copies", "mapped", "not captured"])
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[TensorRtBackend, HostGpu]]:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the host build")
    gpu = HostGpu(integrated=request.param == "mapped")
    plan = launched(gpu, captured=request.param != "not captured")
    backend = TensorRtBackend(gpu, plan, HostKernel(), plan.name)
    yield backend, gpu
    backend.close()
    assert not gpu.owned, "something on the GPU was not freed"


def parts(count: int) -> Pixels:
    """Every second one damaged."""
    pictures = good_pictures(count)
    pictures[1::2, 60:90, 40:130] = 255
    return pictures


def test_it_judges_as_the_uncut_graph_does(opened: tuple[TensorRtBackend, HostGpu]) -> None:
    reference, pictures = OnnxRuntimeBackend(ENGINE, (SIDE, SIDE)), parts(AT_ONCE + 1)
    maps, scores = opened[0].infer_batch(pictures)
    assert opened[0].name == "host with affinity kernel" and scores[1::2].min() > 2 * scores[::2].max()
    for picture, anomaly_map, score in zip(pictures, maps, scores, strict=True):
        wanted_map, wanted = reference.infer(picture)
        np.testing.assert_allclose(anomaly_map, wanted_map, rtol=MAP, atol=MAP)
        assert score == pytest.approx(wanted, rel=SCORE)
        alone_map, alone = opened[0].infer(picture)
        np.testing.assert_allclose(alone_map, anomaly_map, rtol=MAP, atol=MAP)
        assert alone == pytest.approx(score, rel=SCORE)


def test_nothing_is_allocated_once_it_is_warm(opened: tuple[TensorRtBackend, HostGpu]) -> None:
    backend, gpu = opened
    backend.infer(parts(1)[0])
    made = gpu.allocations
    for _ in range(3):
        backend.infer(parts(1)[0])
    assert gpu.allocations == made


@needs_compiler
def test_features_that_are_no_numbers_are_no_score() -> None:
    gpu = HostGpu()
    plan = launched(gpu)
    backend = TensorRtBackend(gpu, plan, None, "host")
    plan.features.scale = np.nan
    assert np.isnan(backend.infer(parts(1)[0])[1])
    backend.close()


def test_what_does_not_belong_together_is_refused() -> None:
    whole = HostPlan(ENGINE)
    rest, features = (HostPlan(p.SerializeToString()) for p in (pieces().rest, pieces().features))
    for one, other in ((whole, rest), (features, whole), (rest, features)):
        with pytest.raises(BackendFault, match=r"the kernel reads .*build-engines"):
            LaunchedPlan(HostGpu(), one, other, pieces().constants, HostLauncher())


def test_its_tensors_are_those_of_an_engine() -> None:
    check_tensors(Path("a.plan"), launched(HostGpu()).tensors, (SIDE, SIDE))
    with pytest.raises(BackendFault, match="one build-engines run"):
        check_tensors(Path("a.plan"), launched(HostGpu()).tensors, (SIDE, SIDE + 32))


def test_what_was_packed_is_unpacked_and_anything_cut_off_refused() -> None:
    packed = Pieces(b"features", b"rest", pieces().constants).packed()
    found = unpacked(packed, Path("a.plan"))
    assert found is not None and (found.features, found.rest) == (b"features", b"rest")
    assert found.constants.to_bytes() == pieces().constants.to_bytes()
    assert unpacked(b"a plan of TensorRT", Path("a.plan")) is None
    for end in (4, 100, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BackendFault, match=r"cut off or broken.*build-engines"):
            unpacked(packed[:end], Path("a.plan"))


def test_where_plugins_are_taken_the_kernel_is_one() -> None:
    built: list[bytes] = []

    def build(model: bytes) -> bytes:
        built.append(model)
        return b"plan %d" % len(built)

    assert with_kernel(pieces(), build, plugins=True) == b"plan 1"
    assert built == [pieces().whole.SerializeToString()]
    found = unpacked(with_kernel(pieces(), build, plugins=False), Path("a.plan"))
    assert found is not None and (found.features, found.rest) == (b"plan 2", b"plan 3")
    assert built[1:] == [pieces().features.SerializeToString(), pieces().rest.SerializeToString()]


# --- build-engines --kernel


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    for _ in own_cache(tmp_path / "cache"):
        yield carried_folder(tmp_path / "carried")


@needs_rtx
def test_it_is_built_and_the_command_that_rebuilds_it_says_so(engine: Path) -> None:
    done = CliRunner().invoke(app, [str(engine), "--fp16", "--kernel", "--sm", "86"])
    assert done.exit_code == 0, done.output
    plan, recipe, artefact = load_pair(engine.with_name("demo.fp16.sm86.plan"))
    assert artefact.precision == "fp16" and recipe.made_with["gate"].startswith("passed")
    found = unpacked(plan.read_bytes(), plan)
    assert found is not None and len(found.features) > 10_000_000 > len(found.rest) > 10_000
    assert isinstance(found.constants, Constants) and found.constants.input_size == (SIDE, SIDE)
    assert "--kernel" in plan_words(plan, made_with=recipe.made_with)
    with pytest.raises(BackendFault, match=r"the plan is for SM 86.*build-engines.*--kernel"):
        open_backend(plan, recipe)
    plain = CliRunner().invoke(app, [str(engine), "--fp16", "--sm", "86"])
    assert plain.exit_code == 0, plain.output
    assert unpacked(plan.read_bytes(), plan) is None
    assert "--kernel" not in plan_words(plan, made_with=load_recipe(recipe_path(plan)).made_with)


@needs_rtx
def test_fp32_and_what_the_kernel_does_not_compute_are_refused(engine: Path) -> None:
    said = refused(str(engine), "--kernel", "--sm", "86")[1]
    assert re.search(r"reads feature maps in FP16 \(--kernel\)\. Add --fp16", said)
    model = onnx.load(engine)
    for node in model.graph.node:
        node.op_type = "ReduceMean" if node.op_type == "ReduceMax" else node.op_type
    onnx.save(model, engine)
    reseal(engine)
    assert (
        "the affinity kernel does not compute" in refused(str(engine), "--fp16", "--kernel", "--sm", "86")[1]
    )
