"""What this machine has to run a TensorRT plan with: its GPU and its TensorRT."""

import ctypes
from importlib.metadata import PackageNotFoundError, version

from edge.recipe import Artefact

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, cuda.h
LIBRARIES = ("tensorrt", "tensorrt-rtx")  # as pip knows them, and as a recipe's `builder` begins


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
    sm, libraries = own_sm(), _installed()
    if sm == artefact.sm and artefact.builder in libraries:
        return ""
    here = "no NVIDIA GPU" if sm is None else f"SM {sm}"
    library = ", ".join(libraries) or "no TensorRT"
    return f"the plan is for SM {artefact.sm} and {artefact.builder}; here: {here}, {library}"


def _installed() -> list[str]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
