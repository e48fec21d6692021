"""Plans with the affinity kernel between their two pieces: on the host GPU, and built by build-engines."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from host_gpu import HostGpu, HostKernel, HostLauncher, HostPlan
from plans import carried_folder, good_pictures, needs_rtx, own_cache, refused, reseal
from typer.testing import CliRunner

from build_engines.cli import app
from build_engines.cut import Cut, cut
from edge.backends import open_backend
from edge.backends.launched import LaunchedPlan, Pieces, unpacked
from edge.backends.ort import OnnxRuntimeBackend
from edge.backends.plan import check_tensors
from edge.backends.trt import AT_ONCE, TensorRtBackend
from edge.demo.show import ENGINE
from edge.doctor.finding import State
from edge.doctor.machine import gpu
from edge.engines.rebuild import unfit
from edge.errors import BackendFault, RecipeError
from edge.frame import Pixels
from edge.kernels.compile import find_compiler
from edge.kernels.constants import Constants
from edge.kernels.problem import ALIGNMENT
from edge.recipe import Artefact, find_engine, load_pair, load_recipe, recipe_path, save_recipe, sha256_of
from edge.recipe_show import shown
from edge.remake import AFFINITY, KERNEL, plan_words

SIDE, PLAN, AGAIN = 256, Path("a.plan"), "Build it again."
MAP, SCORE = 5e-3, 1e-3  # what FP16 maps change, in units of a good part's spread; relative, of the score

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


@cache
def pieces() -> Cut:
    """Of the shipped detector."""
    return cut(onnx.load(ENGINE))


def launched(gpu: HostGpu, captured: bool = True, constants: Constants | None = None) -> LaunchedPlan:
    features, rest = (HostPlan(p.SerializeToString(), captured) for p in (pieces().features, pieces().rest))
    return LaunchedPlan(gpu, features, rest, constants or pieces().constants, HostLauncher())


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
def test_what_the_kernel_cannot_tell_is_no_score() -> None:
    """The score's other parts are numbers, the kernel's are not."""
    gpu = HostGpu()
    lost = replace(pieces().constants, low=np.full(3, np.nan, np.float32))
    with closing(TensorRtBackend(gpu, launched(gpu, constants=lost), None, "host")) as backend:
        anomaly_map, score = backend.infer(parts(1)[0])
    assert np.isnan(anomaly_map).all() and np.isnan(score)


def test_nothing_that_is_handed_on_lies_in_what_is_worked_in() -> None:
    with (gpu := HostGpu()).current():
        context = launched(gpu).context(3)
        places = sorted(context._starts.values())
        assert all(place % ALIGNMENT == 0 for place in places) and len(places) == len(set(places)) == 16
        assert context.memory_bytes > places[-1]


def test_what_does_not_belong_together_is_refused() -> None:
    whole, small = HostPlan(ENGINE), replace(pieces().constants, input_size=(SIDE, SIDE), grid=4)
    rest, features = (HostPlan(p.SerializeToString()) for p in (pieces().rest, pieces().features))
    LaunchedPlan(HostGpu(), features, rest, small, HostLauncher())
    for one, other in ((whole, rest), (features, whole), (rest, features)):
        with pytest.raises(ValueError, match="the kernel reads"):
            LaunchedPlan(HostGpu(), one, other, pieces().constants, HostLauncher())
    others = replace(pieces().constants, channels=(24, 40, 96))
    with pytest.raises(ValueError, match="the kernel reads"):
        LaunchedPlan(HostGpu(), features, rest, others, HostLauncher())


def test_its_tensors_are_those_of_an_engine() -> None:
    check_tensors(Path("a.plan"), launched(HostGpu()).tensors, (SIDE, SIDE))
    with pytest.raises(BackendFault, match="one build-engines run"):
        check_tensors(Path("a.plan"), launched(HostGpu()).tensors, (SIDE, SIDE + 32))


def test_what_was_packed_is_unpacked_and_anything_else_refused(tmp_path: Path) -> None:
    packed = Pieces(b"features", b"rest", pieces().constants).packed()
    found = unpacked(packed, PLAN, AGAIN)
    assert found is not None and (found.features, found.rest) == (b"features", b"rest")
    assert found.constants.to_bytes() == pieces().constants.to_bytes()
    assert unpacked(b"a plan of TensorRT", PLAN, AGAIN) is None
    for end in (4, 100, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BackendFault, match=r"cut off or broken.*\(a\.plan\)\. Build it again"):
            unpacked(packed[:end], PLAN, AGAIN)
    older = tmp_path / "older.npz"
    np.savez(
        older, features=np.zeros(1, np.uint8), rest=np.zeros(1, np.uint8), constants=np.zeros(9, np.uint8)
    )
    with pytest.raises(BackendFault, match=r"not the kernel's constants.*\(a\.plan\)\. Build it again"):
        unpacked(older.read_bytes(), PLAN, AGAIN)


def test_where_plugins_are_taken_the_kernel_is_one() -> None:
    built: list[bytes] = []

    def build(model: bytes) -> bytes:
        built.append(model)
        return b"plan %d" % len(built)

    assert pieces().built(build, plugins=True) == b"plan 1"
    assert built == [pieces().whole.SerializeToString()]
    found = unpacked(pieces().built(build, plugins=False), PLAN, AGAIN)
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
    assert "plain operations" in recipe.made_with["gate_ran"] and "with affinity kernel" in done.output
    found = unpacked(plan.read_bytes(), plan, AGAIN)
    assert found is not None and len(found.features) > 10_000_000 > len(found.rest) > 10_000
    assert isinstance(found.constants, Constants) and found.constants.input_size == (SIDE, SIDE)
    assert "--kernel" in plan_words(plan, made_with=recipe.made_with)
    with pytest.raises(BackendFault, match=r"the plan is for SM 86.*build-engines.*--kernel"):
        open_backend(plan, recipe)
    assert "needs nvcc where it runs" in shown(recipe)
    content = plan.read_bytes()
    plan.unlink()
    with pytest.raises(RecipeError, match=r"there is no engine here.*--kernel"):  # its recipe is still there
        find_engine(plan)
    plan.write_bytes(content)
    plain = CliRunner().invoke(app, [str(engine), "--fp16", "--sm", "86"])
    assert plain.exit_code == 0, plain.output
    assert "replaced the plan with the affinity kernel" in " ".join(plain.output.split())
    assert unpacked(plan.read_bytes(), plan, AGAIN) is None and "with affinity kernel" not in plain.output
    assert "--kernel" not in plan_words(plan, made_with=load_recipe(recipe_path(plan)).made_with)


@needs_rtx
def test_fp32_and_what_the_kernel_does_not_compute_are_refused(engine: Path) -> None:
    for model in (engine, engine.parent):  # of a folder before its ONNX is made
        said = refused(str(model), "--kernel", "--sm", "86")[1]
        assert re.search(r"reads feature maps in FP16 \(--kernel\)\. Add --fp16", said)
    graph = onnx.load(engine)
    for node in graph.graph.node:
        node.op_type = "ReduceMean" if node.op_type == "ReduceMax" else node.op_type
    onnx.save(graph, engine)
    reseal(engine)
    said = refused(str(engine), "--fp16", "--kernel", "--sm", "86")[1]
    assert re.search(r"the affinity kernel does not compute .*demo\.onnx\)\. Leave --kernel away", said)


def sealed_plan(folder: Path, made_with: dict[str, str]) -> Path:
    """A file and a recipe of it; nobody can open it."""
    plan = folder / "demo.fp16.sm86.plan"
    plan.write_bytes(b"plan")
    recipe = replace(load_recipe(recipe_path(ENGINE)), artefacts=(), made_with=made_with)
    artefact = Artefact(plan.name, sha256_of(plan), "fp16", 86, "tensorrt-rtx 0.0")
    save_recipe(recipe.with_artefact(artefact), recipe_path(plan))
    return plan


def test_a_plan_with_another_version_of_the_kernel_does_not_fit(tmp_path: Path) -> None:
    """With --rebuild-if-needed it is built again; a plan without the kernel is asked nothing."""
    for version, fault in ((AFFINITY, "the plan is for SM 86"), ("affinity 0", "is of another version")):
        plan = sealed_plan(tmp_path, {KERNEL: version})
        assert fault in unfit(plan) and fault in gpu(plan).detail
        with pytest.raises(BackendFault, match=fault):
            open_backend(plan, load_recipe(recipe_path(plan)))


def test_doctor_tells_where_the_compiler_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.doctor.machine.describe_mismatch", lambda artefact: "")
    monkeypatch.setattr("edge.kernels.compile.TOOLKIT", tmp_path)
    monkeypatch.setattr(find_compiler, "__defaults__", ({"PATH": str(tmp_path)}, tmp_path))
    for made_with, state in (({KERNEL: AFFINITY}, State.FAIL), ({}, State.OK)):
        plan = sealed_plan(tmp_path, made_with)
        found = gpu(plan)
        assert found.state is state
        assert state is State.OK or ("nvcc is not installed" in found.detail and "toolkit" in found.todo)
