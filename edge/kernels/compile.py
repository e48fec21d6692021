"""What compiles the kernel: nvcc for the GPU, any C++17 compiler for the CPU. Kept until a source changes."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from edge.errors import BackendFault

SOURCES = Path(__file__).parent
GPU, HOST = "affinity.cu", "affinity_host.cpp"
NVCC = ("nvcc", "-std=c++17", "-O3")
GXX = ("g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-shared", "-fPIC")


def host_library(*flags: str, sources: Path = SOURCES) -> Path:
    """The kernel on the CPU, a shared library, for tests. Raises BackendFault without g++.

    Flags are -DLAST_FIRST (threads and blocks in the opposite order), -DREAL_THREADS, or the compiler's own.
    """
    return compiled((*GXX, *flags, str(sources / HOST)), "so")


def gpu_library(arch: str = "native") -> Path:
    """The kernel and its launches, a shared library for `arch` (such as sm_87). Raises BackendFault."""
    return compiled((*NVCC, f"-arch={arch}", "-shared", "-Xcompiler", "-fPIC", str(SOURCES / GPU)), "so")


def cubin(arch: str) -> Path:
    """The kernel alone, for those who load it themselves. Raises BackendFault."""
    return compiled((*NVCC, f"-arch={arch}", "-cubin", str(SOURCES / GPU)), "cubin")


def compiled(command: tuple[str, ...], suffix: str) -> Path:
    """Run the compiler unless the same command has made the same sources before. Raises BackendFault."""
    folder = _cache()
    target = folder / f"affinity-{_digest(command)}.{suffix}"
    if target.exists():
        return target
    if shutil.which(command[0]) is None:
        hint = {"nvcc": "Install the CUDA toolkit.", "g++": "apt-get install g++"}[command[0]]
        raise BackendFault(f"{command[0]} is not installed", "compiling the affinity kernel", hint)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed when whole
        made = Path(scratch) / target.name
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            hint = "Is the toolkit new enough for this GPU (CUDA 12 or later)?"
            raise BackendFault(f"{command[0]} failed: {done.stderr.strip()[-400:]}", command[-1], hint)
        made.replace(target)
    return target


def _digest(command: tuple[str, ...]) -> str:
    digest = hashlib.sha256(" ".join(command).encode())
    for folder in sorted({SOURCES, Path(command[-1]).parent}):
        for source in sorted(folder.glob("*.c*")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(home) if home else Path.home() / ".cache") / "edge-inspect"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
