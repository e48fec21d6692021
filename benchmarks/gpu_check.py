"""Do the kernels and the engines keep what they promise on this GPU?

    python benchmarks/gpu_check.py [--quick]

Compiles the affinity kernel with nvcc for the GPU here, compares it with PyTorch's FP32 on the CPU, times it
against PyTorch eager, torch.compile and the floor; compares and times the resize against the CPU's; builds
the demo engine's plans in FP32, FP16 and INT8, compares them with the ONNX, times them with CUDA graphs and
without. Prints tables and writes results/gpu_check.json. The kernels need a GPU, nvcc and a PyTorch with
CUDA, the plans TensorRT and pycuda: what is missing is said, and the rest still runs. Exits with 1 where the
kernels cannot run or a goal is missed. With --quick: the smallest batches and the FP16 plan, no result.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gpu_engines
import torch
from affinity_cases import Maps, fitted_detector, largest_error, least_bytes, operations, random_maps
from affinity_torch import AfterNetworks, KernelOnTorch
from gpu_engines import resize_rows
from gpu_timing import copy_bandwidth, gpu_facts, matrix_rate, seconds
from record import save_result
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from build_engines.kernel import kernel_constants
from distillation.detector import Detector
from edge.errors import BackendFault
from edge.kernels.compile import RESIZE, compiled, gpu_command, gpu_library
from edge.kernels.launch import Launcher, SharedLibrary, open_launcher
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
TEACHERS = {"efficientnet-lite0": (1, 32, 128), "wide-resnet50": (1, 32)}  # batches


@dataclass(frozen=True)
class Ceilings:
    """What this GPU can do: bytes and FP16 operations a second."""

    bytes: float
    operations: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="little, and no result")
    arguments = parser.parse_args()
    console = Console()
    found: dict[str, Any] = {}
    if missing := what_is_missing():
        console.print(f"[red]the kernels cannot run here[/]: {missing}", highlight=False)
    else:
        try:
            found["kernel"] = measure(arguments.quick, console)
            found["resize"] = check_resize(console)
        except BackendFault as error:
            console.print(f"[red]error[/]: {escape(str(error))}", highlight=False)
            sys.exit(1)
    if engines := check_engines(arguments.quick, console):
        found["engines"] = engines
    if not found:
        console.print("Nothing was measured, nothing written.")
    elif not arguments.quick:
        save_result("gpu_check", {"gpu": {} if missing else gpu_facts(), **found})
    reached = all(not row["missed"] for rows in found.values() for row in rows)
    sys.exit(0 if reached and not missing else 1)


def what_is_missing() -> str | None:
    """Why the kernel cannot be measured here, in one sentence."""
    if not torch.backends.cuda.is_built():
        return f"PyTorch {torch.__version__} is built without CUDA."
    return None if torch.cuda.is_available() else "PyTorch sees no GPU."


def measure(quick: bool, console: Console) -> list[dict[str, Any]]:
    """One row of figures per teacher and batch; prints the table. Raises BackendFault."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    ceilings = Ceilings(copy_bandwidth(), matrix_rate())
    console.print(f"{gpu_facts()['name']}: copies {ceilings.bytes / 1e12:.2f} TB/s, "
                  f"multiplies {ceilings.operations / 1e12:.0f} TFLOP/s (FP16)")  # fmt: skip
    launcher = SharedLibrary(gpu_library())
    rows = []
    for teacher, batches in TEACHERS.items():
        detector = fitted_detector(teacher)
        for batch in batches[:1] if quick else batches:
            rows.append({"teacher": teacher, "batch": batch, **figures(detector, batch, launcher, ceilings)})
    if find_spec("pycuda"):
        rows.append(check_pycuda())
    show(rows, console)
    return rows


@torch.inference_mode()
def figures(detector: Detector, batch: int, launcher: Launcher, ceilings: Ceilings) -> dict[str, Any]:
    """Largest error, times in microseconds, goals missed."""
    maps = random_maps(detector, batch)
    constants = kernel_constants(detector)
    error = largest_error(KernelOnTorch(constants, batch, launcher), detector, maps)
    set_bytes = sum(m.nbytes for of in maps for m in of)
    count = min(MOST_SETS, -(-OUT_OF_CACHE_BYTES // set_bytes)) if batch >= FULL_BATCH else 1
    sets = [random_maps(detector, batch) for _ in range(count)]
    kernels = [partial(KernelOnTorch(constants, batch, launcher), *s) for s in sets]
    on_gpu = AfterNetworks(detector).cuda()
    floor = max(
        least_bytes(detector, maps, batch) / ceilings.bytes, operations(detector, batch) / ceilings.operations
    )
    empty = KernelOnTorch(constants, batch, SharedLibrary(empty_library()))
    times = {
        "kernel": seconds(kernels), "floor": floor, "empty": seconds([partial(empty, *maps)] * len(kernels)),
        "eager": seconds([partial(on_gpu, *s) for s in sets], graph=False),
        "compiled": compiled_seconds(on_gpu, sets),
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


def compiled_seconds(module: AfterNetworks, sets: list[Maps]) -> float | None:
    """torch.compile's time, or None where it does not work here."""
    try:
        fast = torch.compile(module)
        return seconds([partial(fast, *s) for s in sets], graph=False)
    except Exception as error:  # many types: no C compiler, no Triton, a GPU too old
        print(f"torch.compile does not work here: {type(error).__name__}", file=sys.stderr)
        return None


def empty_library() -> Path:
    """As many launches that do nothing."""
    source = Path(__file__).with_name("empty_launches.cu")
    return compiled(gpu_command(source, "-shared", "-Xcompiler", "-fPIC"), "so")


def check_pycuda() -> dict[str, Any]:
    """The second way to launch says the same."""
    import pycuda.autoprimaryctx  # noqa: F401  (makes PyTorch's context the current one)

    detector = fitted_detector("efficientnet-lite0")
    with torch.inference_mode():
        kernel = KernelOnTorch(kernel_constants(detector), 2, open_launcher())
        error = largest_error(kernel, detector, random_maps(detector, 2))
    return {"teacher": "through pycuda", "batch": 2, "error": error,
            "missed": [] if error <= TOLERANCE else ["agreement"]}  # fmt: skip


def check_resize(console: Console) -> list[dict[str, Any]]:
    """The preprocess kernel against the CPU's resize."""
    rows = resize_rows(SharedLibrary(gpu_library(RESIZE), RESIZE, Resize))
    show_plainly("resize to 256x256", ("camera", "grey_levels", "gpu_us", "cpu_us", "missed"), rows, console)
    return rows


def check_engines(quick: bool, console: Console) -> list[dict[str, Any]]:
    """Plan against ONNX, latency by precision, graph against none, end to end; nothing where it cannot be."""
    if missing := gpu_engines.what_is_missing():
        console.print(f"The engines cannot be measured here: {escape(missing)}", highlight=False)
        return []
    precisions = ("fp16",) if quick else gpu_engines.PRECISIONS
    rows = list(gpu_engines.engine_rows(precisions, console.print))
    show_plainly("plans of the demo engine", ENGINE_COLUMNS, rows, console)
    return rows


def show_plainly(title: str, names: Sequence[str], rows: list[dict[str, Any]], console: Console) -> None:
    """A table of what the rows have, and of faults."""
    table = Table(*(name.replace("_", " ") for name in names), title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
        if "fault" in row:
            console.print(f"{row['precision']}: {escape(row['fault'])}", highlight=False)
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):  # quantiles
        return f"{value['median']:.2f}, p99 {value['p99']:.2f}"
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """A short table; times in microseconds a batch."""
    table = Table(title="affinity kernel, microseconds a batch")
    names = ("teacher", "batch", "error", "kernel_us", "floor_us", "empty_us", "eager_us", "compiled_us")
    for name in (*names, "missed"):
        table.add_column(
            name.removesuffix("_us"), justify="left" if name in ("teacher", "missed") else "right"
        )
    for row in rows:
        cells = [row.get(name) for name in names]
        shown = [f"{c:.1e}" if name == "error" else str(c) for name, c in zip(names, cells, strict=True)]
        table.add_row(*shown, ", ".join(row["missed"]) or "nothing")
    console.print(table)


if __name__ == "__main__":
    main()
