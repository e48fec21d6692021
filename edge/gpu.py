"""What this machine has to run a TensorRT plan with: its GPU and its TensorRT."""

import ctypes
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.recipe import Artefact
from edge.remake import as_typed, model_of, plan_words

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, cuda.h
RUNTIMES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}  # as typed -> as imported


def own_sm() -> int | None:
    """Compute capability of this machine's first GPU (87 is SM 8.7), None without GPU or driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    codes = (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device),
    )
    if any(codes):  # each is 0 when it succeeded
        return None
    return 10 * major.value + minor.value


def describe_mismatch(artefact: Artefact) -> str:
    """Both sides in one clause: what the plan is for, and what is here; "" where they fit each other."""
    sm, libraries = own_sm(), installed()
    if sm == artefact.sm and artefact.builder in libraries:
        return ""
    here = "no NVIDIA GPU" if sm is None else f"SM {sm}"
    library = ", ".join(libraries) or "no TensorRT"
    return f"the plan is for SM {artefact.sm} and {artefact.builder}; here: {here}, {library}"


def rebuild_hint(plan: Path, artefact: Artefact, made_with: Mapping[str, str]) -> str:
    """The command that makes a plan which runs: here, where there is a GPU, else where the plan is for."""
    model, sm = model_of(plan, made_with), own_sm()
    where = "Build it for this one" if sm else "On the machine with the GPU"
    runtime = "" if sm else artefact.builder.partition(" ")[0]  # here it is the one that is installed
    command = as_typed(plan_words(plan, sm or artefact.sm, runtime, made_with))
    bring = "" if model.is_file() else f" (bring {model.name}, its recipe and calibration.npz there)"
    return f"{where}: {command}{bring}; {model.name} itself runs without a GPU."


def load_runtime(runtime: str) -> tuple[Any, str]:
    """One of RUNTIMES -> (the imported library, its name and version as a recipe keeps it).

    The name is the library's own word: JetPack's has none that pip knows. Raises ImportError or OSError
    where it is not here or its libraries do not fit this machine.
    """
    library = importlib.import_module(RUNTIMES[runtime])
    return library, f"{runtime} {library.__version__}"


def installed() -> list[str]:
    """Every TensorRT that can be loaded here: ["tensorrt-rtx 1.7.1.116"]."""
    found = []
    for runtime in RUNTIMES:
        try:
            found.append(load_runtime(runtime)[1])
        except (ImportError, OSError):
            continue
    return found
