"""What compiles the kernels: nvcc for the GPU, any C++17 compiler for the CPU.

What was made is kept until a source, the compiler or the GPU changes.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from edge.errors import BackendFault
from edge.gpu import own_sm
from edge.paths import cache_folder

SOURCES = Path(__file__).parent
AFFINITY, RESIZE = "affinity", "resize"  # NAME.cu, and NAME_host.cpp for the CPU
TOOLKIT = Path("/usr/local/cuda")  # where NVIDIA's packages put it; neither they nor JetPack touch PATH
INSTALL = {"nvcc": "Install the CUDA toolkit, or name its folder in CUDA_HOME.", "g++": "apt-get install g++"}
NVCC = ("nvcc", "-std=c++17", "-O3")
GXX = ("g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-shared", "-fPIC")


def host_library(*flags: str, name: str = AFFINITY, sources: Path = SOURCES) -> Path:
    """A kernel on the CPU, a shared library, for tests. Raises BackendFault without g++.

    Flags are -DLAST_FIRST (threads and blocks in the opposite order), -DREAL_THREADS, or the compiler's own.
    """
    return compiled((*GXX, *flags, str(sources / f"{name}_host.cpp")), "so")


def gpu_library(name: str = AFFINITY, arch: str = "") -> Path:
    """A kernel and its launches, a shared library for `arch` (such as sm_87), or for the GPU here.

    Raises BackendFault.
    """
    return compiled(gpu_command(SOURCES / f"{name}.cu", "-shared", "-Xcompiler", "-fPIC", arch=arch), "so")


def cubin(name: str = AFFINITY, arch: str = "") -> Path:
    """A kernel alone, for those who load it themselves. Raises BackendFault."""
    return compiled(gpu_command(SOURCES / f"{name}.cu", "-cubin", arch=arch), "cubin")


def gpu_command(source: Path, *flags: str, arch: str = "") -> tuple[str, ...]:
    """How nvcc is called. The GPU is named: with -arch=native what was made for one would serve another."""
    if not arch:
        sm = own_sm()
        if sm is None:
            hint = "Install the NVIDIA driver, or run the .onnx engine, which needs no GPU."
            raise BackendFault("there is no NVIDIA GPU or driver here to compile for", source.name, hint)
        arch = f"sm_{sm}"
    return (*NVCC, f"-arch={arch}", *flags, f"-I{SOURCES}", str(source))


def compiled(command: tuple[str, ...], suffix: str) -> Path:
    """Run the compiler unless the same command has made the same sources before. Raises BackendFault."""
    source, compiler = Path(command[-1]), find_compiler(command[0])
    command = (compiler, *command[1:])
    target = cache_folder() / f"{source.stem}-{_digest(command, _version(compiler))}.{suffix}"
    if not target.exists():
        try:
            _compile(command, target)
        except OSError as error:
            hint = "Make the folder writable, or name another one in XDG_CACHE_HOME."
            raise BackendFault(f"cannot be kept: {error.strerror}", str(target.parent), hint) from error
    return target


def find_compiler(name: str, environ: Mapping[str, str] = os.environ, toolkit: Path = TOOLKIT) -> str:
    """Path of nvcc or g++: in PATH, nvcc in the toolkit's usual places too. Raises BackendFault."""
    homes = [environ.get("CUDA_HOME"), environ.get("CUDA_PATH"), str(toolkit)] if name == "nvcc" else []
    folders = [str(Path(home) / "bin") for home in homes if home]
    found = shutil.which(name, path=os.pathsep.join([environ.get("PATH", os.defpath), *folders]))
    if found is None:
        places = ", ".join(["PATH", *dict.fromkeys(folders)])
        raise BackendFault(f"{name} is not installed: it is not in {places}", "compiler", INSTALL[name])
    return found


def _compile(command: tuple[str, ...], target: Path) -> None:
    """Into `target`, which is there when it is whole. Raises BackendFault, OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            hint = "Is the toolkit new enough for this GPU (CUDA 12 or later)?"
            what = f"{Path(command[0]).name} failed: {done.stderr.strip()[-400:]}"
            raise BackendFault(what, command[-1], hint)
        made.replace(target)


def _digest(command: tuple[str, ...], version: bytes) -> str:
    digest = hashlib.sha256(" ".join(command).encode() + version)
    for folder in sorted({SOURCES, Path(command[-1]).parent}):
        for source in sorted(folder.glob("*.c*")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _version(compiler: str) -> bytes:
    """What the compiler at this path says of itself; another version makes other code."""
    return subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
