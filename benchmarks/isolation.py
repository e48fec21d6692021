"""What does it cost a picture that the engine lives in a process of its own?

    python benchmarks/isolation.py [ENGINE] [--frames 2000] [--sizes 1280x1024]

From the camera's picture to map and score, as the station's inference thread does it: view, then the engine;
once here, once in its own process, in turn on every picture, each from rest. "here" takes two turns of each
three, and its difference to itself tells how much of the other one is noise. The way alone is measured too,
which a busy machine blurs less: what the answer took, without the engine's time as its process measured it.
An engine that resizes pictures itself (TensorRT) is sent the whole one; "whole" is what that copy adds.
"quiet" is the fastest tenth of each: what a machine that does nothing else would take all the time. On a busy
one run it as `chrt -f 1 python benchmarks/isolation.py`.
"""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from end_to_end import arguments_of
from record import quantiles_ms, save_result
from rich.console import Console
from rich.table import Table

from edge.backends import open_backend
from edge.cameras.parts import render_part
from edge.engines.isolation import IsolatedBackend
from edge.engines.slate import Slate, new_memory
from edge.picture.view import view_of
from edge.recipe import load_pair

SIZES = "256x256,1280x1024"  # width x height
WARM_UP = 50
QUIET = 0.1  # of the turns: those that nothing else on the machine got in the way of
REST_S = 0.005  # before every turn, as between two parts of a line


def measure(engine_path: Path, size: tuple[int, int], frames: int, backend_name: str) -> dict[str, Any]:
    """Milliseconds of `frames` pictures of this size (width, height), here and there."""
    engine, recipe, _ = load_pair(engine_path)
    pictures = [cv2.resize(render_part(3, i), size, interpolation=cv2.INTER_CUBIC) for i in range(16)]
    times: dict[str, list[float]] = {"here": [], "own process": [], "here again": []}
    times["way"] = []
    with (
        closing(open_backend(engine, recipe, backend_name)) as here,
        closing(IsolatedBackend(engine, recipe, backend_name)) as there,
    ):
        turn_of = {"here": here, "own process": there, "here again": here}
        view = view_of(recipe)
        looks = {name: view.shown if b.resizes else view.see for name, b in turn_of.items()}
        for i in range(frames + WARM_UP):
            for name in sorted(turn_of, key=lambda name: (list(turn_of).index(name) + i) % len(turn_of)):
                time.sleep(REST_S)
                begun = time.perf_counter()
                seen = looks[name](pictures[i % 16])
                asked = time.perf_counter()
                turn_of[name].infer(seen)
                done = time.perf_counter()
                times[name].append(done - begun)
                if name == "own process":
                    times["way"].append(done - asked - there.engine_ns / 1e9)
    figures = figures_of({name: values[WARM_UP:] for name, values in times.items()})
    return {**figures, "whole_ms": quantiles_ms(copies(pictures, frames)[WARM_UP:])}


def copies(pictures: list[Any], count: int) -> list[float]:
    """Seconds that it takes to lay a whole picture into shared memory."""
    memory, seconds = new_memory(), []
    slate = Slate(memory)
    for i in range(count + WARM_UP):
        begun = time.perf_counter()
        laid = slate.lay((1, *pictures[0].shape[:2]), (1, 1))
        np.copyto(laid.pictures[0], pictures[i % len(pictures)])
        seconds.append(time.perf_counter() - begun)
    os.close(memory)
    return seconds


def figures_of(times: dict[str, list[float]]) -> dict[str, Any]:
    """Quantiles; own process against here and, as noise, here against here."""
    here, there, again, way = (quantiles_ms(values) for values in times.values())
    pairs = np.array(times["own process"]) - np.array(times["here"])
    noise = np.array(times["here again"]) - np.array(times["here"])
    result: dict[str, Any] = {"here_ms": here, "own_process_ms": there, "way_alone_ms": way}
    for q in ("median", "p99"):
        result[f"added_ms_{q}"] = round(there[q] - here[q], 4)
        result[f"ratio_{q}"] = round(there[q] / here[q], 4)
        result[f"noise_ms_{q}"] = round(again[q] - here[q], 4)
    quiet = {name: round(float(np.quantile(values, QUIET)) * 1e3, 4) for name, values in times.items()}
    result["quiet_ms"] = quiet
    result["added_ms_quiet"] = round(quiet["own process"] - quiet["here"], 4)
    result["noise_ms_quiet"] = round(quiet["here again"] - quiet["here"], 4)
    result["added_ms_median_of_pairs"] = round(float(np.median(pairs)) * 1e3, 4)
    result["noise_ms_median_of_pairs"] = round(float(np.median(noise)) * 1e3, 4)
    return result


def main() -> None:
    arguments = arguments_of(__doc__, SIZES)
    table = Table(
        "ms, median / p99", "here", "own process", "added, quiet", "noise, quiet", "way alone", "whole"
    )
    results = {}
    load = os.getloadavg()[0]
    for text in arguments.sizes.split(","):
        width, height = (int(side) for side in text.split("x"))
        r = results[text] = measure(arguments.engine, (width, height), arguments.frames, arguments.backend)
        times = [f"{r[k]['median']:.2f} / {r[k]['p99']:.2f}" for k in ("here_ms", "own_process_ms")]
        quiet = [f"{r[f'{k}_ms_quiet']:.3f}" for k in ("added", "noise")]
        ways = [f"{r[k]['median']:.3f} / {r[k]['p99']:.3f}" for k in ("way_alone_ms", "whole_ms")]
        table.add_row(text, *times, *quiet, *ways)
    figures = {"frames": arguments.frames, "backend": arguments.backend, "load_before": round(load, 2)}
    figures["first_in_line"] = os.sched_getscheduler(0) != os.SCHED_OTHER  # chrt
    save_result("isolation", {**figures, "sizes": results})
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
