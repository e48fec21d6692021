"""Plans on the GPU: all but CUDA and TensorRT themselves, on a host GPU that works as late as it may.

What a real GPU adds (context, copies, capture, TensorRT's own work) is in `edge/kernels/cuda.py` and
`edge/backends/plan.py`, and needs one: `python benchmarks/gpu_check.py`.
"""

import re
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_gpu import HostGpu, HostKernel, HostPlan
from plans import needs_rtx
from toy import SIDE, toy_pair

from edge.backends import behind_view, open_backend
from edge.backends.ort import OnnxRuntimeBackend
from edge.backends.plan import Tensor, TensorRtPlan, check_tensors, explained, own_errors
from edge.backends.trt import AT_ONCE, MOST_STEPS, TensorRtBackend
from edge.errors import BackendFault
from edge.frame import Inspection, Pixels, Shot, make_frame
from edge.kernels.cuda import Gpu, Graph
from edge.picture.preprocess import resize
from edge.picture.view import View, view_of
from edge.recipe import load_pair, load_recipe, recipe_path
from edge.station.worker import InferenceWorker

CUDA_H = next(iter(sorted(Path("/usr/local").glob("cuda*/include/cuda.h"))), Path("cuda.h"))
HERE = Path("/dev/nvidiactl").exists()

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


@cache
def kernel() -> HostKernel:
    return HostKernel()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return toy_pair(tmp_path)


@pytest.fixture(params=["copies", "mapped", "not captured"])
def opened(request: pytest.FixtureRequest, engine: Path) -> Iterator[tuple[TensorRtBackend, HostGpu]]:
    """A discrete GPU, a Jetson, an engine that no graph can be made of."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the host build")
    gpu = HostGpu(integrated=request.param == "mapped")
    plan = HostPlan(engine, captured=request.param != "not captured")
    backend = TensorRtBackend(gpu, plan, kernel(), "host")
    yield backend, gpu
    backend.close()
    assert not gpu.owned, "something on the GPU was not freed"


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_any_picture_is_judged_as_the_cpu_path_judges_it(
    opened: tuple[TensorRtBackend, HostGpu], engine: Path
) -> None:
    reference = OnnxRuntimeBackend(engine, (SIDE, SIDE))
    region = noise(480, 640)[21:401, 30:333]
    for pixels in [noise(SIDE, SIDE), noise(480, 640), region, noise(480, 640), noise(129, 1000)]:
        anomaly_map, score = opened[0].infer(pixels)
        wanted_map, wanted = reference.infer(resize(pixels, (SIDE, SIDE)))
        assert np.array_equal(anomaly_map, wanted_map) and score == wanted


@pytest.mark.parametrize("count", [1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE, 4 * AT_ONCE - 1])
def test_a_batch_says_what_its_pictures_say_alone(
    opened: tuple[TensorRtBackend, HostGpu], count: int
) -> None:
    pictures = noise(count, SIDE, SIDE)
    maps, scores = opened[0].infer_batch(pictures)
    assert maps.shape == (count, SIDE, SIDE) and scores.shape == (count,)
    for picture, anomaly_map, score in zip(pictures, maps, scores, strict=True):
        alone_map, alone = opened[0].infer(picture)
        assert np.array_equal(alone_map, anomaly_map) and alone == score


def test_camera_pictures_come_in_batches_too(opened: tuple[TensorRtBackend, HostGpu]) -> None:
    pictures = noise(AT_ONCE + 2, 100, 133)
    maps, _ = opened[0].infer_batch(pictures)
    for picture, anomaly_map in zip(pictures, maps, strict=True):
        assert np.array_equal(opened[0].infer(picture)[0], anomaly_map)


def test_an_answer_stays_when_the_next_picture_comes(opened: tuple[TensorRtBackend, HostGpu]) -> None:
    first, _ = opened[0].infer(noise(SIDE, SIDE))
    kept = first.copy()
    opened[0].infer(255 - noise(SIDE, SIDE))
    assert np.array_equal(first, kept)


def test_nothing_is_allocated_once_it_is_warm(opened: tuple[TensorRtBackend, HostGpu]) -> None:
    backend, gpu = opened
    backend.infer(noise(480, 640))
    backend.infer_batch(noise(3 * AT_ONCE, SIDE, SIDE))
    made = gpu.allocations
    for _ in range(5):
        backend.infer(noise(480, 640))
        backend.infer_batch(noise(3 * AT_ONCE, SIDE, SIDE))
    assert gpu.allocations == made


def test_pictures_of_ever_new_sizes_do_not_fill_the_gpu(opened: tuple[TensorRtBackend, HostGpu]) -> None:
    backend, gpu = opened
    most = []
    for height in range(70, 70 + 3 * MOST_STEPS):
        backend.infer(noise(height, 100))
        most.append(len(gpu.owned))
    assert max(most[MOST_STEPS:]) == most[-1]
    backend.close()
    backend.close()
    assert not gpu.owned


@needs_compiler
def test_a_gpu_without_room_says_so_and_keeps_nothing(engine: Path) -> None:
    """Whatever was made before memory ran out is freed, and the step that fitted still works."""
    gpu = HostGpu()
    backend = TensorRtBackend(gpu, HostPlan(engine), kernel(), "host")
    _, score = backend.infer(noise(SIDE, SIDE))
    warm = len(gpu.owned)
    for room in range(7):
        gpu.room = room
        with pytest.raises(BackendFault, match="out of memory"):
            backend.infer(noise(480, 640))
        assert len(gpu.owned) == warm
    assert backend.infer(noise(SIDE, SIDE))[1] == score
    backend.close()


def test_without_a_kernel_pictures_come_resized(engine: Path) -> None:
    backend = TensorRtBackend(HostGpu(), HostPlan(engine), None, "host")
    assert not backend.resizes
    backend.infer(noise(SIDE, SIDE))
    with pytest.raises(BackendFault, match="Resize it first"):
        backend.infer(noise(480, 640))
    backend.close()


def test_what_is_no_number_is_handed_on(opened: tuple[TensorRtBackend, HostGpu]) -> None:
    """`decide` answers it: no pass, SCORE_INVALID."""
    opened[0]._plan.scale = np.nan
    anomaly_map, score = opened[0].infer(noise(480, 640))
    assert np.isnan(score) and np.isnan(anomaly_map).all()


ROI = (40, 30, 500, 401)
MASK = np.zeros((401, 500), np.uint8)
MASK[20:300, 100:480] = 255


@needs_compiler
@pytest.mark.parametrize(
    "view",
    [
        View((SIDE, SIDE)),
        View((SIDE, SIDE), ROI),
        View((SIDE, SIDE), ROI, MASK),
        View((SIDE, SIDE), ROI, MASK, canvas=(150, 200)),
    ],
)
def test_the_worker_hands_it_the_camera_picture(tmp_path: Path, view: View) -> None:
    """Cut and masked in camera pixels, resized by the backend; with tiles the canvas is made before."""
    path = toy_pair(tmp_path, roi=view.roi, view=view.to_json())
    engine, recipe, _ = load_pair(path)
    frame = make_frame(Shot(noise(480, 640)), 1, "test", time.monotonic_ns())
    gpu = HostGpu()
    inner = TensorRtBackend(gpu, HostPlan(engine), kernel(), "host")
    backend = behind_view(inner, view_of(recipe))
    assert backend.resizes == (view.canvas is None)
    with closing(InferenceWorker(backend, recipe, "")) as worker:
        answer = worker.inspect(frame, time.monotonic_ns() + 30_000_000_000)
    assert isinstance(answer, Inspection), worker.last_error
    wanted_map, wanted = open_backend(engine, recipe).infer(view.see(frame.pixels))
    assert np.array_equal(answer.anomaly_map, wanted_map) and answer.score == wanted
    assert not gpu.owned


def test_a_plan_goes_while_its_context_is_current(engine: Path) -> None:
    gpu, depths = HostGpu(), []
    plan = HostPlan(engine)
    weakref.finalize(plan, lambda: depths.append(gpu.depth))
    backend = TensorRtBackend(gpu, plan, None, "host")
    del plan
    backend.close()
    assert depths == [1]


@pytest.mark.parametrize("shown", [(480, 640), (SIDE, SIDE), (129, 1000), None])
def test_a_resize_that_gives_the_same_scores_is_kept(
    opened: tuple[TensorRtBackend, HostGpu], shown: tuple[int, int] | None
) -> None:
    backend, gpu = opened
    backend.check_resize(shown and list(shown))  # as a recipe's JSON has it
    assert backend.resizes and backend.name == "host"
    made = gpu.allocations
    backend.infer(noise(*(shown or (2 * SIDE, 2 * SIDE))))
    assert gpu.allocations == made, "the first part would have waited"


class IdleKernel:
    """One that was made for another GPU: it is launched, and nothing comes of it."""

    def launch(self, *_: Any) -> None:
        pass


def test_a_resize_that_gives_other_scores_is_done_on_the_cpu(engine: Path) -> None:
    with closing(TensorRtBackend(HostGpu(), HostPlan(engine), IdleKernel(), "host")) as backend:
        backend.check_resize((480, 640))
        assert not backend.resizes and backend.name.endswith("other scores: resize on the CPU")
        with pytest.raises(BackendFault, match="Resize it first"):
            backend.infer(noise(480, 640))


@needs_compiler
def test_scores_that_are_no_numbers_prove_no_resize(engine: Path) -> None:
    plan = HostPlan(engine)
    plan.scale = np.nan
    with closing(TensorRtBackend(HostGpu(), plan, kernel(), "host")) as backend:
        backend.check_resize((480, 640))
        assert not backend.resizes


@needs_compiler
def test_a_view_that_finds_no_room_leaves_nothing_open(engine: Path) -> None:
    gpu = HostGpu()
    inner = TensorRtBackend(gpu, HostPlan(engine), kernel(), "host")
    gpu.room = 0  # for the tiles of a picture at once
    with pytest.raises(BackendFault, match="out of memory"):
        behind_view(inner, View((SIDE, SIDE), ROI, canvas=(150, 200)))
    assert not gpu.owned


# --- what does not fit


GOOD = [
    Tensor("pixels", True, "UINT8", (-1, 256, 192, 3)),
    Tensor("anomaly_map", False, "FLOAT", (-1, 256, 192)),
    Tensor("score", False, "FLOAT", (-1,)),
]


def test_the_tensors_of_an_engine_are_taken() -> None:
    check_tensors(Path("a.plan"), GOOD, (256, 192))
    check_tensors(Path("a.plan"), GOOD[::-1], (256, 192))


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, {"shape": (-1, 192, 256, 3)}), (0, {"shape": (-1, 3, 256, 192)}), (0, {"name": "input"}),
        (0, {"dtype": "FLOAT"}), (1, {"dtype": "HALF"}), (1, {"shape": (-1, 64, 48)}),
        (2, {"name": "scores"}), (2, {"shape": (-1, 1)}),
    ],
)  # fmt: skip
def test_another_model_s_plan_is_refused(place: int, change: dict[str, Any]) -> None:
    tensors = list(GOOD)
    tensors[place] = tensors[place]._replace(**change)
    with pytest.raises(BackendFault, match="one build-engines run"):
        check_tensors(Path("a.plan"), tensors, (256, 192))


def test_messages_are_explained() -> None:
    driver = "Error Code 1: Cuda Runtime (CUDA driver version is insufficient for CUDA runtime version)"
    assert "driver is older" in explained([driver])[0] and "Update" in explained([driver])[1]
    assert explained(["Serialization assertion failed", driver])[0].startswith("it is no whole plan")
    assert explained(["something  else\nof TensorRT"]) == ("something else of TensorRT", "")
    assert explained([]) == ("it gives no reason", "")


@pytest.mark.parametrize("error", [TypeError, RuntimeError, AttributeError, MemoryError])
def test_what_the_bindings_raise_is_one_sentence(error: type[Exception]) -> None:
    """What TensorRT said counts for more than what its bindings make of it."""

    def sentence(said: list[str], *text: str) -> str:
        with pytest.raises(BackendFault) as fault, own_errors(said, "no plan", Path("a.plan"), "Build it."):
            raise error(*text)
        assert not said, "it would be said again of the next error"
        return str(fault.value)

    driver = ["CUDA driver version is insufficient for CUDA runtime version"]
    assert re.match(r"no plan: the NVIDIA driver is older .*\(a\.plan\)\. Update", sentence(driver, "null"))
    assert sentence([], "of pybind") == "no plan: of pybind (a.plan). Build it."
    assert sentence([]) == "no plan: it gives no reason (a.plan). Build it."


@needs_rtx
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "loco.fp16.sm86.plan"
    broken.write_bytes(b"half a plan" * 100)
    with pytest.raises(BackendFault, match=r"no whole plan of this TensorRT version .*Build it again"):
        TensorRtPlan(broken.read_bytes(), broken, "tensorrt-rtx 1.7.1", "Build it again.")


@needs_rtx
@pytest.mark.skipif(HERE, reason="there is a GPU here")
def test_a_plan_without_a_driver_says_so(engine: Path) -> None:
    from build_engines.builder import open_builder

    plan = engine.with_suffix(".plan")
    plan.write_bytes(open_builder("tensorrt-rtx").build(engine.read_bytes(), 86, 4)[0])
    with pytest.raises(BackendFault, match=r"driver is older .*Update the NVIDIA driver"):
        TensorRtPlan(plan.read_bytes(), plan, "tensorrt-rtx 1.7.1", "Build it again.")


@pytest.mark.parametrize("builder", ["tensorrt 0.0.1", "tensorrt-of-tomorrow 1", "onnx", ""])
def test_a_library_that_is_missing_is_named(tmp_path: Path, builder: str) -> None:
    if HERE and builder.startswith("tensorrt 0"):
        pytest.skip("TensorRT may be installed here")
    with pytest.raises(BackendFault, match=r"cannot be loaded.*JetPack 6.*the container in docs/deploy\.md"):
        TensorRtPlan(b"", tmp_path / "a.plan", builder, "")


@pytest.mark.skipif(HERE, reason="there is a GPU here")
def test_without_pycuda_or_a_driver_the_error_says_so() -> None:
    with pytest.raises(BackendFault, match=r"pycuda cannot be used.*pip install -e '\.\[gpu\]'"):
        Gpu()


def test_an_onnx_is_no_plan(engine: Path) -> None:
    with pytest.raises(BackendFault, match=rf"TensorRT runs plans.*build-engines {engine} --fp16"):
        open_backend(engine, load_recipe(recipe_path(engine)), "tensorrt")


def test_the_size_to_warm_up_with_is_that_of_what_is_shown(engine: Path) -> None:
    recipe = load_recipe(recipe_path(engine))
    for roi, picture in ((None, None), (None, (480, 640)), (ROI, (480, 640)), (ROI, None)):
        view = view_of(replace(recipe, roi=roi))
        size = view.shown_size(picture)
        assert (
            size is None if roi is None and picture is None else view.shown(noise(480, 640)).shape[:2] == size
        )


# --- what only the headers can tell here


@pytest.mark.skipif(not CUDA_H.is_file(), reason="no CUDA toolkit with a cuda.h here")
def test_the_driver_s_functions_are_as_they_are_called() -> None:
    """Name and number of arguments, as the driver exports them."""
    text = CUDA_H.read_text("utf-8", errors="replace")
    aliases = dict(re.findall(r"#define (cu\w+)\s+(?:__CUDA_API_PTSZ\()?(cu\w+)\)?$", text, re.M))
    found = re.findall(r"^CUresult CUDAAPI (cu\w+)\(([^)]*)\);", text, re.M)
    declared = {aliases.get(name, name): arguments.count(",") + 1 for name, arguments in found}
    calls = {
        "cuStreamBeginCapture_v2": 2, "cuStreamEndCapture": 2, "cuGraphInstantiateWithFlags": 3,
        "cuGraphLaunch": 2, "cuGraphExecDestroy": 1, "cuGraphDestroy": 1, "cuGetErrorString": 2,
    }  # fmt: skip
    source = Path(Graph.__init__.__code__.co_filename).read_text("utf-8")
    assert set(re.findall(r"\bcu[A-Z]\w+", source)) == set(calls)
    assert {name: declared[name] for name in calls} == calls
    assert re.search(r"CU_STREAM_CAPTURE_MODE_THREAD_LOCAL\s*= 1\b", text)
    assert re.search(r"CU_STREAM_NON_BLOCKING\s*= 0x1\b", text)


@needs_rtx
def test_tensorrt_has_the_methods_that_are_called() -> None:
    import tensorrt_rtx as trt

    used = {
        trt.Runtime: ("deserialize_cuda_engine",),
        trt.ICudaEngine: (
            "create_execution_context", "create_runtime_config", "get_tensor_profile_shape",
            "get_tensor_name", "get_tensor_mode", "get_tensor_dtype", "get_tensor_shape", "num_io_tensors",
        ),
        trt.IExecutionContext: (
            "set_input_shape", "set_device_memory", "update_device_memory_size_for_shapes",
            "set_tensor_address", "is_stream_capturable", "execute_async_v3",
        ),
        trt.IRuntimeConfig: (
            "dynamic_shapes_kernel_specialization_strategy", "set_execution_context_allocation_strategy",
        ),
        trt.ExecutionContextAllocationStrategy: ("USER_MANAGED",),
        trt.DynamicShapesKernelSpecializationStrategy: ("EAGER",),
        trt.TensorIOMode: ("INPUT",),
        trt.DataType: ("UINT8", "FLOAT"),
    }  # fmt: skip
    missing = [f"{owner.__name__}.{name}" for owner, names in used.items() for name in names
               if not hasattr(owner, name)]  # fmt: skip
    assert not missing
