"""Results that say under what conditions they were measured, and where they go.

A bench with `--work DIR` and `--save` writes to DIR; only `--save` replaces what is published in
benchmarks/results, and that never goes with `--table`, which runs nothing and writes nothing: the recorded
command makes the figures.
"""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("edge-inspect", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "torch", "pymodbus")


def add_save(parser: argparse.ArgumentParser, table: bool = True) -> None:
    """`--save` and, where the bench has it, `--table`: never both."""
    one_of = parser.add_mutually_exclusive_group()
    one_of.add_argument("--save", action="store_true", help=f"replace what is published in {RESULTS.name}/")
    if table:
        one_of.add_argument("--table", action="store_true", help="run and write nothing, show what is there")


def target_of(arguments: argparse.Namespace) -> Path | None:
    """The folder that this run writes to; None where it only shows."""
    if getattr(arguments, "table", False):
        return None
    return RESULTS if arguments.save else Path(arguments.work)


def save_result(name: str, figures: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `NAME.json`: date, command, hardware, versions, figures. Trials go to a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_short, sys.argv[1:])]),
        "hardware": hardware(),
        "versions": versions(),
        **figures,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def hardware() -> dict[str, Any]:
    """CPU model and usable cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": platform.system()}


def versions() -> dict[str, str]:
    """Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _short(argument: str) -> str:
    """Paths by their last part only, MODEL=SET by both: where a folder lay on a machine tells nobody."""
    return "=".join(Path(part).name if "/" in part else part for part in argument.split("="))


def quantiles_ms(seconds: list[float]) -> dict[str, float]:
    """Median, p99 and largest of a list of durations, in milliseconds."""
    median, p99, largest = np.quantile(seconds, [0.5, 0.99, 1.0]) * 1e3
    return {"median": round(float(median), 3), "p99": round(float(p99), 3), "max": round(float(largest), 3)}
