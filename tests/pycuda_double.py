"""pycuda's driver module as far as `edge/kernels/cuda.py` calls it, without a GPU: it is for its errors.

Classes of errors and texts are as in pycuda's wrap_cudadrv.cpp: "cuMemAlloc failed: out of memory", and a
MemoryError that is one of Python's, too. Memory is the host's; nothing computes.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest


class Error(Exception):
    pass


class OutOfMemory(Error, MemoryError):
    pass


class LogicError(Error):
    pass


class Memory:
    """`owner.living` counts what was not freed."""

    def __init__(self, owner: "Driver", count: int) -> None:
        self.content, self._owner = np.zeros(max(count, 1), np.uint8), owner
        owner.living += 1

    def __int__(self) -> int:
        return self.content.ctypes.data

    def get_device_pointer(self) -> int:
        return int(self)

    def free(self) -> None:
        self._owner.living -= 1


class Pinned(np.ndarray):
    """An array whose `base` is the page-locked memory, as pycuda's is."""

    memory: Any = None

    @property
    def base(self) -> Any:
        return self.memory


class Driver(ModuleType):
    """`failing` names CUDA's function that fails, `error` what it raises."""

    Error, MemoryError, LogicError = Error, OutOfMemory, LogicError
    device_attribute = SimpleNamespace(INTEGRATED=18)
    host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
    Context = SimpleNamespace(synchronize=lambda: None)

    def __init__(self, failing: str, error: Exception | None, integrated: bool = False) -> None:
        super().__init__("pycuda.driver")
        self._failing, self._error, self._integrated = failing, error, integrated
        self.living = self.entered = 0

    def call(self, name: str) -> None:
        if name == self._failing:
            assert self._error is not None
            raise self._error

    def init(self) -> None:
        self.call("cuInit")

    def Device(self, number: int) -> Any:  # noqa: N802  (its name there)
        return SimpleNamespace(
            name=lambda: "RTX of paper",
            get_attribute=lambda attribute: int(self._integrated),
            retain_primary_context=self._retain,
        )

    def _retain(self) -> Any:
        self.call("cuDevicePrimaryCtxRetain")
        return SimpleNamespace(push=lambda: self._enter(1), pop=lambda: self._enter(-1))

    def _enter(self, step: int) -> None:
        if step > 0:
            self.call("cuCtxPushCurrent")
        self.entered += step

    def pagelocked_empty(self, shape: Any, dtype: Any, mem_flags: int = 0) -> Any:
        self.call("cuMemHostAlloc")
        array = np.zeros(shape, dtype).view(Pinned)
        array.memory = Memory(self, array.nbytes)
        return array

    def mem_alloc(self, count: int) -> Memory:
        self.call("cuMemAlloc")
        return Memory(self, count)

    def memcpy_htod(self, memory: Memory, content: Any) -> None:
        self.call("cuMemcpyHtoD")

    def module_from_file(self, path: str) -> Any:
        self.call("cuModuleLoad")
        raise AssertionError("nothing computes here")


def put_in_place(
    patch: pytest.MonkeyPatch, failing: str = "", error: Exception | None = None, integrated: bool = False
) -> Driver:
    """What `import pycuda.driver` finds from now on."""
    package, driver = ModuleType("pycuda"), Driver(failing, error, integrated)
    package.driver = driver  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "pycuda", package)
    patch.setitem(sys.modules, "pycuda.driver", driver)
    return driver
