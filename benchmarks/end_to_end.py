"""What does the station cost on top of its engine?

    python benchmarks/end_to_end.py [ENGINE] [--frames 2000]

Frame in, verdict out, without waiting for the camera: hand-out, age and health checks, resize, worker thread,
decision, outbox with a PLC on loopback; against the bare engine on a picture that is already resized. Both in
turn on every frame, so that a machine whose speed drifts does not favour either.
"""

import argparse
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2
from record import quantiles_ms, save_result
from rich.console import Console
from rich.table import Table

from edge.backends import open_backend
from edge.cameras.parts import render_part
from edge.cameras.scripted import ScriptedCamera
from edge.capture import Capture, Policy
from edge.demo.show import ENGINE
from edge.frame import Shot
from edge.outbox import Outbox
from edge.outputs import output_opener
from edge.outputs.plc_sim import SimulatedPlc
from edge.preprocess import preprocess
from edge.recipe import load_pair
from edge.station import Station
from edge.worker import InferenceWorker

SIZES = ((256, 256), (640, 480), (1280, 1024))  # width, height
WARM_UP = 50
LINE_RATE_S = 0.005  # a pause between two parts, as a line has; without it nothing but the engine would run


def measure(engine_path: Path, size: tuple[int, int], frames: int, backend_name: str) -> dict[str, Any]:
    """Times of `frames` frames of this size, milliseconds."""
    engine, recipe, artefact = load_pair(engine_path)
    pictures = [cv2.resize(render_part(3, i), size, interpolation=cv2.INTER_CUBIC) for i in range(16)]
    bare_backend = open_backend(engine, recipe, backend_name)
    ready = [preprocess(picture, recipe.input_size) for picture in pictures]
    bare, whole = [], []
    camera = ScriptedCamera(live=False)
    with ExitStack() as stack:
        plc = stack.enter_context(closing(SimulatedPlc()))
        uri = plc.start()
        worker = stack.enter_context(closing(InferenceWorker(bare_backend, recipe, artefact.sha256)))
        capture = stack.enter_context(Capture(lambda: camera, "benchmark", Policy.EVERY))
        station = Station(capture, worker, recipe)
        station.outboxes = [stack.enter_context(closing(Outbox(output_opener(uri))))]
        for i in range(frames + WARM_UP):
            camera.put(Shot(pictures[i % 16].copy()))
            camera.join()  # the picture is in the queue: what follows does not wait for it
            time.sleep(LINE_RATE_S)
            order = (bare_turn, station_turn) if i % 2 else (station_turn, bare_turn)
            for turn in order:
                took = turn(bare_backend, ready[i % 16], station)
                if i >= WARM_UP:
                    (bare if turn is bare_turn else whole).append(took)
        assert not station.counters.reasons.keys() - {"WITHIN_LIMITS", "ANOMALY", "BORDERLINE"}
    result = {"engine_alone_ms": quantiles_ms(bare), "frame_to_verdict_ms": quantiles_ms(whole)}
    pairs = result["frame_to_verdict_ms"], result["engine_alone_ms"]
    return result | {f"ratio_{q}": round(pairs[0][q] / pairs[1][q], 4) for q in ("median", "p99")}


def bare_turn(backend: Any, picture: Any, station: Station) -> float:
    """Seconds of the engine alone."""
    begun = time.perf_counter()
    backend.infer(picture)
    return time.perf_counter() - begun


def station_turn(backend: Any, picture: Any, station: Station) -> float:
    """Seconds of one whole turn of the station."""
    begun = time.perf_counter()
    station.run(count=station.counters.total + 1)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path, nargs="?", default=ENGINE, help="default: the demo engine")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--backend", default="auto")
    arguments = parser.parse_args()
    table = Table("camera picture", "engine alone", "frame to verdict", "ratio of medians", "ratio of p99")
    results = {}
    for size in SIZES:
        r = measure(arguments.engine, size, arguments.frames, arguments.backend)
        results["x".join(map(str, size))] = r
        cells = [
            f"{r[k]['median']:.2f} / {r[k]['p99']:.2f} ms" for k in ("engine_alone_ms", "frame_to_verdict_ms")
        ]
        table.add_row(f"{size[0]}x{size[1]}", *cells, f"{r['ratio_median']:.3f}", f"{r['ratio_p99']:.3f}")
    save_result("end_to_end", {"frames": arguments.frames, "backend": arguments.backend, "sizes": results})
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
