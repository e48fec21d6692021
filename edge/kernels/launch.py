"""Two ways to start a kernel, behind one method; the caller owns the memory and the stream.

SharedLibrary needs nothing but the file that nvcc made (or, on the CPU, g++). PycudaModule loads a cubin into
pycuda's context. Importing this file needs neither.
"""

import ctypes
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.errors import BackendFault
from edge.kernels.compile import AFFINITY, cubin, gpu_library, host_library
from edge.kernels.constants import PARTS, SCALES, Constants, Floats
from edge.kernels.cuda import Kernel, pycuda_driver
from edge.kernels.problem import Layout, Maps, Problem

KERNELS = ("affinity_context", "affinity_places", "affinity_map")  # in the order of their launches

AGAIN = "Delete it; it is made again."

Halves = npt.NDArray[np.float16]


class Launcher(Protocol):
    """What both ways have in common."""

    def run(self, problem: Problem, stream: Any = None) -> None:
        """Start the three launches on a stream, without waiting; None is the default stream.

        A stream is a pycuda.driver.Stream or, for a SharedLibrary, a handle too. Raises BackendFault.
        """


def open_launcher() -> Launcher:
    """For the GPU of this machine: through pycuda where it is installed, else through nvcc's own launches.

    Raises BackendFault where there is no nvcc, or no GPU that it can compile for.
    """
    return PycudaModule() if find_spec("pycuda") else SharedLibrary(gpu_library())


class SharedLibrary:
    """A library with a kernel's `NAME_run`: the GPU's (primary context, as PyTorch's) or the host's."""

    def __init__(self, path: Path, name: str = AFFINITY, problem: type[ctypes.Structure] = Problem):
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise BackendFault(f"cannot be loaded: {error}", str(path), AGAIN) from error
        if library[f"{name}_problem_bytes"]() != ctypes.sizeof(problem):
            raise BackendFault("made from other sources", str(path), AGAIN)
        self._run, self._error = library[f"{name}_run"], library[f"{name}_error"]
        self._run.argtypes, self._error.restype = (ctypes.c_void_p, ctypes.c_void_p), ctypes.c_char_p

    def run(self, problem: ctypes.Structure, stream: Any = None) -> None:
        """See Launcher. The host's has finished when this returns."""
        status = self._run(ctypes.addressof(problem), getattr(stream, "handle", stream))
        if status:
            raise _not_started(self._error(status).decode())


class PycudaModule:
    """The affinity kernel's cubin in pycuda's current context."""

    def __init__(self) -> None:
        cuda = pycuda_driver()
        self._error = cuda.Error
        try:
            major, minor = cuda.Context.get_device().compute_capability()
            module = cuda.module_from_file(str(cubin(arch=f"sm_{major}{minor}")))
            self._kernels = [Kernel(module, name, Problem) for name in KERNELS]
        except cuda.Error as error:
            hint = "Is there a GPU, and a pycuda context (import pycuda.autoprimaryctx)?"
            raise BackendFault(f"pycuda cannot load the kernel: {error}", "GPU", hint) from error

    def run(self, problem: Problem, stream: Any = None) -> None:
        """See Launcher."""
        try:
            for kernel, shape in zip(self._kernels, problem.launches, strict=True):
                grid = (shape.blocks, problem.pictures)
                kernel.launch(grid, shape.threads, shape.shared_bytes, problem, stream)
        except self._error as error:
            raise _not_started(str(error)) from error


def _not_started(why: str) -> BackendFault:
    return BackendFault(f"the kernel did not start: {why}", "GPU", "Restart the station.")


def run_on_host(
    constants: Constants, teacher: Sequence[Halves], globl: Sequence[Halves],
    local: Sequence[Halves | None], library: Path | None = None,
) -> tuple[Floats, Floats]:  # fmt: skip
    """The kernel's arithmetic on the CPU, slowly: for tests. `library`: another build of `host_library`.

    Per scale float16 (pictures, channels, height, width), `local` None where it has no target -> anomaly map
    float32 (pictures, H, W), scores float32 (pictures, 2): of map and local branch. Raises BackendFault.
    """
    pictures = len(teacher[0])
    networks = [[_flat(m) for m in maps] for maps in (teacher, globl, local)]
    check_maps(constants, pictures, networks)
    layout = Layout(constants, pictures)
    scratch = np.full(layout.scratch_bytes, 255, np.uint8)  # NaN wherever something would be read unwritten
    anomaly_map = np.full((pictures, *constants.input_size), np.nan, np.float32)
    scores = np.full((pictures, PARTS), np.nan, np.float32)
    maps = Maps(*([None if m is None else m.ctypes.data for m in of] for of in networks))
    memory = (a.ctypes.data for a in (layout.tables, scratch, anomaly_map, scores))
    SharedLibrary(library or host_library()).run(layout.problem(maps, *memory))
    return anomaly_map, scores


def _flat(maps: Halves | None) -> Halves | None:
    return None if maps is None else np.ascontiguousarray(maps, np.float16)


def check_maps(constants: Constants, pictures: int, networks: Sequence[Sequence[Any]]) -> None:
    """Whether teacher's, global and local student's maps are what the constants say. Raises BackendFault."""
    everywhere = (True,) * SCALES
    for maps, targets in zip(networks, (everywhere, everywhere, constants.local), strict=True):
        for k, target in enumerate(targets):
            wanted = (pictures, constants.channels[k], *constants.sizes[k]) if target else None
            found = None if maps[k] is None else tuple(maps[k].shape)
            if found != wanted:
                hint = "Use engine and kernel constants of the same model."
                raise BackendFault(f"a map of {found} where {wanted} belongs", f"scale {k}", hint)
