"""Does the station's memory stay flat?

    python benchmarks/memory.py [ENGINE] [--frames 20000]

Runs the real `edge-inspect run` on a folder of pictures in a loop, with a PLC on loopback and heat maps
on disk, and reads the process's resident memory from the outside.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from record import save_result
from rich.console import Console

from edge.cameras.parts import DEFECTS, render_part
from edge.demo.show import ENGINE
from edge.outputs.plc_sim import SimulatedPlc

SAMPLE_EVERY = 200  # frames
WARM_UP_SHARE = 0.1


def resident_mib(pid: int) -> float:
    """VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path, nargs="?", default=ENGINE, help="default: the demo engine")
    parser.add_argument("--frames", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, closing(SimulatedPlc()) as plc:
        line = Path(scratch) / "line"
        line.mkdir()
        for i in range(40):  # one part in ten is stopped, so that heat maps are written too
            defect = DEFECTS[i // 10] if i % 10 == 0 else None
            cv2.imwrite(str(line / f"{i:03d}.bmp"), render_part(5, i, defect))
        command = [
            sys.executable, "-c", "from edge.cli import main; main()", "run", "--camera", f"{line}?loop=1",
            "--engine", str(arguments.engine), "--plc", plc.start(), "--save", f"{scratch}/heat",
            "--count", str(arguments.frames), "--json",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        samples, summary = [], {}
        for number, text in enumerate(process.stdout):
            if '"summary"' in text:
                summary = json.loads(text)["summary"]
            elif number % SAMPLE_EVERY == 0:
                samples.append((number, resident_mib(process.pid)))
        process.wait()
    settled = np.array([s for s in samples if s[0] >= WARM_UP_SHARE * arguments.frames])
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0] * 1000)
    figures = {
        "frames": summary["parts"], "exit_code": process.returncode,
        "resident_mib_after_warm_up": round(float(settled[0, 1]), 2),
        "resident_mib_at_end": round(float(settled[-1, 1]), 2),
        "spread_mib": round(float(np.ptp(settled[:, 1])), 2), "slope_mib_per_1000_frames": round(slope, 4),
        "total_ms": summary["total_ms"], "samples": [(n, round(m, 2)) for n, m in samples],
    }  # fmt: skip
    save_result("memory", figures)
    shown = {name: value for name, value in figures.items() if name != "samples"}
    Console(stderr=True).print(shown)


if __name__ == "__main__":
    main()
