"""The GPU check: what it does without a GPU, and its own arithmetic, on the kernel's host build."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_engines
import numpy as np
import pytest
import torch
from affinity_cases import fitted_detector, largest_error, least_bytes, operations, random_maps
from affinity_torch import KernelOnTorch
from gpu_check import TEACHERS, TOLERANCE, check_kernels, empty_library, missed, show
from host_gpu import HostGpu, HostKernel, HostPlan
from plans import needs_rtx
from rich.console import Console
from test_kernels_compile import needs_nvcc
from toy import SIDE, toy_pair

from build_engines.kernel import kernel_constants
from build_engines.plans import PlanOptions
from distillation.detector import DetectorConfig
from edge.backends import open_backend
from edge.backends.trt import TensorRtBackend
from edge.gpu import own_sm
from edge.kernels.compile import host_library
from edge.kernels.launch import SharedLibrary
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
    "changes",
    [
        {},
        {"measure": "squared", "fusion": "max"},
        {"local_student": "reverse", "context_grid": 5, "smoothing": 2.0, "top_share": 0.02},
    ],
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


@pytest.mark.parametrize("teacher", TEACHERS)
def test_every_teacher_of_the_check_can_be_measured(teacher: str) -> None:
    """One was named that does not exist: the check broke off behind the first teacher and wrote nothing."""
    constants = kernel_constants(fitted_detector(teacher))
    assert constants.input_size == DetectorConfig().input_size


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")
def test_all_of_it_is_rehearsed_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    teachers = {"no such teacher": (1,), **{name: batches[:1] for name, batches in TEACHERS.items()}}
    found = check_kernels(False, Console(width=250), "cpu", teachers, input_size=(64, 64))
    unknown, known = found["kernel"][:2], found["kernel"][2:]
    assert all("unknown teacher 'no such teacher'" in row["fault"] for row in unknown)
    assert all(row["missed"] == ["runs at all"] for row in unknown)
    measured = [(row["teacher"], row["measure"]) for row in known]
    assert measured == [(teacher, measure) for teacher in TEACHERS for measure in ("squared", "both")]
    assert measured[0][1] == DetectorConfig.measure  # what is trained is timed with every batch
    for row in known:
        assert row["error"] <= TOLERANCE and "agreement" not in row["missed"]
        assert min(row[f"{name}_us"] for name in ("kernel", "floor", "empty", "eager", "compiled")) > 0
    assert [row["grey_levels"] for row in found["resize"]] == [0, 0, 0]
    assert all(row["cpu_us"] > 0 and row["gpu_us"] > 0 and not row["missed"] for row in found["resize"])
    out = capsys.readouterr().out
    assert "no such teacher: unknown teacher" in out and "resize to 384x384" in out


def test_what_breaks_has_a_row_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler the first part raised, and nothing else was measured or saved."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = check_kernels(True, Console(quiet=True), "cpu", input_size=(64, 64))
    rows = [*found["kernel"], *found["resize"]]
    assert len(rows) == 2 * len(TEACHERS) + 3
    assert all("g++ is not installed" in r["fault"] and r["missed"] == ["runs at all"] for r in rows)
    assert found["ceilings"][0]["bytes"] > 0


@needs_nvcc
def test_the_empty_launches_compile() -> None:
    assert SharedLibrary(empty_library("sm_90"))


def host_backend(engine: Path, graphs: bool = True) -> TensorRtBackend:
    kernel = HostKernel() if shutil.which("g++") else None
    return TensorRtBackend(HostGpu(), HostPlan(engine), kernel, "host", graphs)


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
    show("plans", ("precision", "latency_ms", "missed"), rows, Console(width=200))
    out = capsys.readouterr().out
    assert "0.50, p99 0.70" in out and "nothing" in out
    for name in ("fp32", "fp16, kernel, tensorrt-rtx"):
        assert f"{name}: there is no NVIDIA GPU or driver here to build for" in out
    assert "runs at all" in out


@needs_rtx
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")
def test_a_plan_is_built_and_measured(tmp_path: Path) -> None:
    """Built for a GPU that is not here; in its place the ONNX of its precision runs."""

    def opened(path: Path, size: Any, builder: str, hint: str, graphs: bool = True) -> TensorRtBackend:
        assert path.suffix == ".plan" and builder.startswith("tensorrt-rtx")
        return TensorRtBackend(HostGpu(), HostPlan(engine), HostKernel(), "host", graphs)

    engine = toy_pair(tmp_path)
    np.savez_compressed(tmp_path / "calibration.npz", images=np.full((12, SIDE, SIDE, 3), 100, np.uint8))
    options = PlanOptions(("fp32",), 0.003, sms=(86,), runtime="tensorrt-rtx", force=True)
    reference = open_backend(engine, load_pair(engine)[1])
    row = gpu_engines.plan_figures(engine, options, reference, 3, opened)
    assert row["missed"] == [] and row["map_error"] == 0 and row["frames_a_second"] > 0


def test_an_engine_that_does_not_judge_is_a_fault_and_not_the_end(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path, kind="touchy")
    backend, recipe = open_backend(engine, load_pair(engine)[1]), load_pair(engine)[1]
    row = gpu_engines.attempted({}, lambda: gpu_engines.end_to_end(backend, recipe, 1))
    assert "did not judge every picture" in row["fault"]


def test_the_floor_counts_every_value_once() -> None:
    detector = fitted_detector("efficientnet-lite0")
    values = 24 * 96 * 96 + 40 * 48 * 48 + 112 * 24 * 24
    local = 40 * 48 * 48 + 112 * 24 * 24
    maps = random_maps(detector, 3, device="cpu")
    assert least_bytes(detector, maps, 3) == 3 * (2 * (2 * values + local) + 4 * 384 * 384)
    assert operations(detector, 3) == 3 * 2 * 2 * values * 64
