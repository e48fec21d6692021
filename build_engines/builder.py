"""Thin adapter over `tensorrt` (10, 11) and `tensorrt_rtx` (1): only this file knows which of them builds.

One way for all: strongly typed networks. Precision lies in the ONNX (FP16 tensors, explicit Q/DQ pairs), so
there are no precision flags and no calibrators here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from edge.backends.plan import ON_A_JETSON, error_log
from edge.errors import BackendFault, InspectError
from edge.gpu import RUNTIMES, load_runtime, own_sm
from edge.kernels import plugin

NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}


class EngineBuilder:
    """One installed TensorRT, ready to build. Make it with `open_builder`."""

    def __init__(self, runtime: str) -> None:
        """Raises ImportError or OSError where it cannot be loaded. `name` as the recipe keeps it."""
        self.runtime = runtime
        self._trt, self.name = load_runtime(runtime)
        self._log: Any = error_log(self._trt)

    @property
    def takes_plugins(self) -> bool:
        """Whether the affinity kernel can be a node of the network."""
        return self.runtime == "tensorrt"

    def targets(self, wanted: Sequence[int]) -> list[int]:
        """The compute capabilities to build for: those wanted (86 is SM 8.6), or this machine's own.

        Raises InspectError for one that this TensorRT cannot build here, saying what can.
        """
        own = own_sm()
        if self.runtime == "tensorrt":
            known, whose = ([] if own is None else [own]), "only for this machine's own GPU"
            hint = "Build on the machine with that GPU, or use --runtime tensorrt-rtx."
        else:
            known, whose = self._known(), "only for these GPUs"
            hint = "Name some of them with --sm; for others, full TensorRT on the machine with that GPU."
        targets = list(dict.fromkeys(wanted)) or ([] if own is None else [own])
        if not targets:
            hint = (
                "Name the GPU's compute capability, such as --sm 86,89; full TensorRT needs the GPU itself."
            )
            raise InspectError("there is no NVIDIA GPU or driver here to build for", self.name, hint)
        if unknown := [sm for sm in targets if sm not in known]:
            can = ", ".join(f"SM {sm}" for sm in known) or "no GPU found"
            what = f"{NAMES[self.runtime]} builds {whose} ({can}), not for SM {', '.join(map(str, unknown))}"
            raise InspectError(what, self.name, hint)
        return targets

    def build(self, model: bytes, sm: int, batch: int, timing: bytes = b"") -> tuple[bytes, bytes]:
        """ONNX bytes -> (plan, timing cache) for pictures in batches of 1 to `batch`.

        `timing` is an earlier call's cache; TensorRT for RTX has none, since it measures when it loads.
        Raises BackendFault naming the node and the operation that cannot be built.
        """
        self._log.errors.clear()
        with self._own_errors(f"the engine for SM {sm} was not built"):
            builder, network = self.parse(model)
            config = self._config(builder, network, sm, batch)
            cache = self._timing_cache(config, timing)
            plan = builder.build_serialized_network(network, config)
            if plan is None:
                raise RuntimeError("TensorRT gave no plan")
            return bytes(plan), b"" if cache is None else bytes(config.get_timing_cache().serialize())

    def parse(self, model: bytes) -> tuple[Any, Any]:
        """ONNX bytes -> (builder, strongly typed network). Raises BackendFault."""
        trt = self._trt
        if self.takes_plugins and plugin.is_in(model):  # the other's parser would end this process
            plugin.register(trt)
        with self._own_errors("TensorRT does not start"):
            builder = trt.Builder(self._log)
            strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
            # 10 must be told; 11 and RTX know nothing else, and may drop the flag.
            network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
            parser = trt.OnnxParser(network, self._log)
        if not parser.parse(model):
            raise self._refused(parser.get_error(0))
        if network.num_inputs == 0 or network.num_outputs == 0:  # a few bytes of anything parse as no layer
            raise BackendFault(
                "the ONNX holds no network", self.name, "Run build-engines on the model folder."
            )
        return builder, network

    @contextmanager
    def _own_errors(self, what: str) -> Iterator[None]:
        """TensorRT's bindings raise TypeError where a constructor fails, and more; None has no attributes."""
        try:
            yield
        except (TypeError, RuntimeError, ValueError, AttributeError, MemoryError) as error:
            why = " ".join((self._log.errors[-1] if self._log.errors else str(error)).split())
            raise BackendFault(f"{what}: {why}", self.name, _hint(why)) from error

    def _timing_cache(self, config: Any, timing: bytes) -> Any:
        """The earlier call's, or an empty one where TensorRT does not take it; None where it has none."""
        if self.runtime != "tensorrt":
            return None
        for known in (timing, b""):
            with suppress(TypeError, RuntimeError):
                cache = config.create_timing_cache(known)
                if cache is not None and config.set_timing_cache(cache, ignore_mismatch=True):
                    return cache
        return None

    def _known(self) -> list[int]:
        names = self._trt.ComputeCapability.__members__
        return sorted(int(name[2:]) for name in names if name.startswith("SM"))

    def _config(self, builder: Any, network: Any, sm: int, batch: int) -> Any:
        trt, config = self._trt, builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that a plan can be inspected
        # TF32 keeps 10 bits of what the FP32 islands are there for; it is on unless switched off.
        config.clear_flag(trt.BuilderFlag.TF32)
        if self.runtime == "tensorrt-rtx":
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), 0)
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # a CUDA graph must not see it allocate
        profile = builder.create_optimization_profile()
        # In rows: by default an FP16 map may come out in groups of channels, as no other reader has them.
        for made in map(network.get_output, range(network.num_outputs)):
            made.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)
        for given in map(network.get_input, range(network.num_inputs)):
            one, most = ((n, *tuple(given.shape)[1:]) for n in (1, batch))
            profile.set_shape(given.name, one, one, most)
        if config.add_optimization_profile(profile) < 0:
            raise RuntimeError(f"batches of 1 to {batch} are refused")
        return config

    def _refused(self, error: Any) -> BackendFault:
        why = " ".join(error.desc().split())
        if error.node() < 0:
            hint = _hint(why, "Copy the file again, or run build-engines on the model folder.")
            return BackendFault(f"the ONNX cannot be read: {why}", self.name, hint)
        operation, node = error.node_operator(), error.node_name() or f"number {error.node()}"
        if "Plugin not found" in why or error.code().name.startswith("UNSUPPORTED"):
            why = "there is no such operation here"
        hint = "Export with this version; if it stays, run the .onnx with ONNX Runtime and report the node."
        return BackendFault(f"node {node} ({operation}) cannot be built: {why}", self.name, hint)


def open_builder(runtime: str = "") -> EngineBuilder:
    """The TensorRT named, or the one that is installed (full TensorRT first).

    Raises InspectError for an unknown name, BackendFault where there is none, naming what to install.
    """
    if runtime and runtime not in RUNTIMES:
        raise InspectError(f"unknown runtime {runtime!r}", "--runtime", f"Known: {', '.join(RUNTIMES)}.")
    why = ""
    for name in [runtime] if runtime else RUNTIMES:
        try:
            return EngineBuilder(name)
        except (ImportError, OSError) as error:  # OSError: its libraries do not fit this machine
            why = str(error)
    wanted = NAMES[runtime] if runtime else "neither TensorRT nor TensorRT for RTX"
    what = f"{wanted} {'cannot' if runtime else 'can'} be loaded: {why}"
    rtx = "Install: pip install tensorrt-rtx (builds without a GPU)."
    full = "On the machine with the GPU: pip install tensorrt. Elsewhere leave --runtime away."
    hint = f"{full if runtime == 'tensorrt' else rtx} {ON_A_JETSON}"
    raise BackendFault(what, "build-engines", hint)


def _hint(why: str, otherwise: str = "Report it with the ONNX file.") -> str:
    """What helps, by the words that TensorRT uses."""
    lower = why.lower()
    if "driver" in lower or ("cuda" in lower and "memory" not in lower):
        return "Look at NVIDIA's driver (nvidia-smi): it must be there, and as new as this TensorRT asks for."
    return "Free memory and try again." if "memory" in lower or "bad_alloc" in lower else otherwise
