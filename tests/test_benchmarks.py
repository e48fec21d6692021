"""A benchmark that nobody can run measures nothing. What it measures is looked at by people, not asserted."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from toy import toy_pair

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_station_benchmark_writes_what_it_measured_and_where(tmp_path: Path) -> None:
    scripts = tmp_path / "benchmarks"  # a copy, so that a few frames do not overwrite the real results
    shutil.copytree(BENCHMARKS, scripts, ignore=shutil.ignore_patterns("results", "__pycache__"))
    command = [sys.executable, str(scripts / "end_to_end.py"), str(toy_pair(tmp_path)), "--frames", "4"]
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
