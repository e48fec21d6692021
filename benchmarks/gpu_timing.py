"""Times and ceilings of one GPU, measured with PyTorch. Imported where there is none, it does nothing.

On the device "cpu" everything is small and done once: a rehearsal, whose figures mean nothing.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

Call = Callable[[], Any]

REPEATS = 30  # medians of these
WARM_UP = 5
LEAST_CALLS = 20  # between two looks at the clock, which is not much finer than one call
COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 10}  # far beyond every cache
PRODUCT_SIDE = {"cuda": 4096, "cpu": 16}  # of the matrix product: fills the chip


def seconds(calls: Sequence[Call], graph: bool = True, device: str = "cuda") -> float:
    """Median time of one call. Several calls, each with memory of its own, keep the inputs out of the cache.

    With `graph` they are captured and replayed together, which leaves the host's part out.
    """
    if device == "cpu":
        return _by_the_clock(_one_by_one(calls)) / len(calls)
    for call in calls:  # also what a capture must not see: compiling, allocating
        call()
    torch.cuda.synchronize()
    calls = [*calls] * max(1, LEAST_CALLS // len(calls))
    run = _captured(calls) if graph else _one_by_one(calls)
    times = [_timed(run) for _ in range(WARM_UP + REPEATS)]
    return median(times[WARM_UP:]) / len(calls)


def copy_bandwidth(device: str = "cuda") -> float:
    """Bytes read and written a second by a copy inside the device's memory."""
    count = COPIED_BYTES[device]
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / seconds([lambda: target.copy_(source)], device=device)


def matrix_rate(device: str = "cuda") -> float:
    """Floating-point operations a second of an FP16 product with random values."""
    side = PRODUCT_SIDE[device]
    a, b = (torch.randn(side, side, device=device).half() for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / seconds([lambda: torch.matmul(a, b, out=out)], device=device)


def gpu_facts() -> dict[str, Any]:
    """What was measured on."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name, "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count, "memory_mib": properties.total_memory >> 20,
        "cuda_of_torch": torch.version.cuda,
    }  # fmt: skip


def _captured(calls: Sequence[Call]) -> Call:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph.replay


def _one_by_one(calls: Sequence[Call]) -> Call:
    def run() -> None:
        for call in calls:
            call()

    return run


def _timed(run: Call) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _by_the_clock(run: Call) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
