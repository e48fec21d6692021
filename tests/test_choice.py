"""Which engine and library judge: a trial of the real ones, what is kept of it, what must never be taken."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from toy import toy_pair

from edge.backends import backends_at_hand
from edge.demo.show import ENGINE
from edge.engines.choice import WORTH_IT, Choice, choose, fastest
from edge.engines.machine import cpu_name, this_machine
from edge.engines.trial import FORMAT, SAME_SCORE, Candidate, Trial, TrialMemory, disagreement, hold_trial
from edge.recipe import load_recipe, recipe_path, save_recipe
from edge.settings import change_recipe

BOTH = len(backends_at_hand(ENGINE)) > 1
needs_both = pytest.mark.skipif(not BOTH, reason="OpenVINO is not installed: pip install -e '.[openvino]'")

PROMISED = {"rate": 0.001}  # of a recipe whose limits were not set by hand


@pytest.fixture
def memory(tmp_path: Path) -> TrialMemory:
    return TrialMemory(tmp_path / "trials")


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A model folder with an FP32 engine that is slow and an INT8 engine that is not."""
    folder = tmp_path / "toy"
    folder.mkdir()
    toy_pair(folder, "toy", "slow", expected_false_rejects=PROMISED)
    int8_beside(folder)
    return folder


def int8_beside(folder: Path, kind: str = "plain", **changes: Any) -> Path:
    passed = {"made_with": {"gate": "passed: ..."}, "expected_false_rejects": PROMISED}
    engine = toy_pair(folder, "toy.int8", kind, **{"review": 1.4, **passed, **changes})
    save_recipe(replace(load_recipe(recipe_path(engine)), name="toy"), recipe_path(engine))
    return engine


def only_file(memory: TrialMemory) -> Path:
    (path,) = memory.folder.iterdir()
    return path


@needs_both
def test_the_libraries_agree_on_the_shipped_engine_and_both_are_timed() -> None:
    trial = hold_trial([Candidate(ENGINE, name) for name in backends_at_hand(ENGINE)])
    assert trial.left_out == {}
    assert set(trial.ms) == {"demo.onnx with onnxruntime", "demo.onnx with openvino"}
    assert all(0 < ms < 10_000 for ms in trial.ms.values())


@needs_both
def test_what_was_measured_once_is_not_measured_again(tmp_path: Path, memory: TrialMemory) -> None:
    engine = toy_pair(tmp_path)
    choose(engine, memory=memory)
    path = only_file(memory)
    kept = json.loads(path.read_text())
    kept["ms"] = {"toy.onnx with onnxruntime": 9.0, "toy.onnx with openvino": 3.0}
    path.write_text(json.dumps(kept))
    chosen = choose(engine, memory=memory)
    assert chosen.backend == "openvino"
    assert (
        chosen.note
        == "toy.onnx with openvino judges, 3.0 ms a picture here, toy.onnx with onnxruntime 9.0 ms"
    )
    assert json.loads(path.read_text()) == kept


@needs_both
@pytest.mark.parametrize(
    "broken",
    [
        "", "{", "[]", "null", '{"ms": {}, "left_out": {}}', "\xff",
        '{"facts": FACTS, "ms": {"toy.onnx with onnxruntime": 9}, "left_out": {}}',
        '{"facts": FACTS, "ms": {ONE: 9, OTHER: NaN}, "left_out": {}}',
        '{"facts": FACTS, "ms": {ONE: 9, OTHER: -1}, "left_out": {}}',
        '{"facts": {}, "ms": {ONE: 9, OTHER: 1}, "left_out": {}}',
    ],
)  # fmt: skip
def test_a_broken_memory_is_passed_over_and_written_anew(
    tmp_path: Path, memory: TrialMemory, broken: str
) -> None:
    engine = toy_pair(tmp_path)
    choose(engine, memory=memory)
    path = only_file(memory)
    whole = json.loads(path.read_text())
    one, other = (json.dumps(f"toy.onnx with {name}") for name in ("onnxruntime", "openvino"))
    text = broken.replace("FACTS", json.dumps(whole["facts"])).replace("ONE", one).replace("OTHER", other)
    path.write_text(text, "latin-1")
    choose(engine, memory=memory)
    again = json.loads(only_file(memory).read_text())
    assert again["facts"] == whole["facts"] and again["ms"].keys() == whole["ms"].keys()
    assert all(0 < ms < 10_000 for ms in again["ms"].values())


@needs_both
@pytest.mark.parametrize("change", [{"cpu": "another"}, {"cores": 99}, {"libraries": {"onnxruntime": "0.1"}}])
def test_another_processor_or_library_is_measured_anew(
    tmp_path: Path, memory: TrialMemory, change: dict[str, Any]
) -> None:
    engine = toy_pair(tmp_path)
    choose(engine, memory=memory)
    first = only_file(memory)
    choose(engine, machine={**this_machine(), **change}, memory=memory)
    (second,) = set(memory.folder.iterdir()) - {first}
    assert json.loads(second.read_text())["facts"].items() >= change.items()


@needs_both
def test_another_recipe_or_format_is_measured_anew(
    tmp_path: Path, memory: TrialMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy_pair(tmp_path)
    choose(engine, memory=memory)
    path = recipe_path(engine)
    save_recipe(replace(load_recipe(path), deadline_ms=123.0), path)
    choose(engine, memory=memory)
    assert len(list(memory.folder.iterdir())) == 2
    monkeypatch.setattr("edge.engines.trial.FORMAT", FORMAT + 1)
    choose(engine, memory=memory)
    assert len(list(memory.folder.iterdir())) == 3


@needs_both
def test_a_memory_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert choose(toy_pair(tmp_path), memory=TrialMemory(tmp_path / "file" / "trials")).note


@needs_both
def test_a_library_with_other_scores_than_the_limits_were_set_on_is_left_out(
    tmp_path: Path, memory: TrialMemory
) -> None:
    """OpenVINO's INT8 scores lay some per cent off: a quarter of a demo engine's verdicts flipped."""
    engine = toy_pair(tmp_path, kind="random")
    chosen = choose(engine, memory=memory)
    assert chosen.backend == "onnxruntime"
    assert "toy.onnx with openvino is left out: its scores are" in chosen.note
    named = choose(engine, "openvino", memory=memory)
    assert named.backend == "openvino" and "as asked for, but its scores are" in named.note


def test_scores_that_are_no_numbers_agree_with_nothing() -> None:
    assert disagreement([1.0, 2.0], [1.0, 2.0 * (1 + SAME_SCORE / 2)]) == ""
    assert "0.10% off" in disagreement([1.0, 2.0], [1.0, 2.002])
    assert disagreement([float("nan"), 1.0], [1.0, 1.0])
    assert disagreement([1.0, float("nan")], [1.0, 1.0])
    assert "cannot open it" in disagreement([1.0], [])


def test_little_gained_changes_nothing() -> None:
    usual, other = (Candidate(Path("a.onnx"), name) for name in ("onnxruntime", "openvino"))
    for ms, taken in ((10 * (1 - WORTH_IT) + 0.1, usual), (10 * (1 - WORTH_IT) - 0.1, other)):
        assert fastest([usual, other], Trial({str(usual): 10.0, str(other): ms}, {})) is taken
    assert fastest([usual, other], Trial({str(other): 50.0}, {str(usual): "broken"})) is other
    assert fastest([other], Trial({str(usual): 1.0}, {str(other): "scores"})) is other


def test_a_folder_gives_the_faster_engine_and_a_file_itself(pair: Path, memory: TrialMemory) -> None:
    chosen = choose(pair, "onnxruntime", memory=memory)
    assert (chosen.engine, chosen.backend) == (pair / "toy.int8.onnx", "onnxruntime")
    assert chosen.note.startswith("toy.int8.onnx with onnxruntime judges, ")
    assert choose(pair / "toy.onnx", "onnxruntime", memory=memory) == Choice(pair / "toy.onnx", "onnxruntime")


def test_a_slow_int8_engine_is_not_taken(tmp_path: Path, memory: TrialMemory) -> None:
    toy_pair(tmp_path, "toy")
    int8_beside(tmp_path, "slow")
    assert choose(tmp_path, "onnxruntime", memory=memory).engine == tmp_path / "toy.onnx"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"normalisation": {"map_weight": 2.0}}, "another model"),
        ({"roi": (0, 0, 10, 10)}, "another model"),
        ({"made_with": {"gate": "refused, kept by --force: ..."}}, "gate did not pass"),
        ({"made_with": {}}, "gate did not pass"),
        ({"deadline_ms": 100.0}, "differ in deadline_ms"),
        ({"on_fault": "review"}, "differ in on_fault"),
        ({"expected_false_rejects": {}}, "by hand"),
    ],
)
def test_an_int8_engine_that_would_judge_something_else_is_not_considered(
    pair: Path, memory: TrialMemory, changes: dict[str, Any], why: str
) -> None:
    int8_beside(pair, **changes)
    chosen = choose(pair, "onnxruntime", memory=memory)
    assert chosen.engine == pair / "toy.onnx"
    assert chosen.note.startswith("toy.int8.onnx is not considered: ") and why in chosen.note


def test_limits_set_by_hand_keep_their_engine(tmp_path: Path, memory: TrialMemory) -> None:
    """`edge-inspect recipe loco/ --review` changes the FP32 engine's recipe: the other one's limits are not
    what the engineer wants."""
    toy_pair(tmp_path, "toy", "slow", expected_false_rejects=PROMISED)
    int8_beside(tmp_path)
    assert choose(tmp_path, "onnxruntime", memory=memory).engine.name == "toy.int8.onnx"
    for name in ("toy", "toy.int8"):  # one, then both
        change_recipe(tmp_path / f"{name}.onnx", {"review": 1.2})
        assert choose(tmp_path, "onnxruntime", memory=memory).engine.name == "toy.onnx"


def test_a_broken_int8_pair_leaves_the_other_at_work(pair: Path, memory: TrialMemory) -> None:
    recipe_path(pair / "toy.int8.onnx").unlink()
    chosen = choose(pair, "onnxruntime", memory=memory)
    assert chosen.engine == pair / "toy.onnx" and "the recipe is missing" in chosen.note


@pytest.mark.parametrize(("engine", "backend"), [("nothing.onnx", "auto"), ("toy.onnx", "tensorflow")])
def test_what_is_wrong_is_left_to_whoever_opens_it(
    tmp_path: Path, memory: TrialMemory, engine: str, backend: str
) -> None:
    toy_pair(tmp_path)
    assert choose(tmp_path / engine, backend, memory=memory) == Choice(tmp_path / engine, backend)


def test_the_processor_is_told_from_others(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n"
    )
    assert cpu_name(info) == "model 2, model name AMD EPYC"
    info.write_text("processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B\n")
    assert cpu_name(info) == "CPU part 0xd0b, Model Raspberry Pi 5 Model B"
    assert cpu_name(tmp_path / "none")


def test_a_run_of_a_folder_tells_its_choice_and_every_verdict_names_that_recipe(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).integers(40, 80, (90, 120, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "part.png"), noise)
    words = [
        "run",
        "--camera",
        str(tmp_path / "part.png"),
        "--engine",
        str(pair),
        "--backend",
        "onnxruntime",
        "--json",
    ]
    for _ in range(2):
        command = [sys.executable, "-c", "from edge.cli import main; main()", *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert "note toy.int8.onnx with onnxruntime judges" in ended.stderr
        verdict, summary = (json.loads(line) for line in ended.stdout.splitlines())
        int8 = load_recipe(recipe_path(pair / "toy.int8.onnx")).identity
        assert verdict["recipe"] == summary["summary"]["recipe"] == int8
    assert len(list((tmp_path / "cache" / "edge-inspect" / "trials").iterdir())) == 1
