"""What judges otherwise than FP32 is refused, or made anew; a plan that can run here is asked itself."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from plans import carried_folder, made, needs_rtx, own_cache, refused, reseal
from typer.testing import CliRunner

from build_engines.cli import app
from build_engines.listener import Listener
from build_engines.plans import PlanOptions, build_plans
from calibration.dataset import MIN_HELD_OUT
from edge.backends import Backend
from edge.backends.ort import OnnxRuntimeBackend
from edge.errors import BackendFault, RecipeError
from edge.frame import AnomalyMap, Pixels
from edge.recipe import Artefact, Recipe, load_pair, recipe_path

pytestmark = [needs_rtx, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from own_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return carried_folder(tmp_path / "carried")


def spoil(engine: Path, target: Path) -> None:
    """A copy of the graph whose weights are rounded to 64ths: it judges otherwise."""
    spoilt = onnx.load(engine)
    for tensor in spoilt.graph.initializer:
        if tensor.name.endswith("conv.weight"):
            weights = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(weights * 64) / 64, tensor.name))
    onnx.save(spoilt, target)


def spoilt_int8(engine: Path) -> None:
    """An INT8 engine of the same model, spoilt: the gate sees it, whoever made it."""
    beside = engine.with_name("demo.int8.onnx")
    spoil(engine, beside)
    shutil.copy(recipe_path(engine), recipe_path(beside))
    reseal(beside, "int8")


def test_what_the_gate_refuses_is_not_there_unless_forced(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as strict:
        strict.setattr("build_engines.gate.MAX_FLIP_RATE", -1.0)
        code, text = refused(str(engine), "--fp16", "--sm", "86")
    assert code == 3 and "fp16 judges otherwise than fp32" in text and "It would pass with" in text
    assert made(engine.parent) == []
    spoilt_int8(engine)
    forced = CliRunner().invoke(app, [str(engine), "--int8", "--sm", "86", "--force"])
    assert forced.exit_code == 0, forced.output
    recipe = load_pair(engine.with_name("demo.int8.sm86.plan"))[1]
    assert recipe.made_with["gate"].startswith("refused, kept by --force: ")


@pytest.mark.timeout(600)  # INT8's sweep
def test_an_int8_engine_that_is_refused_as_a_plan_is_made_anew(engine: Path) -> None:
    """The story: the share in INT8 was chosen for the ONNX engine; where FP16 around it was too much, there
    was no plan."""
    spoilt_int8(engine)
    result = CliRunner().invoke(app, [str(engine), "--int8", "--sm", "86", "--json"])
    assert result.exit_code == 0, result.output
    said = "demo.int8.onnx with FP16 around it: int8 judges otherwise than fp32"
    assert said in " ".join(result.output.split())
    first, last = (json.loads(line) for line in result.stdout.splitlines())
    assert not first["passed"] and last["passed"] and last["int8_mac_share"] > 0.55
    recipe = load_pair(engine.with_name("demo.int8.sm86.plan"))[1]
    assert recipe.made_with["gate"].startswith("passed: ")


@pytest.mark.timeout(600)
def test_best_takes_fp16_where_int8_is_refused(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("build_engines.qdq.HEADROOM", 0.02)  # students that are cut off answer otherwise
    monkeypatch.setattr("build_engines.quantise.FLOAT_SHARES", (0.001,))
    result = CliRunner().invoke(app, [str(engine), "--best", "--sm", "86", "--json"])
    assert result.exit_code == 0, result.output
    assert made(engine.parent) == ["demo.fp16.sm86.plan", "demo.fp16.sm86.recipe.json"]
    int8, fp16 = (json.loads(line) for line in result.stdout.splitlines())
    assert [(one["precision"], one["passed"]) for one in (int8, fp16)] == [("int8", False), ("fp16", True)]
    text = " ".join(result.output.split())
    assert "INT8 judges otherwise than FP32" in text and "fp16 is tried" in text
    assert "Errors with this one alone in INT8: " in text


class StandsForAGpu:
    """Runs a "plan" as the ONNX that is given, really: what this machine's own GPU would do."""

    def __init__(self, graph: Path, kind: type[OnnxRuntimeBackend] = OnnxRuntimeBackend) -> None:
        self._graph, self._kind = graph, kind

    def fits(self, artefact: Artefact) -> bool:
        return artefact.sm == 86

    def open(self, plan: Path, recipe: Recipe) -> Backend:
        assert load_pair(plan)[1] == recipe  # it is a whole pair that is opened
        return self._kind(self._graph, recipe.input_size)


def test_where_a_plan_can_run_it_is_judged_itself(engine: Path, tmp_path: Path) -> None:
    """The one for another GPU is judged by its graph."""
    options = PlanOptions(("fp32",), 0.003, sms=(86, 89), runtime="tensorrt-rtx")
    own, other = (r.recipe for r in build_plans(engine, options, Listener(), StandsForAGpu(engine)))
    assert own.made_with["gate"].startswith("passed: score correlation 1.000")
    assert own.made_with["gate_ran"].startswith("the plan itself") and "gate_ran" not in other.made_with
    spoil(engine, tmp_path / "spoilt.onnx")
    for old in [*engine.parent.glob("*.sm*")]:
        old.unlink()
    with pytest.raises(RecipeError, match="fp32 judges otherwise than fp32"):
        list(build_plans(engine, options, Listener(), StandsForAGpu(tmp_path / "spoilt.onnx")))
    assert made(engine.parent) == []


class ScoresMore(OnnxRuntimeBackend):
    """A real engine that gives a little more than FP32, now less, now more of it."""

    more = 0.05

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        anomaly_map, score = super().infer(pixels)
        self.more = 0.15 - self.more
        return anomaly_map, score + self.more


def test_a_plan_has_fp32s_limits_moved_as_its_own_scores_are(engine: Path) -> None:
    options = PlanOptions(("fp32",), 0.003, sms=(86, 89), runtime="tensorrt-rtx", force=True)
    runner = StandsForAGpu(engine, ScoresMore)
    own, other = (r.recipe for r in build_plans(engine, options, Listener(), runner))
    assert own.review - other.review == pytest.approx(0.075, abs=0.026)
    assert own.fail - other.fail == pytest.approx(own.review - other.review)
    assert own.expected_false_rejects == other.expected_false_rejects


class Wild(OnnxRuntimeBackend):
    """Every score is finite and absurd."""

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        anomaly_map, score = super().infer(pixels)
        return anomaly_map, score + 1000


def test_limits_that_would_stop_nothing_are_refused_for_every_engine(engine: Path) -> None:
    options = PlanOptions(("fp32",), 0.003, sms=(86,), runtime="tensorrt-rtx", force=True)
    with pytest.raises(RecipeError, match="it stops nothing"):
        list(build_plans(engine, options, Listener(), StandsForAGpu(engine, Wild)))
    assert made(engine.parent) == []


def test_another_gpus_plan_is_not_left_where_this_ones_is_refused(engine: Path, tmp_path: Path) -> None:
    """The story: the plan for SM 8.9 was sealed, then the one for 8.6 asked its GPU and was refused."""
    options = PlanOptions(("fp32",), 0.003, sms=(89, 86), runtime="tensorrt-rtx")
    names = [r.engine.name for r in build_plans(engine, options, Listener(), StandsForAGpu(engine))]
    assert names == ["demo.fp32.sm86.plan", "demo.fp32.sm89.plan"]


def test_a_gpu_without_pycuda_is_built_for_and_not_asked(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story: the README's line failed on every PC with a GPU of its own: what builds needs no pycuda, so
    the extra does not bring it, and the plan could not be opened; the other GPUs' plans were gone with it."""
    monkeypatch.setattr("edge.gpu.own_sm", lambda: 86)
    monkeypatch.setitem(sys.modules, "pycuda", None)  # not installed, wherever this test runs
    result = CliRunner().invoke(app, [str(engine), "--sm", "86,89", "--runtime", "tensorrt-rtx"])
    assert result.exit_code == 0, result.output
    assert [name for name in made(engine.parent) if name.endswith(".plan")] == [
        "demo.fp32.sm86.plan", "demo.fp32.sm89.plan",
    ]  # fmt: skip
    assert result.output.count("pycuda cannot be used") == 1 and "note" in result.output
    for sm in (86, 89):
        assert "gate_ran" not in load_pair(engine.with_name(f"demo.fp32.sm{sm}.plan"))[1].made_with


class Refusing(StandsForAGpu):
    """Its GPU cannot open what was built for it."""

    def open(self, plan: Path, recipe: Recipe) -> Backend:
        raise BackendFault("out of memory", plan.name, "Close what else runs there.")


def test_a_plan_that_its_own_gpu_cannot_open_is_kept_only_by_force(engine: Path) -> None:
    options = PlanOptions(("fp32",), 0.003, sms=(86,), runtime="tensorrt-rtx")
    with pytest.raises(RecipeError, match="cannot be opened on the GPU it is for: out of memory"):
        list(build_plans(engine, options, Listener(), Refusing(engine)))
    assert made(engine.parent) == []
    list(build_plans(engine, replace(options, force=True), Listener(), Refusing(engine)))
    assert "demo.fp32.sm86.plan" in made(engine.parent)


def test_fp32_needs_no_pictures_to_compare_where_there_is_a_gpu(engine: Path) -> None:
    """The story: without a GPU the plan was built; with one it failed, for two pictures cannot be halved."""
    file = engine.parent / "calibration.npz"
    with np.load(file) as kept:
        entries = dict(kept)
    np.savez(file, **{**entries, "images": entries["images"][:MIN_HELD_OUT]})
    options = PlanOptions(("fp32",), 0.003, sms=(86,), runtime="tensorrt-rtx")
    (built,) = build_plans(engine, options, Listener(), StandsForAGpu(engine))
    assert "gate" not in built.recipe.made_with
