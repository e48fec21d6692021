"""The station of the soak, a process of its own: soak_station.py PARENT STAGE ENGINE URI...

All of it is what `edge-inspect run` runs, but for the camera, which looks at the stage, and the wall clock,
which the soak may step.
"""

import signal
import sys
import time
from pathlib import Path

from soak_stage import Stage, StageCamera

from edge.lifetime import end_with
from edge.station.compose import station_of
from edge.station.running import RunOptions
from edge.station.signals import stop_on_signals


def step_the_clock(stage: Stage) -> None:
    """From now on the wall clock is wrong by what the stage says; the monotonic one cannot be stepped."""
    true_s, true_ns = time.time, time.time_ns
    time.time = lambda: true_s() + stage.clock_step_s
    time.time_ns = lambda: true_ns() + int(stage.clock_step_s * 1e9)


def main() -> None:
    end_with(int(sys.argv[1]))  # a soak that is killed leaves no line running
    stage, engine, uris = Stage(Path(sys.argv[2])), Path(sys.argv[3]), sys.argv[4:]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full disk is an error, not the end
    step_the_clock(stage)
    options = RunOptions("stage:", engine, outputs=uris, backend="onnxruntime")
    with (
        station_of(options, source=lambda: StageCamera(stage)) as running,
        stop_on_signals(running.station.stop),
    ):
        running.station.run()


if __name__ == "__main__":
    main()
