"""The thin layer under `edge/backends/trt.py` on the CPU: memory of two sides, streams that do everything as
late as they may, kernels from their host build, an engine that ONNX Runtime runs.

What a stream has taken up runs when somebody waits for it, and not before: an answer that is read too early,
or memory that is used again too early, is wrong here every time, and on a GPU now and then.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edge.backends.plan import Tensor
from edge.errors import BackendFault
from edge.kernels.compile import RESIZE, host_library
from edge.kernels.launch import SharedLibrary
from edge.kernels.problem import Problem
from edge.kernels.resize import Resize

TYPES = {  # ONNX Runtime's -> TensorRT's, NumPy's
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(float16)": ("HALF", np.float16),
    "tensor(float)": ("FLOAT", np.float32),
}


class HostStream:
    def __init__(self, gpu: "HostGpu") -> None:
        self.waiting: list[Callable[[], None]] = []
        self._gpu = gpu

    def take_up(self, *work: Callable[[], None]) -> None:
        self._gpu.check_current()
        self.waiting += work

    def synchronize(self) -> None:
        self._gpu.check_current()
        while self.waiting:
            self.waiting.pop(0)()


class HostMemory:
    """Bytes that `gpu` counts until they are freed; then they are noise."""

    def __init__(self, gpu: "HostGpu", count: int) -> None:
        self.content = np.full(max(count, 1), 0xAB, np.uint8)
        self._gpu = gpu
        gpu.take(self)

    def __int__(self) -> int:
        return self.content.ctypes.data

    def free(self) -> None:
        self._gpu.check_current()
        self.content.fill(0xCD)
        self._gpu.owned.remove(self)


class HostBuffer(HostMemory):
    def __init__(self, gpu: "HostGpu", shape: Sequence[int], dtype: Any) -> None:
        self.host = np.zeros(shape, dtype)
        super().__init__(gpu, self.host.nbytes)
        self.address = self.host.ctypes.data if gpu.integrated else int(self)

    def upload(self, stream: HostStream) -> None:
        if not self._gpu.integrated:
            stream.take_up(lambda: self.content.__setitem__(..., self.host.view(np.uint8).ravel()))

    def download(self, stream: HostStream) -> None:
        if not self._gpu.integrated:
            stream.take_up(lambda: self.host.view(np.uint8).ravel().__setitem__(..., self.content))


class HostLauncher:
    """The affinity kernel's host build, as late as a stream may."""

    def __init__(self) -> None:
        self._library = SharedLibrary(host_library())

    def run(self, problem: Problem, stream: HostStream) -> None:
        stream.take_up(lambda: self._library.run(problem))


class HostKernel:
    def __init__(self) -> None:
        self._library = SharedLibrary(host_library(name=RESIZE), RESIZE, Resize)

    def launch(self, grid: Any, threads: int, shared_bytes: int, problem: Resize, stream: HostStream) -> None:
        stream.take_up(lambda: self._library.run(problem))


class HostGraph:
    def __init__(self, stream: HostStream, work: Callable[[], None], gpu: "HostGpu") -> None:
        assert not stream.waiting, "a capture begins on a stream that is idle"
        work()
        self._gpu, self._recorded = gpu, list(stream.waiting)
        stream.waiting.clear()
        gpu.take(self)

    def launch(self, stream: HostStream) -> None:
        stream.take_up(*self._recorded)

    def free(self) -> None:
        self._gpu.check_current()
        self._gpu.owned.remove(self)


class HostGpu:
    """`owned` is what is not freed yet, `allocations` counts what was ever made; `room` allows so many."""

    def __init__(self, integrated: bool = False) -> None:
        self.name, self.integrated = "host", integrated
        self.owned: list[Any] = []
        self.allocations, self.room = 0, 10_000
        self._entered = threading.local()  # a context is current to one thread

    @property
    def depth(self) -> int:
        return getattr(self._entered, "depth", 0)

    def check_current(self) -> None:
        assert self.depth, "not inside `with gpu.current()` of this thread"

    def take(self, thing: Any) -> None:
        self.check_current()
        if not self.room:
            raise BackendFault("the GPU is out of memory", self.name, "Close what else uses the GPU.")
        self.room -= 1
        self.allocations += 1
        self.owned.append(thing)

    @contextmanager
    def current(self) -> Iterator[None]:
        self._entered.depth = self.depth + 1
        try:
            yield
        finally:
            self._entered.depth -= 1

    def stream(self) -> HostStream:
        return HostStream(self)

    def buffer(self, shape: Sequence[int], dtype: Any) -> HostBuffer:
        return HostBuffer(self, shape, dtype)

    def memory(self, count: int) -> HostMemory:
        return HostMemory(self, count)

    def uploaded(self, content: np.ndarray) -> HostMemory:
        memory = HostMemory(self, content.nbytes)
        self.write(int(memory), content)
        return memory

    def write(self, address: int, content: np.ndarray) -> None:
        self.check_current()
        array_at(address, content.shape, content.dtype)[...] = content

    def capture(self, stream: HostStream, work: Callable[[], None]) -> HostGraph:
        return HostGraph(stream, work, self)


def array_at(address: int, shape: Sequence[int], dtype: Any) -> np.ndarray:
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * count).from_address(address), dtype).reshape(shape)


class HostPlan:
    """An ONNX file in a plan's place. `scale` 0 * inf makes every answer NaN."""

    name = "host"

    def __init__(self, onnx: Path | bytes, captured: bool = True, most: int = 32) -> None:
        self.captured, self.most, self.scale = captured, most, 1.0
        model = onnx if isinstance(onnx, bytes) else str(onnx)
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.tensors = [
            Tensor(value.name, is_input, TYPES[value.type][0], (-1, *value.shape[1:]))
            for is_input, values in ((True, self.session.get_inputs()), (False, self.session.get_outputs()))
            for value in values
        ]

    def context(self, pictures: int) -> "HostContext":
        return HostContext(self, pictures)


class HostContext:
    """While it runs its memory is noise, as with an engine: whatever else lies there is gone."""

    def __init__(self, plan: HostPlan, pictures: int) -> None:
        self._plan, self._pictures = plan, pictures
        self.memory_bytes = 1000 * pictures + 77

    def bind(self, memory: int, addresses: Mapping[str, int]) -> None:
        self._memory = array_at(memory, (self.memory_bytes,), np.uint8)
        assert set(addresses) == {tensor.name for tensor in self._plan.tensors}
        types = dict(TYPES.values())
        self._arrays = {
            t.name: array_at(addresses[t.name], (self._pictures, *t.shape[1:]), types[t.dtype])
            for t in self._plan.tensors
        }

    def can_be_captured(self, stream: HostStream) -> bool:
        return self._plan.captured

    def enqueue(self, stream: HostStream) -> None:
        stream.take_up(self._run)

    def _run(self) -> None:
        given = {t.name: self._arrays[t.name] for t in self._plan.tensors if t.is_input}
        made = [t.name for t in self._plan.tensors if not t.is_input]
        self._memory.fill(0xEF)
        for name, values in zip(made, self._plan.session.run(made, given), strict=True):
            self._arrays[name][...] = values * np.float32(self._plan.scale)
        self._memory.fill(0xEF)
