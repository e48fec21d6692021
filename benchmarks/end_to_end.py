"""What does the station cost on top of its engine?

    python benchmarks/end_to_end.py [ENGINE] [--frames 2000] [--sizes 640x480]

Frame in, verdict out, without waiting for the camera: hand-out, age and health checks, resize, worker thread,
decision, outbox with a PLC on loopback; against the bare engine on a picture that is already resized. In turn
on every frame, so that a machine whose speed drifts does not favour either, and each from rest: the PLC has
the verdict before the next turn. The engine takes two turns of each three; the ratio of its own two tells how
much of the others is noise.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
from record import quantiles_ms, save_result
from rich.console import Console
from rich.table import Table

from edge.backends import Backend, open_backend
from edge.cameras.parts import render_part
from edge.cameras.scripted import ScriptedCamera
from edge.demo.show import ENGINE
from edge.frame import Pixels, Shot
from edge.outputs import output_opener
from edge.outputs.plc_sim import SimulatedPlc
from edge.picture.preprocess import preprocess
from edge.recipe import load_pair
from edge.station.capture import Capture, Policy
from edge.station.loop import Station
from edge.station.outbox import Outbox
from edge.station.worker import InferenceWorker

SIZES = "256x256,640x480,1280x1024"  # width x height
WARM_UP = 50
REST_S = 0.005  # before every turn, as between two parts of a line
SETTLE_S = 5.0  # the PLC is on loopback: longer means that it has gone

Turn = Callable[[Backend, Pixels, Station], float]


def measure(engine_path: Path, size: tuple[int, int], frames: int, backend_name: str) -> dict[str, Any]:
    """Times of `frames` frames of this size, milliseconds."""
    engine, recipe, artefact = load_pair(engine_path)
    recipe = replace(recipe, training_set={})  # which may name one picture size
    pictures = [cv2.resize(render_part(3, i), size, interpolation=cv2.INTER_CUBIC) for i in range(16)]
    backend = open_backend(engine, recipe, backend_name)
    ready = [preprocess(picture, recipe.input_size, recipe.roi) for picture in pictures]
    turns: dict[str, Turn] = {"engine": bare_turn, "station": station_turn, "engine again": bare_turn}
    times: dict[str, list[float]] = {name: [] for name in turns}
    camera = ScriptedCamera(live=False)
    with ExitStack() as stack:
        plc = stack.enter_context(closing(SimulatedPlc()))
        outbox_opener = output_opener(plc.start())
        worker = stack.enter_context(closing(InferenceWorker(backend, recipe, artefact.sha256)))
        capture = stack.enter_context(Capture(lambda: camera, "benchmark", Policy.EVERY))
        station = Station(capture, worker, recipe)
        station.outboxes = [stack.enter_context(closing(Outbox(outbox_opener)))]
        for i in range(frames + WARM_UP):
            camera.put(Shot(pictures[i % 16].copy()))
            camera.join()  # the picture is in the queue: what follows does not wait for it
            for name in sorted(turns, key=lambda name: (list(turns).index(name) + i) % len(turns)):
                time.sleep(REST_S)
                times[name].append(turns[name](backend, ready[i % 16], station))
                if turns[name] is station_turn and not plc.wait_for(station.counters.total, SETTLE_S):
                    raise SystemExit("the simulated PLC did not get every verdict; run it again")
        faults = station.counters.reasons.keys() - {"WITHIN_LIMITS", "ANOMALY", "BORDERLINE"}
        if faults:
            raise SystemExit(f"the engine did not judge every picture: {', '.join(sorted(faults))}")
    return figures_of({name: values[WARM_UP:] for name, values in times.items()})


def figures_of(times: dict[str, list[float]]) -> dict[str, Any]:
    """Quantiles; station over engine and, as noise, engine over engine."""
    alone, whole, again = (quantiles_ms(times[name]) for name in ("engine", "station", "engine again"))
    result: dict[str, Any] = {"engine_alone_ms": alone, "frame_to_verdict_ms": whole}
    for q in ("median", "p99"):
        result[f"ratio_{q}"] = round(whole[q] / alone[q], 4)
        result[f"noise_{q}"] = round(again[q] / alone[q], 4)
    return result


def bare_turn(backend: Backend, picture: Pixels, station: Station) -> float:
    """Seconds of the engine alone."""
    begun = time.perf_counter()
    backend.infer(picture)
    return time.perf_counter() - begun


def station_turn(backend: Backend, picture: Pixels, station: Station) -> float:
    """Seconds of one whole turn of the station."""
    begun = time.perf_counter()
    station.run(count=station.counters.total + 1)
    return time.perf_counter() - begun


def arguments_of(description: str | None, sizes: str) -> argparse.Namespace:
    """The command line; the bench of the engine's own process takes the same."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path, nargs="?", default=ENGINE, help="default: the demo engine")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--sizes", default=sizes, help=f"camera pictures, WIDTHxHEIGHT; default: {sizes}")
    parser.add_argument("--backend", default="auto")
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of(__doc__, SIZES)
    table = Table(
        "camera picture", "engine alone", "frame to verdict", "ratio of medians", "ratio of p99", "noise"
    )
    results = {}
    for text in arguments.sizes.split(","):
        size = (int(text.split("x")[0]), int(text.split("x")[1]))
        r = measure(arguments.engine, size, arguments.frames, arguments.backend)
        results[text] = r
        cells = [
            f"{r[k]['median']:.2f} / {r[k]['p99']:.2f} ms" for k in ("engine_alone_ms", "frame_to_verdict_ms")
        ]
        noise = f"{r['noise_median']:.3f} / {r['noise_p99']:.3f}"
        table.add_row(text, *cells, f"{r['ratio_median']:.3f}", f"{r['ratio_p99']:.3f}", noise)
    save_result("end_to_end", {"frames": arguments.frames, "backend": arguments.backend, "sizes": results})
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
