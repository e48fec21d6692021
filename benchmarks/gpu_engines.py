"""TensorRT plans and the preprocess kernel on this GPU: what gpu_check.py adds to the affinity kernel."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from gpu_timing import seconds
from record import quantiles_ms

from build_engines.listener import Listener
from build_engines.plans import PlanOptions, build_plans
from edge.atomic import write_atomically
from edge.backends import Backend, open_backend
from edge.backends.trt import TensorRtBackend, open_plan
from edge.cameras.parts import render_part
from edge.demo.show import ENGINE
from edge.errors import BackendFault, InspectError
from edge.frame import Pixels, Shot, make_frame
from edge.gpu import RUNTIMES, own_sm
from edge.kernels.launch import SharedLibrary
from edge.kernels.resize import ResizePlan
from edge.picture.preprocess import Size, preprocess, resize
from edge.recipe import Recipe, load_pair, recipe_path
from edge.station.worker import InferenceWorker

Row = dict[str, Any]
OpenPlan = Callable[..., TensorRtBackend]

CAMERA = (1024, 1280)  # of the end-to-end figure
CAMERAS = ((480, 640), CAMERA, (2160, 3840))  # of the resize
PRECISIONS = ("fp32", "fp16", "int8")
LEAST_CORRELATION = {"fp32": 0.99999, "fp16": 0.9999, "int8": 0.999}  # of the scores, plan against FP32 ONNX
MOST_GREY_LEVELS = 1  # between the two ways to resize
CALIBRATION, JUDGED, FRAMES, WARM_UP = 48, 64, 500, 20  # pictures
FALSE_REJECTS = 0.003  # as build-engines has it; limits are not looked at here
FOREVER_NS = 60_000_000_000


def what_is_missing() -> str:
    """Why no plan can be measured here, in one sentence; "" where all is there."""
    if not any(find_spec(name) for name in ("tensorrt", "tensorrt_rtx")):
        return "TensorRT is not installed (pip install tensorrt or tensorrt-rtx)."
    if find_spec("pycuda") is None:
        return "pycuda is not installed (pip install -e '.[gpu]')."
    return "" if own_sm() else "there is no NVIDIA GPU or driver."


def attempted(about: Row, measure: Callable[[], Row]) -> Row:
    """One row of figures, or why that part does not run here: the others go on.

    PyTorch's own errors are RuntimeError, a GPU out of memory among them.
    """
    try:
        return about | measure()
    except (InspectError, RuntimeError) as error:
        return about | {"fault": " ".join(str(error).split())[:400], "missed": ["runs at all"]}


def resize_row(open_kernel: Callable[[], SharedLibrary], camera: Size, size: Size, device: str) -> Row:
    """The preprocess kernel for one camera: grey levels off, microseconds on both."""
    about = {"camera": f"{camera[1]}x{camera[0]}"}
    return attempted(about, lambda: resize_figures(open_kernel(), as_camera(camera, 1), size, device))


def resize_figures(launcher: SharedLibrary, pixels: Pixels, size: Size, device: str) -> Row:
    """One picture; on the CPU (`device` "cpu", the host build) only what it says is of interest."""
    plan = ResizePlan(pixels.shape[:2], size)
    source, tables = (torch.from_numpy(array).to(device) for array in (pixels, plan.tables))
    target = torch.zeros((*size, 3), dtype=torch.uint8, device=device)
    problem = plan.problem(source.data_ptr(), pixels.strides[0], target.data_ptr(), tables.data_ptr())

    def on_gpu() -> None:
        launcher.run(problem, torch.cuda.current_stream().cuda_stream if device == "cuda" else None)

    on_gpu()
    wanted = resize(pixels, size)
    off = int(np.abs(target.cpu().numpy().astype(int) - wanted).max())
    return {
        "grey_levels": off,
        "gpu_us": round(seconds([on_gpu], device=device) * 1e6, 2),
        "cpu_us": round(median_s(lambda: resize(pixels, size), 50) * 1e6, 1),
        "missed": [] if off <= MOST_GREY_LEVELS else ["agreement of the resize"],
    }


def engine_rows(precisions: Sequence[str], say: Callable[[str], None]) -> Iterator[Row]:
    """One row for each precision of the demo engine, built here; what cannot be built or run says why."""
    with TemporaryDirectory() as folder:
        engine = carried(Path(folder))
        reference = open_backend(engine, load_pair(engine)[1])
        tried = {name: PlanOptions((name,), FALSE_REJECTS, force=True) for name in precisions}
        for runtime in (name for name, module in RUNTIMES.items() if find_spec(module)):
            options = PlanOptions(("fp16",), FALSE_REJECTS, runtime=runtime, force=True, kernel=True)
            tried[f"fp16, kernel, {runtime}"] = options
        for name, options in tried.items():
            say(f"building {name}")
            yield attempted({"precision": name}, partial(plan_figures, engine, options, reference, FRAMES))


def carried(folder: Path) -> Path:
    """The demo engine, its recipe and calibration pictures, as they would be carried to a Jetson."""
    engine = folder / ENGINE.name
    for source in (ENGINE, recipe_path(ENGINE)):
        write_atomically(folder / source.name, source.read_bytes())
    size = load_pair(engine)[1].input_size
    images = np.stack([preprocess(render_part(77, i), size) for i in range(CALIBRATION)])
    np.savez_compressed(folder / "calibration.npz", images=images)
    return engine


def plan_figures(
    engine: Path, options: PlanOptions, reference: Backend, frames: int, open_plan: OpenPlan = open_plan
) -> Row:
    """Build the plan of one precision, open it with graphs and without, measure both. Raises InspectError."""
    (precision,) = options.precisions
    (built,) = build_plans(engine, options, Listener())
    path, recipe, artefact = load_pair(built.engine)
    opened = partial(open_plan, path, recipe.input_size, artefact.builder, "")
    with closing(opened()) as backend, closing(opened(graphs=False)) as plain:
        made = figures(reference, backend, plain, frames) | end_to_end(backend, recipe, frames)
    agrees = made["score_correlation"] >= LEAST_CORRELATION[precision]  # NaN is not
    return {"engine": backend.name, **made, "missed": [] if agrees else ["agreement with the ONNX"]}


def figures(reference: Backend, backend: Backend, plain: Backend, frames: int) -> dict[str, Any]:
    """Numerics against the reference, latency with graphs and without, pictures a second in batches."""
    pictures = np.stack([judged(i, reference.input_size) for i in range(JUDGED)])
    wanted, found = ([b.infer(p) for p in pictures] for b in (reference, backend))
    scores = np.array([[score for _, score in answers] for answers in (wanted, found)])
    errors = [np.abs(a - b).max() for (a, _), (b, _) in zip(wanted, found, strict=True)]
    with_graph, without = (latency(b, pictures, frames) for b in (backend, plain))
    return {
        "score_correlation": float(np.corrcoef(scores)[0, 1]),
        "map_error": float(np.max(errors)),
        "latency_ms": with_graph,
        "p99_over_median": round(with_graph["p99"] / with_graph["median"], 3),
        "latency_without_graph_ms": without,
        "pictures_a_second": round(JUDGED / median_s(lambda: backend.infer_batch(pictures), 20)),
    }


def end_to_end(backend: Backend, recipe: Recipe, frames: int) -> dict[str, Any]:
    """Camera pictures through the inference thread, one after the other, as the station has them."""
    pictures = [as_camera(CAMERA, i) for i in range(16)]
    times = []
    recipe = replace(recipe, training_set={})  # which may name one picture size
    worker = InferenceWorker(backend, recipe, "")
    for i in range(frames + WARM_UP):
        frame = make_frame(Shot(pictures[i % 16].copy()), i, "benchmark", time.monotonic_ns())
        begun = time.perf_counter()
        worker.inspect(frame, time.monotonic_ns() + FOREVER_NS)
        times.append(time.perf_counter() - begun)
        if worker.last_error:
            worker.close()
            what = f"the engine did not judge every picture: {worker.last_error}"
            raise BackendFault(what, backend.name, "Run the .onnx engine meanwhile, and report it.")
    worker.close()
    took = times[WARM_UP:]
    return {"camera_to_score_ms": quantiles_ms(took), "frames_a_second": round(len(took) / sum(took))}


def latency(backend: Backend, pictures: Pixels, frames: int) -> dict[str, float]:
    """One picture at a time, already of the engine's size."""
    times = []
    for i in range(frames + WARM_UP):
        begun = time.perf_counter()
        backend.infer(pictures[i % len(pictures)])
        times.append(time.perf_counter() - begun)
    return quantiles_ms(times[WARM_UP:])


def judged(number: int, size: tuple[int, int]) -> Pixels:
    """Every second one with a scratch: scores that are all alike correlate with nothing."""
    pixels = preprocess(render_part(5, number), size)
    if number % 2:
        start, end = np.random.default_rng(number).integers(30, 220, (2, 2)).tolist()
        cv2.line(pixels, start, end, (30, 30, 30), 1 + number % 5)
    return pixels


def as_camera(size: tuple[int, int], number: int) -> Pixels:
    """A part as a camera of (height, width) shows it."""
    return cv2.resize(render_part(3, number), size[::-1], interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def median_s(call: Callable[[], Any], repeats: int) -> float:
    """Median time of a call, seconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))
