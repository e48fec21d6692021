"""The GPU of this machine: memory, streams and kernels through pycuda, graphs through the driver itself.

It has not run on a GPU yet, so it is kept thin: a method is one or two calls, and `Gpu.current` alone turns
their errors into ours. All that is made here is used, and freed, inside `with gpu.current()`.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import BackendFault

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: such a stream does not wait for the default one
THIS_THREAD = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile spoils no capture
RESTART = "Restart the station."
NO_PYCUDA = "Install the NVIDIA driver and: pip install -e '.[gpu]'"


def pycuda_driver() -> Any:
    """pycuda's module of that name. Raises BackendFault where it or the driver's library is missing."""
    try:
        import pycuda.driver
    except ImportError as error:
        raise BackendFault(f"pycuda cannot be used: {error}", "GPU", NO_PYCUDA) from error
    return pycuda.driver


class Kernel:
    """One kernel of a cubin, in pycuda's current context. It takes one structure, by value."""

    def __init__(self, module: Any, name: str, problem: type[ctypes.Structure]) -> None:
        self._function = module.get_function(name)
        self._function.prepare([f"{ctypes.sizeof(problem)}s"])

    def launch(
        self, grid: tuple[int, int], threads: int, shared_bytes: int, problem: ctypes.Structure, stream: Any
    ) -> None:
        """Without waiting; None is the default stream. Raises pycuda's error."""
        self._function.prepared_async_call(
            grid, (threads, 1, 1), stream, bytes(problem), shared_size=shared_bytes
        )


class Buffer:
    """Page-locked memory of the host and the same of the device: a copy, or on a Jetson the very same.

    `host` is an array; `address` is the device's.
    """

    def __init__(self, driver: Any, shape: Sequence[int], dtype: npt.DTypeLike, mapped: bool) -> None:
        self._driver = driver
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: npt.NDArray[Any] = driver.pagelocked_empty(tuple(shape), np.dtype(dtype), mem_flags=flags)
        self._pinned: Any = self.host.base
        self._memory: Any = None
        try:
            if not mapped:
                self._memory = driver.mem_alloc(self.host.nbytes)
            self.address = int(self._pinned.get_device_pointer() if mapped else self._memory)
        except driver.Error:
            self._pinned.free()
            raise

    def upload(self, stream: Any) -> None:
        """Host to device, without waiting."""
        if self._memory is not None:
            self._driver.memcpy_htod_async(self.address, self.host, stream)

    def download(self, stream: Any) -> None:
        """Device to host, without waiting."""
        if self._memory is not None:
            self._driver.memcpy_dtoh_async(self.host, self.address, stream)

    def free(self) -> None:
        """Both; `host` must not be touched any more."""
        if self._memory is not None:
            self._memory.free()
        self._pinned.free()


class Gpu:
    """The first GPU and its primary context, which TensorRT uses too. Raises BackendFault without one."""

    def __init__(self) -> None:
        self._driver = pycuda_driver()
        self.name = "GPU"
        with self._faults():
            self._driver.init()
            device = self._driver.Device(0)
            self.name = str(device.name())
            kinds = self._driver.device_attribute
            self.integrated = bool(device.get_attribute(kinds.INTEGRATED))  # shares the host's memory: Jetson
            self._context = device.retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's; errors of CUDA become BackendFault."""
        with self._faults():
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except self._driver.MemoryError as error:
            hint = "Close what else uses the GPU, or run the .onnx engine, which needs none."
            raise BackendFault(f"the GPU is out of memory: {error}", self.name, hint) from error
        except self._driver.Error as error:
            raise BackendFault(f"the GPU failed: {error}", self.name, RESTART) from error

    def stream(self) -> Any:
        """With `handle`, an address, and `synchronize()`."""
        return self._driver.Stream(NON_BLOCKING)

    def buffer(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Buffer:
        """Memory that host and device exchange, of undefined content."""
        return Buffer(self._driver, shape, dtype, self.integrated)

    def memory(self, count: int) -> Any:
        """So many bytes of the device alone; `int(memory)` is the address, `free()` frees it."""
        return self._driver.mem_alloc(max(count, 1))  # of nothing there is no address

    def uploaded(self, content: npt.NDArray[Any]) -> Any:
        """Memory of the device with this in it."""
        memory = self.memory(content.nbytes)
        self.write(int(memory), content)
        return memory

    def write(self, address: int, content: npt.NDArray[Any]) -> None:
        """Copy to the device, and wait: from pageable memory the copy may still be under way."""
        self._driver.memcpy_htod(address, content)
        self._driver.Context.synchronize()

    def kernel(self, cubin: Path, name: str, problem: type[ctypes.Structure]) -> Kernel:
        """A kernel of a cubin that nvcc made for this GPU."""
        return Kernel(self._driver.module_from_file(str(cubin)), name, problem)

    def capture(self, stream: Any, work: Callable[[], None]) -> "Graph":
        """What `work` puts onto the stream, without doing it, as one piece that can be started again."""
        return Graph(stream, work, self.name)


class Graph:
    """A captured and instantiated CUDA graph. pycuda has none."""

    def __init__(self, stream: Any, work: Callable[[], None], where: str) -> None:
        self._driver, self._where = ctypes.CDLL("libcuda.so.1"), where
        self._executable, graph = ctypes.c_void_p(), ctypes.c_void_p()
        handle = ctypes.c_void_p(stream.handle)
        self._call("cuStreamBeginCapture_v2", handle, THIS_THREAD)
        try:
            work()
        except BaseException:
            self._driver.cuStreamEndCapture(handle, ctypes.byref(graph))  # a capture never ends by itself
            raise
        self._call("cuStreamEndCapture", handle, ctypes.byref(graph))
        try:
            no_flags = ctypes.c_ulonglong(0)
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, no_flags)
        finally:
            self._driver.cuGraphDestroy(graph)

    def launch(self, stream: Any) -> None:
        """Do it all, without waiting. Raises BackendFault."""
        self._call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def free(self) -> None:
        """When nothing of it is under way any more."""
        self._driver.cuGraphExecDestroy(self._executable)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            why = (text.value or b"unknown").decode()
            raise BackendFault(f"the GPU failed: {name}: {why} ({code})", self._where, RESTART)
