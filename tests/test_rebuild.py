"""A plan that does not fit: the station inspects, the plan is built, and takes over between two parts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from peers import until
from plans import carried_folder, needs_rtx
from toy import SIDE, demo_pair, toy_pair

from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera
from edge.demo.show import ENGINE
from edge.engines.engine import Opened, open_engine, picture_ms, timed
from edge.engines.rebuild import NoEngine, PlanBuild, begin, by_hand, rebuilding, unfit
from edge.errors import BackendFault, EndOfStream
from edge.frame import AnomalyMap, Frame, Inspection, Pixels, Shot
from edge.gpu import own_sm
from edge.picture.align import Reference
from edge.picture.view import View
from edge.recipe import load_pair, load_recipe, recipe_path, save_recipe, sha256_of
from edge.remake import AFFINITY, KERNEL, plan_for, plan_words
from edge.station.capture import Capture, Policy
from edge.station.loop import Station
from edge.station.replacement import Replacement
from edge.station.worker import InferenceWorker
from edge.verdict import Outcome, Reason, Verdict

without_gpu = pytest.mark.skipif(own_sm() is not None, reason="this machine has a GPU: plans can run here")


class Line:
    """A station on scripted pictures; `parts` are what it answered, with the engine that did."""

    station: Station

    def __init__(self) -> None:
        self.parts: list[tuple[Verdict, str]] = []

    def __call__(self, frame: Frame, answer: Inspection | Reason, verdict: Verdict) -> None:
        self.parts.append((verdict, answer.model_sha256 if isinstance(answer, Inspection) else ""))


@contextmanager
def line(first: Opened, greys: Sequence[int]) -> Iterator[Line]:
    noise = np.random.default_rng(0).integers(-20, 20, (SIDE, SIDE, 3))
    shots = [Shot((grey + noise).astype(np.uint8)) for grey in greys]
    camera = ScriptedCamera([*shots, EndOfStream("done")], live=False)
    worker = InferenceWorker(first.backend, first.recipe, first.artefact.sha256)
    with Capture(lambda: camera, "script", Policy.EVERY) as capture:
        shown = Line()
        shown.station = Station(capture, worker, first.recipe, [shown])
        try:
            yield shown
        finally:
            shown.station.close()


class Made:
    """Makes an engine from an ONNX that is there, as soon as it may."""

    def __init__(self, engine: Path) -> None:
        self._engine, self.may = engine, threading.Event()

    def make(self) -> Opened:
        self.may.wait()
        return open_engine(self._engine)

    def cancel(self) -> None:
        self.may.set()


def test_a_new_engine_takes_over_between_two_parts_with_its_own_limits(tmp_path: Path) -> None:
    first, second = open_engine(toy_pair(tmp_path)), demo_pair(tmp_path)
    maker, said = Made(second), list[str]()
    with line(first, [60, 60, 60]) as shown:
        replacement = Replacement(maker, shown.station, first, said.append)
        shown.station.run(count=2)
        maker.may.set()
        assert until(lambda: bool(said))
        shown.station.run()
        replacement.close()
    demo = load_pair(second)
    assert [verdict.recipe for verdict, _ in shown.parts] == [first.recipe.identity] * 2 + [demo[1].identity]
    assert [verdict.threshold for verdict, _ in shown.parts] == [1.5, 1.5, demo[1].review]
    assert [sha256 for _, sha256 in shown.parts] == [first.artefact.sha256] * 2 + [demo[2].sha256]
    assert said == [f"from the next part on: demo.onnx, {demo[1].identity}"]


def test_an_engine_that_comes_after_the_last_part_is_freed(tmp_path: Path) -> None:
    """Else its thread is left behind, which the fixture of all tests sees."""
    first = open_engine(toy_pair(tmp_path))
    with line(first, [60]) as shown:
        shown.station.run()
        maker = Made(ENGINE)
        maker.may.set()
        said: list[str] = []
        replacement = Replacement(maker, shown.station, first, said.append)
        assert until(lambda: bool(said))
        replacement.close()


class Hanging(OnnxRuntimeBackend):
    """A real backend that hangs until it may go on, and says when it was closed."""

    def __init__(self, engine: Path) -> None:
        self.may, self.closed = threading.Event(), False
        self.may.set()
        super().__init__(engine, (SIDE, SIDE))

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        self.may.wait()
        return super().infer(pixels)

    def close(self) -> None:
        self.closed = True


def test_an_engine_that_hangs_is_replaced_without_waiting_for_it(tmp_path: Path) -> None:
    first = open_engine(toy_pair(tmp_path, deadline_ms=60.0))
    hanging = Hanging(first.path)
    second = open_engine(toy_pair(tmp_path, "second"))
    with line(replace(first, backend=hanging), [60, 60]) as shown:
        hanging.may.clear()
        shown.station.run(count=1)
        shown.station.replace_engine(
            InferenceWorker(second.backend, second.recipe, second.artefact.sha256), second.recipe
        )
        shown.station.run()
        assert not hanging.closed
        hanging.may.set()
        assert until(lambda: hanging.closed)
    assert [verdict.reason for verdict, _ in shown.parts] == [Reason.DEADLINE_MISSED, Reason.WITHIN_LIMITS]


def test_until_there_is_an_engine_that_is_fast_enough_nothing_passes(tmp_path: Path) -> None:
    slow = replace(open_engine(toy_pair(tmp_path)), picture_ms=900.0)
    start = rebuilding(Made(ENGINE), slow, "there is no such plan")
    assert "No part passes until it is rebuilt: with toy.onnx one picture takes about 900.0 ms" in start.note
    with line(start.opened, [60, 60]) as shown:
        shown.station.run(count=1)
        assert "is still being built" in shown.station.worker.last_error
        second = open_engine(toy_pair(tmp_path, "second"))
        shown.station.replace_engine(
            InferenceWorker(second.backend, second.recipe, second.artefact.sha256), second.recipe
        )
        shown.station.run()
    assert [(v.outcome, v.reason) for v, _ in shown.parts] == [
        (Outcome.FAIL, Reason.BACKEND_FAULT), (Outcome.PASS, Reason.WITHIN_LIMITS)
    ]  # fmt: skip


def test_a_fast_stand_in_inspects_meanwhile(tmp_path: Path) -> None:
    fast = replace(open_engine(toy_pair(tmp_path)), picture_ms=9.0)
    start = rebuilding(Made(ENGINE), fast, "there is no such plan")
    assert start.opened is fast and start.note.endswith("Inspecting with toy.onnx until it is rebuilt")


@needs_rtx
def test_a_build_that_fails_leaves_the_first_engine_and_says_why(tmp_path: Path) -> None:
    carried = carried_folder(tmp_path / "carried")
    plan = carried.with_name("demo.fp32.sm87.plan")
    said: list[str] = []
    slow = replace(open_engine(toy_pair(tmp_path)), picture_ms=900.0)
    maker = PlanBuild(plan, plan_words(plan, runtime="tensorrt-rtx"), said.append)
    start = rebuilding(maker, slow, "there is no such plan")
    with line(start.opened, [60]) as shown:
        replacement = Replacement(maker, shown.station, start.opened, said.append)
        assert until(lambda: len(said) == 2, 60)
        shown.station.run()
        replacement.close()
        assert "the build failed" in shown.station.worker.last_error
    assert said[0].startswith("building demo.fp32.sm87.plan: build-engines ")
    assert "the build failed: " in said[1] and "not for SM 87" in said[1]
    assert said[1].endswith("The station goes on with: no engine yet.")
    assert shown.parts[0][0].outcome is Outcome.FAIL


@needs_rtx
def test_the_plan_is_built_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no GPU the plan is there and cannot be opened: both are seen."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = carried_folder(tmp_path / "carried").with_name("demo.fp32.sm86.plan")
    said: list[str] = []
    with suppress(BackendFault):
        PlanBuild(plan, plan_words(plan), said.append).make().backend.close()
    assert load_pair(plan)[2].sm == 86
    assert said[1].startswith(f"built {plan}")


@needs_rtx
@pytest.mark.parametrize("under_way_s", [0.0, 3.0])
def test_a_station_that_ends_ends_the_build_and_nothing_is_half_made(
    tmp_path: Path, under_way_s: float
) -> None:
    plan = carried_folder(tmp_path / "carried").with_name("demo.fp16.sm86.plan")
    said: list[str] = []
    first = open_engine(toy_pair(tmp_path))
    with line(first, [60]) as shown:
        replacement = Replacement(
            PlanBuild(plan, plan_words(plan), said.append), shown.station, first, said.append
        )
        assert until(lambda: bool(said))
        shown.station.run()
        time.sleep(under_way_s)  # it may be anywhere: not begun, loading, comparing
        replacement.close()
    assert [path.name for path in plan.parent.iterdir() if ".sm86" in path.name] == []
    assert len(said) == 1  # that it was ended is no fault


SLOW_DISK = """
import os, pathlib, signal, time
def slow(handle):
    pathlib.Path(__file__).with_name("writing").touch()
    time.sleep(100)
os.fsync = slow
if os.environ["DEAF"]:  # as TensorRT is while it builds
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
"""


@needs_rtx
@pytest.mark.parametrize("deaf", [False, True])
def test_a_build_that_is_ended_while_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    """The story: it was killed at once, always, and each time 30 MB stayed in the cache. Killed it still is
    where it does not hear."""
    start = tmp_path / "start"  # Python runs a sitecustomize.py that it finds
    start.mkdir()
    (start / "sitecustomize.py").write_text(SLOW_DISK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(start), str(Path(__file__).parents[1])]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DEAF", "yes" if deaf else "")
    engine = toy_pair(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 99, (9, SIDE, SIDE, 3), np.uint8)
    np.savez(tmp_path / "calibration.npz", images=pictures)
    maker = PlanBuild(engine.with_name("toy.fp32.sm86.plan"), [str(engine), "--sm", "86"], lambda text: None)
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(maker.make)
        assert until(lambda: (start / "writing").exists() or made.done(), 60)
        maker.cancel()
        with pytest.raises(BackendFault, match=f"ended with code {-signal.SIGKILL if deaf else 143}"):
            made.result()
    assert len(list((tmp_path / "cache").rglob("*.part"))) == deaf
    assert not list(tmp_path.glob("*.plan*"))


@without_gpu
def test_without_a_gpu_the_onnx_is_used_only_where_the_flag_was_given(tmp_path: Path) -> None:
    engine = tmp_path / "demo.onnx"
    shutil.copy(ENGINE, engine)
    shutil.copy(recipe_path(ENGINE), recipe_path(engine))
    plan = engine.with_name("demo.fp16.sm86.plan")
    run = [sys.executable, "-c", "from edge.cli import main; main()", "run", "--json", "--policy", "every",
           "--camera", "conveyor:?count=3&fps=20&seed=7", "--engine", str(plan)]  # fmt: skip
    without, given = (
        subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
        for words in (run, [*run, "--rebuild-if-needed"])
    )
    assert without.returncode == 3 and "there is no engine here" in without.stderr
    assert f"build-engines {engine} --fp16 --sm 86" in without.stderr
    assert given.returncode == 0, given.stderr
    wanted = "demo.fp16.sm86.plan cannot run here: there is no such plan. Inspecting with demo.onnx"
    assert wanted in given.stderr
    summary = json.loads(given.stdout.splitlines()[-1])["summary"]
    assert summary["recipe"] == load_recipe(recipe_path(ENGINE)).identity
    assert summary["backend"].startswith("ONNX Runtime") and summary["parts"] - summary["blind"] == 3


def test_the_plan_for_this_machine_stands_beside_the_one_given() -> None:
    assert plan_for(Path("x/a.int8.sm87.plan"), 89) == Path("x/a.int8.sm89.plan")
    assert plan_for(Path("a.plan"), 89) == Path("a.fp32.sm89.plan")


def test_an_engine_that_cannot_judge_is_closed_again(tmp_path: Path) -> None:
    """The story: the picture that takes the time failed, and the engine stayed open behind the error."""
    first = open_engine(toy_pair(tmp_path))
    broken = Hanging(first.path)
    broken._session = None
    with pytest.raises(BackendFault):
        timed(first.path, broken, first.recipe, first.artefact)
    assert broken.closed


def test_what_a_picture_takes_includes_finding_the_part_and_resizing(tmp_path: Path) -> None:
    """The story: the pace was the engine's alone: far off with a large picture and a mark to find."""
    first = open_engine(toy_pair(tmp_path))
    patch = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    view = View(first.recipe.input_size, reference=Reference(patch, (900, 700, 200, 200), (1536, 2048)))
    large = replace(first.recipe, view=view.to_json())
    alone, both = (
        min(picture_ms(first.backend, recipe) for _ in range(5)) for recipe in (first.recipe, large)
    )
    assert both > alone + 1


def test_no_engine_is_no_answer() -> None:
    with pytest.raises(BackendFault, match="still being built"):
        NoEngine((8, 8)).infer_batch(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_plc_that_triggers_is_not_told_ready_while_the_engine_is_still_being_built(tmp_path: Path) -> None:
    """The story: READY stood for the minutes of the build, and each part that was triggered was rejected."""
    engine = open_engine(toy_pair(tmp_path))
    slow = replace(engine, picture_ms=2 * engine.recipe.deadline_ms)
    for stand_in, ready in ((engine, True), (slow, False)):
        first = rebuilding(Made(ENGINE), stand_in, "there is no such plan").opened
        worker = InferenceWorker(first.backend, first.recipe, first.artefact.sha256)
        assert worker.ready == ready
        worker.close()


def plan_beside(model: Path) -> Path:
    """What passes for a plan until somebody runs it, made from `model`."""
    recipe = load_recipe(recipe_path(model))
    plan = model.with_name(f"{model.stem}.fp16.sm86.plan")
    plan.write_bytes(b"plan")
    artefact = replace(
        recipe.artefacts[0], path=plan.name, sha256=sha256_of(plan), sm=86, builder="tensorrt 10"
    )
    made_with = {"of": f"{model.name} {sha256_of(model)}", "onnx": model.name}
    save_recipe(replace(recipe, artefacts=(artefact,), made_with=made_with), recipe_path(plan))
    return plan


def test_a_plan_of_another_onnx_or_without_its_own_recipe_does_not_fit(tmp_path: Path) -> None:
    model, other = toy_pair(tmp_path), tmp_path / "other"
    other.mkdir()
    plan = plan_beside(model)
    assert unfit(plan).startswith("the plan is for SM 86")  # nothing else is wrong with it
    model.write_bytes(toy_pair(other, kind="slow").read_bytes())
    assert unfit(plan) == "the plan was made from another toy.onnx"
    plan.write_bytes(b"half")
    assert "sha256 differs" in unfit(plan)
    plan.unlink()
    assert unfit(plan) == "there is no such plan"


def test_settings_made_by_hand_are_seen(tmp_path: Path) -> None:
    built = load_recipe(recipe_path(toy_pair(tmp_path, expected_false_rejects={"rate": 0.003})))
    assert not by_hand(replace(built, review=built.review / 2), built)  # its own limits, as built
    assert by_hand(replace(built, expected_false_rejects={}), built)
    assert by_hand(replace(built, deadline_ms=150.0), built)
    assert by_hand(replace(built, on_fault="review"), built)


def test_an_engine_that_comes_when_the_station_has_ended_takes_nothing_over(tmp_path: Path) -> None:
    first, maker, said = open_engine(toy_pair(tmp_path)), Made(ENGINE), []
    with line(first, [60]) as shown:
        Replacement(maker, shown.station, first, said.append).close()  # which lets the maker give its engine
        inference = [thread for thread in threading.enumerate() if thread.name == "inference"]
    assert said == [] and len(inference) == 1


@pytest.fixture
def other_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU is an SM 8.9, which the plans here are not for."""
    monkeypatch.setattr("edge.engines.rebuild.own_sm", lambda: 89)


@pytest.mark.usefixtures("other_gpu")
def test_what_a_person_forced_is_not_forced_again_with_nobody_there(tmp_path: Path) -> None:
    plan = plan_beside(toy_pair(tmp_path, expected_false_rejects={"rate": 0.003}))
    recipe = load_recipe(recipe_path(plan))
    forced = {**recipe.made_with, "gate": "refused, kept by --force: ..."}
    save_recipe(replace(recipe, made_with=forced), recipe_path(plan))
    assert "--force" in plan_words(plan, 89, made_with=forced)
    start = begin(plan, print)
    assert isinstance(start.maker, PlanBuild) and start.opened.path.name == "toy.onnx"
    assert "--force" not in start.maker._words and "89" in start.maker._words


@pytest.mark.usefixtures("other_gpu")
@pytest.mark.parametrize("lost", [False, True])
def test_the_new_plan_has_the_affinity_kernel_where_the_old_one_had(tmp_path: Path, lost: bool) -> None:
    """Where the plan itself is lost its recipe still says how it was made."""
    plan = plan_beside(toy_pair(tmp_path, expected_false_rejects={"rate": 0.003}))
    recipe = load_recipe(recipe_path(plan))
    save_recipe(replace(recipe, made_with={**recipe.made_with, KERNEL: AFFINITY}), recipe_path(plan))
    if lost:
        plan.unlink()
    start = begin(plan, print)
    assert isinstance(start.maker, PlanBuild) and "--kernel" in start.maker._words
    if lost:
        recipe_path(plan).write_text("cut off")
        assert isinstance(begin(plan, print).maker, PlanBuild), "it is built, as with no recipe at all"


@pytest.mark.usefixtures("other_gpu")
def test_a_plan_that_fits_and_cannot_be_opened_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story: the GPU's memory was taken; minutes of building made another plan that did not open."""
    plan = plan_beside(toy_pair(tmp_path))
    monkeypatch.setattr("edge.engines.rebuild.unfit", lambda plan: "")
    start = begin(plan, print)
    assert start.maker is None and start.opened.path.name == "toy.onnx"
    assert "Inspecting with toy.onnx" in start.note


@pytest.mark.usefixtures("other_gpu")
def test_limits_set_by_hand_are_not_replaced_by_a_new_plans(tmp_path: Path) -> None:
    plan = plan_beside(toy_pair(tmp_path, expected_false_rejects={"rate": 0.003}))
    recipe = load_recipe(recipe_path(plan))
    save_recipe(replace(recipe, review=0.5, expected_false_rejects={}), recipe_path(plan))
    start = begin(plan, print)
    assert start.maker is None and start.opened.path.name == "toy.onnx"
    assert "made by hand" in start.note and "build-engines" in start.note
    assert load_recipe(recipe_path(plan)).review == 0.5
