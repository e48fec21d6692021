"""A GPU without memory, a driver that is too old, a plan for another GPU: one sentence and exit code 3, from
where pycuda and TensorRT raise it to the command. pycuda is a double; TensorRT is real where it can be."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from plans import needs_rtx
from pycuda_double import LogicError, OutOfMemory, put_in_place
from toy import SIDE, toy_pair
from typer.testing import CliRunner

from build_engines.cli import app as build_app
from edge.cli import app
from edge.errors import BackendFault
from edge.gpu import own_sm
from edge.kernels.cuda import Gpu
from edge.recipe import Artefact, load_recipe, recipe_path, save_recipe, sha256_of

NO_ROOM = "Close what else uses the GPU, or run the .onnx engine, which needs none."
UPDATE = "Update the NVIDIA driver, or run the .onnx engine, which needs none."
MADE = ("cuInit", "cuDevicePrimaryCtxRetain")  # when a `Gpu` is made

without_gpu = pytest.mark.skipif(own_sm() is not None, reason="there is a GPU here")


@pytest.fixture(autouse=True)
def some_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as anybody asks this machine has an SM 8.6."""
    monkeypatch.setattr("edge.gpu.own_sm", lambda: 86)


def use_everything() -> None:
    """What `edge/backends/trt.py` does with the GPU, but for streams, graphs and kernels."""
    gpu = Gpu()
    with gpu.current():
        buffer = gpu.buffer((1, 4, 4, 3), np.uint8)
        try:
            gpu.uploaded(np.zeros(8, np.uint8)).free()
            gpu.kernel(Path("a.cubin"), "resize", SimpleNamespace)  # type: ignore[arg-type]
        finally:
            buffer.free()


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize(
    "call",
    [*MADE, "cuCtxPushCurrent", "cuMemHostAlloc", "cuMemAlloc", "cuMemcpyHtoD", "cuModuleLoad"],
)
def test_whatever_the_gpu_has_no_room_for_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, call: str, integrated: bool
) -> None:
    """And what was made before is freed, the context left."""
    error = OutOfMemory(f"{call} failed: out of memory")
    driver = put_in_place(monkeypatch, call, error, integrated)
    with pytest.raises(BackendFault) as caught:
        use_everything()
    where = "GPU" if call == "cuInit" else "RTX of paper"
    assert str(caught.value) == f"the GPU is out of memory: {error} ({where}). {NO_ROOM}"
    assert caught.value.__cause__ is error
    assert driver.entered == 0
    assert driver.living == (1 if call == "cuMemcpyHtoD" else 0)  # what a copy failed to fill dies with it


@pytest.mark.parametrize("call", [*MADE, "cuCtxPushCurrent", "cuMemAlloc"])
def test_any_other_fault_of_the_gpu_is_told_apart_from_that(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    put_in_place(monkeypatch, call, LogicError(f"{call} failed: an illegal memory access was encountered"))
    with pytest.raises(BackendFault, match=rf"^the GPU failed: {call} failed: an illegal .* Restart"):
        use_everything()


def plan_for_here(folder: Path, builder: str, content: bytes = b"a plan") -> Path:
    """A pair that nothing is wrong with until TensorRT reads it."""
    recipe = load_recipe(recipe_path(toy_pair(folder)))
    plan = folder / "toy.fp32.sm86.plan"
    plan.write_bytes(content)
    artefact = Artefact(plan.name, sha256_of(plan), "fp32", 86, builder)
    save_recipe(replace(recipe, artefacts=(artefact,)), recipe_path(plan))
    return plan


def run(plan: Path) -> str:
    """The error line of a station that must not start; exit code 3."""
    result = CliRunner().invoke(
        app, ["run", "--camera", "conveyor:?count=1", "--engine", str(plan), "--in-process"]
    )
    assert result.exit_code == 3, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("error ")]
    return line


def tensorrt_that_says(patch: pytest.MonkeyPatch, *texts: str) -> str:
    """In place of TensorRT 10.8: it reads no plan and says why, as that one does. Its name for a recipe."""

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    class Runtime:
        def __init__(self, log: ILogger) -> None:
            self._log = log

        def deserialize_cuda_engine(self, content: bytes) -> None:
            for text in texts:
                self._log.log(ILogger.ERROR, text)  # type: ignore[attr-defined]

    library = ModuleType("tensorrt")
    vars(library).update(__version__="10.8.0", ILogger=ILogger, Runtime=Runtime)
    patch.setitem(sys.modules, "tensorrt", library)
    return "tensorrt 10.8.0"


@pytest.mark.parametrize(
    ("texts", "meaning"),
    [
        (["[defaultAllocator.cpp::allocate::19] Error Code 1: Cuda Runtime (out of memory)",
          "[safeDeserialize.cpp::load::269] Error Code 2: OutOfMemory (no further information)"],
         "the GPU is out of memory (PLAN). " + NO_ROOM),
        (["IRuntime::deserializeCudaEngine: Error Code 2: OutOfMemory (no further information)"],
         "the GPU is out of memory (PLAN). " + NO_ROOM),
        (["IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated "
          "on an incompatible device, expecting compute 8.9 got compute 8.6, please rebuild.)"],
         "it was built for another GPU (PLAN). Build it for this one: build-engines"),
        (["Error Code 6: Expecting compute capability = 8.9 but got compute capability = 8.6. Rebuild."],
         "it was built for another GPU (PLAN). Build it for this one: build-engines"),
        (["Error Code 1: Cuda Runtime (CUDA driver version is insufficient for CUDA runtime version)"],
         "the NVIDIA driver is older than this TensorRT needs (PLAN). " + UPDATE),
        (["Error Code 1: Cuda Runtime (an illegal memory access was encountered)"],
         "Error Code 1: Cuda Runtime (an illegal memory access was encountered) (PLAN). Build it for"),
    ],
)  # fmt: skip
def test_what_tensorrt_says_of_a_plan_ends_the_station_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], meaning: str
) -> None:
    """The story: TensorRT for another GPU's plan has other words than were looked for; a forbidden access to
    memory was "out of memory"; and against that a plan was to be built again."""
    driver = put_in_place(monkeypatch)
    plan = plan_for_here(tmp_path, tensorrt_that_says(monkeypatch, *texts))
    wanted = meaning.replace("PLAN", str(plan))
    assert f"error TensorRT cannot load the plan: {wanted}" in run(plan)
    assert driver.entered == 0 and driver.living == 0


@pytest.mark.parametrize("call", MADE)
def test_a_gpu_that_is_full_ends_the_station_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    put_in_place(monkeypatch, call, OutOfMemory(f"{call} failed: out of memory"))
    line = run(plan_for_here(tmp_path, tensorrt_that_says(monkeypatch)))
    assert line.startswith(f"error the GPU is out of memory: {call} failed: out of memory (")
    assert line.endswith(NO_ROOM)


def test_a_driver_that_cuda_itself_refuses_ends_the_station_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "cuInit failed: system has unsupported display driver / cuda driver combination"
    put_in_place(monkeypatch, "cuInit", LogicError(why))
    line = run(plan_for_here(tmp_path, tensorrt_that_says(monkeypatch)))
    assert line == f"error the GPU failed: {why} (GPU). Restart the station."


@needs_rtx
@without_gpu
def test_a_driver_that_is_too_old_is_named_by_both_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX says so itself, of a plan that it has built: no driver is the oldest of all."""
    from build_engines.builder import open_builder

    put_in_place(monkeypatch)
    builder = open_builder("tensorrt-rtx")
    plan = plan_for_here(tmp_path, builder.name, builder.build(toy_pair(tmp_path).read_bytes(), 86, 4)[0])
    why = "TensorRT cannot load the plan: the NVIDIA driver is older than this TensorRT needs"
    assert run(plan) == f"error {why} ({plan}). {UPDATE}"
    plan.unlink()
    recipe_path(plan).unlink()
    pictures = np.random.default_rng(0).integers(0, 99, (9, SIDE, SIDE, 3), np.uint8)
    np.savez(tmp_path / "calibration.npz", images=pictures)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = CliRunner().invoke(
        build_app, [str(tmp_path / "toy.onnx"), "--runtime", "tensorrt-rtx", "--sm", "86"]
    )
    assert result.exit_code == 3 and f"cannot be opened on the GPU it is for: {why}" in result.output
    assert not list(tmp_path.glob("*.plan*"))
