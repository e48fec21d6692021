"""A TensorRT plan, opened: `tensorrt` (10.1 and later) and `tensorrt_rtx` (1) differ here and nowhere else.

Written from NVIDIA's documentation; reading a plan takes a GPU, which it has not seen yet.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from edge.backends.ort import check_model
from edge.errors import BackendFault
from edge.gpu import load_runtime
from edge.kernels import plugin

WITH_KERNEL = " with affinity kernel"
PIXELS, MAP, SCORE = "pixels", "anomaly_map", "score"
NO_REASON = "it gives no reason"
RESTART = "Restart the station."
UPDATE = "Update the NVIDIA driver, or run the .onnx engine, which needs none."
NO_ROOM = "Close what else uses the GPU, or run the .onnx engine, which needs none."
ON_A_JETSON = (
    "On a Jetson with JetPack 6, whose TensorRT is for Python 3.10: the container in docs/deploy.md."
)
OTHER_GPU = "it was built for another GPU"
FULL = "the GPU is out of memory"
# What TensorRT says -> what it means, what helps where that is not the caller's hint; the first that fits.
WHY = {
    "insufficient for cuda runtime": ("the NVIDIA driver is older than this TensorRT needs", UPDATE),
    "incompatible device": (OTHER_GPU, ""),  # TensorRT 8 to 10
    "compute capability": (OTHER_GPU, ""),  # TensorRT for RTX
    "out of memory": (FULL, NO_ROOM),  # CUDA's words
    "outofmemory": (FULL, NO_ROOM),  # TensorRT's
    "serialization": ("it is no whole plan of this TensorRT version", ""),
}


class Tensor(NamedTuple):
    """Of a plan: an input or output as TensorRT describes it; -1 is a free size."""

    name: str
    is_input: bool
    dtype: str  # UINT8, FLOAT, ...
    shape: tuple[int, ...]


class Context(Protocol):
    """What runs a fixed number of pictures, with memory of its own."""

    @property
    def memory_bytes(self) -> int:
        """What it works in; of any content."""

    def bind(self, memory: int, addresses: Mapping[str, int]) -> None:
        """`memory` and each input and output by name, all by address on the device. Raises BackendFault."""

    def can_be_captured(self, stream: Any) -> bool:
        """Whether a CUDA graph may be made of it."""

    def enqueue(self, stream: Any) -> None:
        """Start it, without waiting. Raises BackendFault."""


class Plan(Protocol):
    """Something that runs on the GPU from inputs to outputs. Used inside `with gpu.current()`."""

    @property
    def name(self) -> str:
        """For people: library and version."""

    @property
    def most(self) -> int:
        """Pictures at once."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Inputs and outputs."""

    def context(self, pictures: int) -> Context:
        """What runs so many pictures at once; several may run side by side. Raises BackendFault."""


class TensorRtPlan:
    """A deserialised plan. Everything here happens inside `with gpu.current()`.

    `path` is where it comes from, `hint` what to do where it does not fit. Raises BackendFault where the
    library of `builder` ("tensorrt 10.3.0") is missing or the plan cannot be read.
    """

    def __init__(self, packed: bytes, path: Path, builder: str, hint: str) -> None:
        self._path, self._has_kernel = path, plugin.is_in(packed)
        self._trt = _library(builder, path)
        self._log = error_log(self._trt)
        with own_errors(self._log.errors, "TensorRT cannot load the plan", path, hint):
            self._runtime = self._trt.Runtime(self._log)  # must live as long as what it made
            if self._has_kernel:
                plugin.register(self._trt)
            self._engine = self._runtime.deserialize_cuda_engine(packed)
            if self._engine is None:
                raise RuntimeError(NO_REASON)

    @property
    def name(self) -> str:
        """Library and version."""
        library = "TensorRT for RTX" if "rtx" in self._trt.__name__ else "TensorRT"
        return f"{library} {self._trt.__version__}{WITH_KERNEL if self._has_kernel else ''}"

    @cached_property
    def tensors(self) -> list[Tensor]:
        """See `Plan`."""
        engine, is_input = self._engine, self._trt.TensorIOMode.INPUT
        return [
            Tensor(
                name,
                engine.get_tensor_mode(name) == is_input,
                engine.get_tensor_dtype(name).name,
                tuple(engine.get_tensor_shape(name)),
            )
            for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
        ]

    @cached_property
    def most(self) -> int:
        """See `Plan`."""
        inputs = [tensor.name for tensor in self.tensors if tensor.is_input]
        return min(int(self._engine.get_tensor_profile_shape(name, 0)[2][0]) for name in inputs)

    def context(self, pictures: int) -> "PlanContext":
        """See `Plan`."""
        with own_errors(self._log.errors, "TensorRT makes no execution context", self._path):
            context = self._new_context()
            inputs = [tensor for tensor in self.tensors if tensor.is_input]
            if context is None or not all(
                context.set_input_shape(tensor.name, (pictures, *tensor.shape[1:])) for tensor in inputs
            ):
                raise RuntimeError(NO_REASON)
            return PlanContext(self, context)

    def _new_context(self) -> Any:
        """Its memory comes from us: no more than these pictures need, nor ever more."""
        trt, own = self._trt, self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        specialised = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if specialised is None:
            return self._engine.create_execution_context(own)
        config = self._engine.create_runtime_config()  # RTX compiles when it loads:
        config.dynamic_shapes_kernel_specialization_strategy = specialised.EAGER  # now, not during a part
        config.set_execution_context_allocation_strategy(own)
        return self._engine.create_execution_context(config)

    def _fault(self, what: str) -> BackendFault:
        """With what TensorRT said last, which is then forgotten."""
        why, better = explained(self._log.errors)
        self._log.errors.clear()
        return BackendFault(f"{what}: {why}", str(self._path), better or RESTART)


class PlanContext:
    """A plan with memory of its own, for a fixed number of pictures."""

    def __init__(self, plan: TensorRtPlan, context: Any) -> None:
        self._plan, self._context = plan, context
        self.memory_bytes = int(context.update_device_memory_size_for_shapes())

    def bind(self, memory: int, addresses: Mapping[str, int]) -> None:
        """See `Context`."""
        self._context.set_device_memory(memory, self.memory_bytes)
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._plan._fault(f"TensorRT does not take the memory of {name}")

    def can_be_captured(self, stream: Any) -> bool:
        """Whether a graph may be made of it; full TensorRT does not tell, and may for our fixed shapes."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(stream.handle))

    def enqueue(self, stream: Any) -> None:
        """Start it, without waiting. Raises BackendFault."""
        if not self._context.execute_async_v3(stream.handle):
            raise self._plan._fault("TensorRT did not start")


def check_tensors(path: Path, tensors: Sequence[Tensor], input_size: tuple[int, int]) -> None:
    """Whether these are the inputs and outputs of an engine for the recipe. Raises BackendFault."""
    check_model(path, [(t.name, list(t.shape)) for t in tensors if t.is_input], input_size)
    found = {t.name: (t.dtype, t.shape[1:]) for t in tensors}
    wanted = {PIXELS: ("UINT8", (*input_size, 3)), MAP: ("FLOAT", input_size), SCORE: ("FLOAT", ())}
    if found != wanted:
        what = f"the plan has {found}, an engine of this product {wanted}"
        raise BackendFault(what, str(path), "Use the plan and the recipe of one build-engines run.")


def explained(errors: list[str]) -> tuple[str, str]:
    """What TensorRT's messages mean, and what to do; "" where that is what the caller says."""
    for text in errors:
        for sign, meaning in WHY.items():
            if sign in text.lower():
                return meaning
    return (" ".join(errors[0].split())[:200] if errors else NO_REASON), ""


@contextmanager
def own_errors(errors: list[str], what: str, path: Path, hint: str = RESTART) -> Iterator[None]:
    """BackendFault from what TensorRT's bindings raise: TypeError where a constructor fails, and more.

    `errors` is what TensorRT said, then forgotten; where it said nothing the exception's text counts.
    """
    try:
        yield
    except (TypeError, RuntimeError, ValueError, AttributeError, MemoryError) as error:
        why, better = explained(errors or [str(error) or NO_REASON])
        errors.clear()
        raise BackendFault(f"{what}: {why}", str(path), better or hint) from error


def error_log(library: Any) -> Any:
    """TensorRT's messages: its `errors` are kept for our sentence, the rest is for its authors."""

    class Log(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= library.ILogger.ERROR:
                self.errors.append(text)

    return Log()


def _library(builder: str, path: Path) -> Any:
    name = builder.partition(" ")[0]
    try:
        return load_runtime(name)[0]
    except (KeyError, ImportError, OSError) as error:  # OSError: its libraries do not fit this machine
        hint = f"Install it with: pip install '{builder.replace(' ', '==')}'. {ON_A_JETSON}"
        raise BackendFault(f"{name or 'TensorRT'} cannot be loaded: {error}", str(path), hint) from error
