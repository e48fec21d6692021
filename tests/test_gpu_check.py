"""The GPU check: what it does without a GPU, and its own arithmetic, on the kernel's host build."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_engines
import pytest
import torch
from affinity_cases import fitted_detector, largest_error, least_bytes, operations, random_maps
from affinity_torch import KernelOnTorch
from gpu_check import TOLERANCE, missed, show_plainly
from host_gpu import HostGpu, HostKernel, HostPlan
from plans import needs_rtx
from rich.console import Console
from toy import SIDE, toy_pair

from build_engines.kernel import kernel_constants
from edge.backends import open_backend
from edge.backends.trt import TensorRtBackend
from edge.gpu import own_sm
from edge.kernels.compile import RESIZE, host_library
from edge.kernels.launch import SharedLibrary
from edge.kernels.resize import Resize
from edge.recipe import load_pair

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    scripts = tmp_path / "benchmarks"
    shutil.copytree(SCRIPT.parent, scripts, ignore=shutil.ignore_patterns("results", "__pycache__"))
    done = subprocess.run([sys.executable, str(scripts / SCRIPT.name)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "the kernels cannot run here: PyTorch" in done.stdout and "Traceback" not in done.stderr
    assert "The engines cannot be measured here: " in done.stdout and "Nothing was measured" in done.stdout
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


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")
def test_the_resize_is_compared_with_the_cpu_s() -> None:
    launcher = SharedLibrary(host_library(name=RESIZE), RESIZE, Resize)
    rows = gpu_engines.resize_rows(launcher, device="cpu")
    assert [row["grey_levels"] for row in rows] == [0, 0, 0] and not any(row["missed"] for row in rows)
    assert all(row["cpu_us"] > 0 and row["gpu_us"] is None for row in rows)


def host_backend(engine: Path, graphs: bool = True) -> TensorRtBackend:
    kernel = HostKernel() if shutil.which("g++") else None
    return TensorRtBackend(HostGpu(), HostPlan(engine, (SIDE, SIDE)), kernel, "host", graphs)


def test_a_plan_is_compared_with_its_onnx(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    recipe = load_pair(engine)[1]
    reference, backend, plain = (
        open_backend(engine, recipe),
        host_backend(engine),
        host_backend(engine, False),
    )
    row = gpu_engines.figures(reference, backend, plain, frames=5)
    assert row["score_correlation"] == pytest.approx(1) and row["map_error"] == 0
    assert row["pictures_a_second"] > 0 and row["p99_over_median"] >= 1
    backend._plan.scale = math.nan
    broken = gpu_engines.figures(reference, backend, plain, frames=5)
    assert not broken["score_correlation"] >= 0.9
    backend._plan.scale = 1.0
    if backend.resizes:
        whole = gpu_engines.end_to_end(backend, recipe, frames=5)
        assert whole["frames_a_second"] > 0
    for opened in (backend, plain):
        opened.close()


@needs_rtx
@pytest.mark.skipif(own_sm() is not None, reason="there is a GPU here")
def test_an_engine_that_cannot_be_built_has_a_row_too(capsys: pytest.CaptureFixture[str]) -> None:
    good = {"precision": "fp16", "latency_ms": {"median": 0.5, "p99": 0.7}, "missed": []}
    rows = [good, *gpu_engines.engine_rows(("fp32",), print)]
    show_plainly("plans", ("precision", "latency_ms", "missed"), rows, Console(width=200))
    out = capsys.readouterr().out
    assert "0.50, p99 0.70" in out and "nothing" in out
    assert "fp32: there is no NVIDIA GPU or driver here to build for" in out and "runs at all" in out


def test_the_floor_counts_every_value_once() -> None:
    detector = fitted_detector("efficientnet-lite0")
    values = 24 * 96 * 96 + 40 * 48 * 48 + 112 * 24 * 24
    local = 40 * 48 * 48 + 112 * 24 * 24
    maps = random_maps(detector, 3, device="cpu")
    assert least_bytes(detector, maps, 3) == 3 * (2 * (2 * values + local) + 4 * 384 * 384)
    assert operations(detector, 3) == 3 * 2 * 2 * values * 64
