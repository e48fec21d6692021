"""A benchmark that nobody can run measures nothing. What it measures is looked at by people, not asserted."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import record
from missed import HEAD, WIDTH, pairs_of
from toy import toy_pair

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_station_benchmark_writes_what_it_measured_and_where(tmp_path: Path) -> None:
    scripts = tmp_path / "benchmarks"  # a copy, so that a few frames do not overwrite the real results
    shutil.copytree(BENCHMARKS, scripts, ignore=shutil.ignore_patterns("results", "__pycache__"))
    engine = toy_pair(
        tmp_path, training_set={"picture": [320, 320]}
    )  # as the shipped one: yet any size is fed
    command = [sys.executable, str(scripts / "end_to_end.py"), str(engine), "--frames", "4"]
    done = subprocess.run([*command, "--sizes", "64x64,320x240"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    result = json.loads((scripts / "results" / "end_to_end.json").read_text())
    assert {"date", "command", "hardware", "versions", "frames", "backend"} <= result.keys()
    assert str(tmp_path) not in result["command"]
    assert list(result["sizes"]) == ["64x64", "320x240"]
    for figures in result["sizes"].values():
        assert {"ratio_median", "ratio_p99", "noise_median", "noise_p99"} <= figures.keys()
        assert figures["frame_to_verdict_ms"].keys() == {"median", "p99", "max"}


def test_the_isolation_benchmark_compares_both_in_one_run(tmp_path: Path) -> None:
    scripts = tmp_path / "benchmarks"
    shutil.copytree(BENCHMARKS, scripts, ignore=shutil.ignore_patterns("results", "__pycache__"))
    command = [sys.executable, str(scripts / "isolation.py"), str(toy_pair(tmp_path)), "--frames", "4"]
    done = subprocess.run([*command, "--sizes", "96x64"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    result = json.loads((scripts / "results" / "isolation.json").read_text())
    (figures,) = result["sizes"].values()
    assert {
        "here_ms",
        "own_process_ms",
        "way_alone_ms",
        "whole_ms",
        "ratio_median",
        "ratio_p99",
    } <= figures.keys()
    assert {"added_ms_median", "added_ms_p99", "noise_ms_median", "added_ms_quiet"} <= figures.keys()


def test_what_is_missed_of_each_type_becomes_one_picture(tmp_path: Path) -> None:
    engine, shades = toy_pair(tmp_path), {"good": 250, "pale": 240, "dark": 20}  # darker than 150 passes
    for kind, shade in shades.items():
        for i in range(2):
            path = tmp_path / "set" / "test" / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((60, 90, 3), shade - i, np.uint8))
    assert [pair.shape for pair in pairs_of(engine, tmp_path / "set")] == [(HEAD + 200, 2 * WIDTH, 3)] * 2
    shown = [int(pair[-1, WIDTH // 2, 0]) for pair in pairs_of(engine, tmp_path / "set")]
    assert shown == [19, 239]  # the type that is missed first; of each the picture with the lower score
    command = [sys.executable, str(BENCHMARKS / "missed.py"), str(engine), str(tmp_path / "set")]
    subprocess.run([*command, "--out", str(tmp_path / "missed.jpg")], check=True, timeout=90)
    assert cv2.imread(str(tmp_path / "missed.jpg")).shape == (HEAD + 200, 4 * WIDTH, 3)
    shutil.rmtree(tmp_path / "set" / "test" / "pale")
    shutil.rmtree(tmp_path / "set" / "test" / "dark")
    done = subprocess.run([*command, "--out", str(tmp_path / "2.jpg")], capture_output=True, text=True)
    assert done.returncode == 1 and "no anomalous test pictures" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "2.jpg").exists()


def test_a_look_or_a_trial_leaves_what_is_published_alone(tmp_path: Path) -> None:
    """`quality.py DATA --work EMPTY --table` left 568 bytes of the published figures."""
    scripts, data = tmp_path / "benchmarks", tmp_path / "data"
    shutil.copytree(BENCHMARKS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (data / "parts" / "train" / "good").mkdir(parents=True)
    for i in range(16):
        cv2.imwrite(str(data / "parts" / "train" / "good" / f"{i}.png"), np.full((8, 8, 3), i, np.uint8))
    before = {path.name: path.read_bytes() for path in (scripts / "results").iterdir()}
    (tmp_path / "docs" / "images").mkdir(parents=True)
    each = "for sys.argv[0] in sys.argv.pop().split(): runpy.run_path(sys.argv[0], {}, '__main__')"
    looks = " ".join(str(scripts / f"{name}.py") for name in ("quality", "few_images", "ablation"))
    command = [sys.executable, "-c", f"import runpy, sys\n{each}"]
    command += [str(data), "--work", str(tmp_path / "work"), "--table", looks]
    path = f"{scripts}:{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in (scripts / "results").iterdir()} == before
    assert not list((tmp_path / "docs").rglob("*.*")) and not list((tmp_path / "work").glob("*.*"))


def test_only_save_publishes_and_never_a_look(tmp_path: Path) -> None:
    def target(*options: str) -> Path | None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--work", type=Path)
        record.add_save(parser)
        return record.target_of(parser.parse_args(["--work", str(tmp_path), *options]))

    assert (target(), target("--table"), target("--save")) == (tmp_path, None, record.RESULTS)
    with pytest.raises(SystemExit):
        target("--save", "--table")


def test_the_recorded_command_names_models_and_sets_but_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`engines.py MODEL=SET` was recorded without its models."""
    arguments = ["/home/me/models/reels-7=/home/me/data/reels", "--work", "/home/me/work", "--steps", "5"]
    monkeypatch.setattr(sys, "argv", ["/opt/benchmarks/engines.py", *arguments])
    kept = json.loads(record.save_result("engines", {}, tmp_path / "new" / "folder").read_text())
    assert kept["command"] == "python benchmarks/engines.py reels-7=reels --work work --steps 5"
