"""`edge-inspect bench` measures what the station runs, and says whether that is in time."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_align import LABEL
from test_choice import PROMISED, int8_beside
from toy import SIDE, toy_pair

from edge.backends import backends_at_hand
from edge.cameras.parts import render_part
from edge.demo.show import ENGINE
from edge.engines.bench import STAGES, Measured, measure, pictures_for
from edge.engines.bench_show import judgement
from edge.engines.trial import Candidate
from edge.errors import DataError, PartNotFound
from edge.picture.align import take_reference
from edge.picture.view import View
from edge.recipe import Recipe, load_pair

MARK = tuple(4 * side for side in LABEL)  # in a picture four times as large
PARTS = ("health", "align", "crop", "resize", "inference", "verdict")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from edge.cli import main; main()", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def textured(size: tuple[int, int], seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(40, 220, (*size, 3), np.uint8)


def test_the_stages_of_the_shipped_engine_make_up_the_whole() -> None:
    recipe = load_pair(ENGINE)[1]
    result = measure(Candidate(ENGINE, "onnxruntime"), pictures_for(recipe, "", 4), 5)
    assert len(result.warm) == 5 and STAGES == PARTS
    for turn in (result.first, *result.warm):
        assert turn["whole"] == pytest.approx(sum(turn[stage] for stage in STAGES), abs=1e-3)
        assert turn["inference"] == max(turn[stage] for stage in STAGES)
    assert result.opening > 0 and result.slowest >= result.quantile("whole", 1.0)


def test_every_stage_of_the_view_is_timed_where_it_happens(tmp_path: Path) -> None:
    """A large picture with a mark: find it, lay the part straight and mask it, make it small."""
    picture = cv2.resize(render_part(5, 0), (1280, 1280))
    white = np.full((1280, 1280), 255, np.uint8)
    view = View((SIDE, SIDE), mask=white, reference=take_reference(picture, MARK))
    engine = toy_pair(tmp_path, view=view.to_json())
    result = measure(Candidate(engine, "onnxruntime"), [picture], 3)
    assert all(result.quantile(stage, 0.5) > 0.02 for stage in ("align", "crop", "resize"))


def test_a_picture_in_which_the_part_is_not_found_is_refused(tmp_path: Path) -> None:
    picture = cv2.resize(render_part(5, 0), (1280, 1280))
    view = View((SIDE, SIDE), reference=take_reference(picture, MARK))
    engine = toy_pair(tmp_path, view=view.to_json())
    with pytest.raises(DataError, match=r"a mark on the part.*--camera"):
        pictures_for(load_pair(engine)[1], "", 3)
    with pytest.raises(PartNotFound):
        measure(Candidate(engine, "onnxruntime"), [textured((1280, 1280), 5)], 3)


def test_drawn_pictures_have_the_size_that_was_learnt_from(tmp_path: Path) -> None:
    recipe = Recipe("toy", (SIDE, SIDE), 1.0, 2.0, training_set={"picture": [90, 120]})
    assert [p.shape for p in pictures_for(recipe, "", 2)] == [(90, 120, 3)] * 2
    assert pictures_for(replace(recipe, training_set={}), "", 1)[0].shape == (1024, 1280, 3)


def test_a_folder_of_pictures_is_shown_again_and_again(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), textured((90, 120), number))
    engine = toy_pair(tmp_path)
    pictures = pictures_for(load_pair(engine)[1], str(tmp_path), 50)
    assert len(pictures) == 3
    assert len(measure(Candidate(engine, "onnxruntime"), pictures, 7).warm) == 7


def took(first: float, *warm: float) -> Measured:
    turns = [{stage: ms if stage in ("inference", "whole") else 0.0 for stage in (*STAGES, "whole")}
             for ms in (first, *warm)]  # fmt: skip
    recipe = Recipe("toy", (SIDE, SIDE), 1.0, 2.0, deadline_ms=50.0)
    return Measured(Candidate(Path("toy.onnx"), "onnxruntime"), "", recipe, "fp32", 1.0, turns[0], turns[1:])


def test_the_last_sentence_says_how_much_room_there_is_and_what_to_do() -> None:
    assert judgement(took(9, 5, 6)).endswith("the deadline of 50 ms is met with 41.0 ms to spare")
    tight, missed = judgement(took(5, 6, 40)), judgement(took(51, 5, 6))
    assert "40.0 ms, the deadline of 50 ms is met, but tight. Most of it is inference" in tight
    assert "missed" in missed and "edge-inspect recipe toy.onnx --deadline-ms 200" in missed
    assert took(50, 1).meets_deadline and not took(50.1, 1).meets_deadline


def test_large_pictures_are_told_apart_from_a_slow_engine() -> None:
    slow = took(1, 60)
    slow.warm[0].update(inference=1.0, resize=59.0)
    assert "smaller pictures" in judgement(slow)


def test_the_command_prints_json_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    ended = bench(toy_pair(tmp_path), "--backend", "onnxruntime", "--count", 5, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    (result,) = found["results"]
    assert (found["picture"], found["count"]) == ([1024, 1280], 5)
    assert result["precision"] == "fp32" and result["meets_deadline"] and result["deadline_ms"] == 500
    assert set(result["warm_ms"]) == set(result["first_ms"]) == {*STAGES, "whole"}
    whole = result["warm_ms"]["whole"]
    assert 0 < whole["p50"] <= whole["p99"] <= whole["max"]
    late = bench(toy_pair(tmp_path, deadline_ms=0.01), "--backend", "onnxruntime", "--count", 2)
    assert late.returncode == 1 and "the deadline of 0.01 ms is missed" in late.stderr


@pytest.mark.skipif(len(backends_at_hand(ENGINE)) < 2, reason="OpenVINO is not installed")
def test_all_engines_and_libraries_stand_side_by_side(tmp_path: Path) -> None:
    toy_pair(tmp_path, expected_false_rejects=PROMISED)
    int8_beside(tmp_path)
    ended = bench(tmp_path, "--backend", "all", "--count", 3)
    assert ended.returncode == 0, ended.stderr
    for engine in ("toy.onnx", "toy.int8.onnx"):
        for library in ("onnxruntime", "openvino"):
            assert f"{engine} with {library}: the slowest picture took" in ended.stderr
    assert "judges, " in ended.stderr and "inference" in ended.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nothing.onnx"], 3),
        (["toy.onnx", "--backend", "tensorflow"], 3),
        (["toy.onnx", "--camera", "none", "--backend", "onnxruntime"], 2),
    ],
)  # fmt: skip
def test_bad_input_is_said_in_one_line(tmp_path: Path, words: list[str], code: int) -> None:
    toy_pair(tmp_path)
    ended = bench(tmp_path / words[0], *words[1:])
    assert ended.returncode == code and "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1 and ended.stderr.startswith("error ")
