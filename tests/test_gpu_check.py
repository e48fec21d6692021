"""The GPU check: what it does without a GPU, and its own arithmetic, on the kernel's host build."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from affinity_cases import fitted_detector, largest_error, least_bytes, operations, random_maps
from affinity_torch import KernelOnTorch
from gpu_check import TOLERANCE, missed

from build_engines.kernel import kernel_constants
from edge.kernels.compile import host_library
from edge.kernels.launch import SharedLibrary

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    scripts = tmp_path / "benchmarks"
    shutil.copytree(SCRIPT.parent, scripts, ignore=shutil.ignore_patterns("results", "__pycache__"))
    done = subprocess.run([sys.executable, str(scripts / SCRIPT.name)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "cannot run here: PyTorch" in done.stdout and "Traceback" not in done.stderr
    assert not (scripts / "results").exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")
@pytest.mark.parametrize(
    "changes", [{}, {"local_student": "reverse", "context_grid": 5, "smoothing": 2.0, "top_share": 0.02}]
)
def test_the_comparison_finds_agreement_and_its_absence(changes: dict[str, Any]) -> None:
    detector = fitted_detector("efficientnet-lite0", **changes)
    maps = random_maps(detector, 2, device="cpu")
    kernel = KernelOnTorch(kernel_constants(detector), 2, SharedLibrary(host_library()), device="cpu")
    with torch.inference_mode():
        assert largest_error(kernel, detector, maps) <= TOLERANCE
        detector.fusion.low += 0.1
        assert largest_error(kernel, detector, maps) > TOLERANCE
        maps[0][2][1, 0, 3, 3] = math.nan
        assert not largest_error(kernel, detector, maps) <= TOLERANCE


def test_goals_are_judged_by_batch_and_nan_reaches_none() -> None:
    good = {"kernel": 20e-6, "floor": 15e-6, "empty": 18e-6, "eager": 200e-6}
    assert missed(1, 1e-4, good) == missed(32, 1e-4, good) == []
    assert missed(1, math.nan, good) == ["agreement"]
    slow = {**good, "kernel": 50e-6}
    assert missed(32, 1e-4, slow) == ["five times eager", "share of the floor"]
    assert missed(1, 1e-4, slow) == ["five times eager", "near an empty launch"]


def test_the_floor_counts_every_value_once() -> None:
    detector = fitted_detector("efficientnet-lite0")
    values = 24 * 64 * 64 + 40 * 32 * 32 + 112 * 16 * 16
    local = 40 * 32 * 32 + 112 * 16 * 16
    maps = random_maps(detector, 3, device="cpu")
    assert least_bytes(detector, maps, 3) == 3 * (2 * (2 * values + local) + 4 * 256 * 256)
    assert operations(detector, 3) == 3 * 2 * 2 * values * 64
