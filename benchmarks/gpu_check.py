"""Do the kernels and the engines keep what they promise on this GPU?

    python benchmarks/gpu_check.py [--quick]

Compiles the affinity kernel with nvcc for the GPU here, compares it with PyTorch's FP32 on the CPU, times it
against PyTorch eager, torch.compile and the floor; compares and times the resize against the CPU's; builds
the demo engine's plans in FP32, FP16, INT8 and with the affinity kernel in FP16, compares them with the ONNX,
times them with CUDA graphs and without. Prints tables, writes results/gpu_check.json. The kernels need a GPU,
nvcc and a PyTorch with CUDA, the plans TensorRT and pycuda: what is missing or breaks is said, and the rest
still runs. Exits with 1 where the kernels cannot run or a goal is missed. With --quick: the smallest batches
and the FP16 plans, no result.
"""

import argparse
import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gpu_engines
import torch
from affinity_cases import Maps, fitted_detector, largest_error, least_bytes, operations, random_maps
from affinity_torch import AfterNetworks, KernelOnTorch
from gpu_engines import Row, attempted, resize_row
from gpu_timing import copy_bandwidth, gpu_facts, matrix_rate, seconds
from record import save_result
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from build_engines.kernel import kernel_constants
from distillation.detector import Detector, DetectorConfig
from distillation.resnet import WideResNet50
from distillation.teacher import EfficientNetLite0
from edge.kernels.compile import AFFINITY, RESIZE, compiled, gpu_command, gpu_library, host_library
from edge.kernels.launch import SharedLibrary, open_launcher
from edge.kernels.resize import Resize

TOLERANCE = 1e-3  # of the map's unit and, where it is larger, of the value
LEAST_SHARE = 0.7  # of the floor, from FULL_BATCH pictures on
FULL_BATCH = 32
MOST_OVER_EMPTY_S = 3e-6  # at batch 1
LEAST_GAIN = 5.0  # over PyTorch eager
OUT_OF_CACHE_BYTES = 256 << 20  # inputs in rotation: several times any L2 cache
MOST_SETS = 40  # of inputs; at batch 1 the networks have just written theirs, and they are in the cache
ENGINE_COLUMNS = (
    "precision", "score_correlation", "map_error", "latency_ms", "latency_without_graph_ms",
    "p99_over_median", "pictures_a_second", "camera_to_score_ms", "frames_a_second", "missed",
)  # fmt: skip
KERNEL_COLUMNS = (
    "teacher", "measure", "batch", "error", "kernel_us", "floor_us", "empty_us", "eager_us", "compiled_us",
    "missed",
)  # fmt: skip
TEACHERS = {EfficientNetLite0.name: (1, 32, 128), WideResNet50.name: (1, 32)}  # batches


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="little, and no result")
    arguments = parser.parse_args()
    console = Console()
    found: dict[str, list[Row]] = {}
    if missing := what_is_missing():
        console.print(f"[red]the kernels cannot run here[/]: {missing}", highlight=False)
    else:
        found |= check_kernels(arguments.quick, console)
    if engines := check_engines(arguments.quick, console):
        found["engines"] = engines
    rows = [row for of_part in found.values() for row in of_part]
    if all("fault" in row for row in rows):
        console.print("Nothing was measured, nothing written.")
    elif not arguments.quick:
        save_result("gpu_check", {"gpu": {} if missing else gpu_facts(), **found})
    sys.exit(1 if missing or any(row["missed"] for row in rows) else 0)


def what_is_missing() -> str | None:
    """Why the kernel cannot be measured here, in one sentence."""
    if not torch.backends.cuda.is_built():
        return f"PyTorch {torch.__version__} is built without CUDA."
    return None if torch.cuda.is_available() else "PyTorch sees no GPU."


def check_kernels(
    quick: bool, console: Console, device: str = "cuda", teachers: Mapping[str, Sequence[int]] = TEACHERS,
    **changes: Any,
) -> dict[str, list[Row]]:  # fmt: skip
    """Rows of figures of each part; prints their tables. What cannot run has a row that says why.

    On the device "cpu" it is a rehearsal on the host builds. `changes` are the detector's.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = {"ceilings": [attempted({"device": device}, lambda: {**ceilings(device), "missed": []})]}
    show(
        "bytes copied, FP16 operations a second",
        ("device", "bytes", "operations"),
        found["ceilings"],
        console,
    )
    found["kernel"] = list(kernel_rows(quick, device, teachers, changes))
    show("affinity kernel, microseconds a batch", KERNEL_COLUMNS, found["kernel"], console)
    size, opened = DetectorConfig().input_size, partial(library, device, RESIZE, Resize)
    found["resize"] = [resize_row(opened, camera, size, device) for camera in gpu_engines.CAMERAS]
    names = ("camera", "grey_levels", "gpu_us", "cpu_us", "missed")
    show(f"resize to {size[1]}x{size[0]}", names, found["resize"], console)
    return found


@cache
def ceilings(device: str) -> dict[str, float]:
    """What this GPU can do: bytes and FP16 operations a second."""
    return {"bytes": copy_bandwidth(device), "operations": matrix_rate(device)}


def library(device: str, name: str = AFFINITY, *problem: Any) -> SharedLibrary:
    """A kernel, compiled for the GPU here or, on the CPU, its host build. Raises BackendFault."""
    return SharedLibrary(gpu_library(name) if device == "cuda" else host_library(name=name), name, *problem)


def kernel_rows(
    quick: bool, device: str, teachers: Mapping[str, Sequence[int]], changes: Mapping[str, Any]
) -> Iterator[Row]:
    """One row of figures per teacher and batch, one of the measure that is not the default, one of pycuda."""
    default, other = sorted(("both", "squared"), key=lambda measure: measure != DetectorConfig.measure)
    for teacher, batches in teachers.items():
        of_default = [(default, batch) for batch in (batches[:1] if quick else batches)]
        for measure, batch in [*of_default, (other, batches[0])]:
            about = {"teacher": teacher, "measure": measure, "batch": batch}
            config = {**changes, "measure": measure}
            yield attempted(about, lambda: figures(fitted_detector(teacher, **config), batch, device))  # noqa: B023
    if device == "cuda" and find_spec("pycuda"):
        yield attempted({"teacher": "through pycuda", "batch": 2}, check_pycuda)


@torch.inference_mode()
def figures(detector: Detector, batch: int, device: str) -> Row:
    """Largest error, times in microseconds, goals missed. Raises InspectError."""
    constants, launcher, top = kernel_constants(detector), library(device), ceilings(device)
    maps = random_maps(detector, batch, device)
    error = largest_error(KernelOnTorch(constants, batch, launcher, device), detector, maps)
    set_bytes = sum(m.nbytes for of in maps for m in of)
    count = min(MOST_SETS, -(-OUT_OF_CACHE_BYTES // set_bytes)) if batch >= FULL_BATCH else 1
    sets = [random_maps(detector, batch, device) for _ in range(count)]
    kernels = [partial(KernelOnTorch(constants, batch, launcher, device), *s) for s in sets]
    eager = AfterNetworks(copy.deepcopy(detector)).to(device)
    nothing = SharedLibrary(empty_library()) if device == "cuda" else launcher
    empty = partial(KernelOnTorch(constants, batch, nothing, device), *maps)
    floor = max(
        least_bytes(detector, maps, batch) / top["bytes"], operations(detector, batch) / top["operations"]
    )
    times = {
        "kernel": seconds(kernels, device=device), "floor": floor,
        "empty": seconds([empty] * len(kernels), device=device),
        "eager": seconds([partial(eager, *s) for s in sets], graph=False, device=device),
        "compiled": compiled_seconds(eager, sets, device),
    }  # fmt: skip
    micros = {f"{name}_us": None if s is None else round(s * 1e6, 2) for name, s in times.items()}
    return {"error": error, **micros, "sets": count, "missed": missed(batch, error, times)}


def missed(batch: int, error: float, times: dict[str, Any]) -> list[str]:
    """The goals that these figures do not reach; NaN reaches none."""
    goals = {
        "agreement": error <= TOLERANCE,
        "five times eager": times["eager"] >= LEAST_GAIN * times["kernel"],
        "share of the floor": batch < FULL_BATCH or times["floor"] >= LEAST_SHARE * times["kernel"],
        "near an empty launch": batch > 1 or times["kernel"] <= times["empty"] + MOST_OVER_EMPTY_S,
    }
    return [name for name, reached in goals.items() if not reached]


def compiled_seconds(module: AfterNetworks, sets: list[Maps], device: str) -> float | None:
    """torch.compile's time, or None where it does not work here. A rehearsal compiles nothing."""
    try:
        fast = torch.compile(module, backend="inductor" if device == "cuda" else "eager")
        return seconds([partial(fast, *s) for s in sets], graph=False, device=device)
    except Exception as error:  # many types: no C compiler, no Triton, a GPU too old
        print(f"torch.compile does not work here: {type(error).__name__}", file=sys.stderr)
        return None


def empty_library(arch: str = "") -> Path:
    """As many launches that do nothing. Raises BackendFault."""
    source = Path(__file__).with_name("empty_launches.cu")
    return compiled(gpu_command(source, "-shared", "-Xcompiler", "-fPIC", arch=arch), "so")


def check_pycuda() -> Row:
    """The second way to launch says the same. Raises InspectError."""
    import pycuda.autoprimaryctx  # noqa: F401  (makes PyTorch's context the current one)

    detector = fitted_detector(EfficientNetLite0.name)
    with torch.inference_mode():
        kernel = KernelOnTorch(kernel_constants(detector), 2, open_launcher())
        error = largest_error(kernel, detector, random_maps(detector, 2))
    return {"error": error, "missed": [] if error <= TOLERANCE else ["agreement"]}


def check_engines(quick: bool, console: Console) -> list[Row]:
    """Plan against ONNX, latency by precision, graph against none, end to end; nothing where it cannot be."""
    if missing := gpu_engines.what_is_missing():
        console.print(f"The engines cannot be measured here: {escape(missing)}", highlight=False)
        return []
    precisions = ("fp16",) if quick else gpu_engines.PRECISIONS
    rows = list(gpu_engines.engine_rows(precisions, console.print))
    show("plans of the demo engine", ENGINE_COLUMNS, rows, console)
    return rows


def show(title: str, names: Sequence[str], rows: Sequence[Row], console: Console) -> None:
    """A table of what the rows have, and of faults."""
    table = Table(*(name.replace("_", " ") for name in names), title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
        if "fault" in row:
            console.print(f"{row[names[0]]}: {escape(row['fault'])}", highlight=False)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):  # quantiles
        return f"{value['median']:.2f}, p99 {value['p99']:.2f}"
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
