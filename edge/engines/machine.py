"""What this machine judges with: its processor and its libraries. Times that were measured hold for these."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("onnxruntime", "openvino")
CPU_INFO = Path("/proc/cpuinfo")
# x86 has the first three, ARM "CPU part", a Raspberry Pi "Model"; hypervisors say no more than "AMD EPYC".
CPU_LINES = ("model name", "cpu family", "model", "CPU part", "Model")

Machine = dict[str, Any]


def this_machine() -> Machine:
    """Everything that decides which library is the faster one here; as JSON has it."""
    cores = len(os.sched_getaffinity(0))  # that this process may use, not that are there
    return {"cpu": cpu_name(), "cores": cores, "libraries": {name: _version(name) for name in LIBRARIES}}


def cpu_name(info: Path = CPU_INFO) -> str:
    """The processor in words; what Python knows of it where the system has no such file."""
    try:
        lines = info.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    pairs = [line.partition(":") for line in lines]
    found = dict.fromkeys(f"{k.strip()} {v.strip()}" for k, _, v in pairs if k.strip() in CPU_LINES)
    return ", ".join(found) or platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
