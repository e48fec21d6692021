"""ONNX Runtime on the CPU: the embedded default. Only this file knows onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edge.errors import BackendFault
from edge.frame import AnomalyMap, Pixels

WARM_UP_RUNS = 3  # the first runs plan memory and are several times slower
AT_ONCE = 4  # pictures of a batch: on a CPU more are no faster, and each takes 20 MB at 256x256


class OnnxRuntimeBackend:
    """One session on the CPU provider; `engine` is an ONNX file, or what would stand in one.

    Raises BackendFault when the file is no ONNX model of this product, or its input size is not
    `input_size` (height, width). `threads` 0 lets ONNX Runtime take all cores.
    """

    resizes = False

    def __init__(self, engine: Path | bytes, input_size: tuple[int, int], threads: int = 0):
        self.input_size = input_size
        model, path = (engine, Path("in memory")) if isinstance(engine, bytes) else (str(engine), engine)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # its errors come as exceptions, too
        # Worker threads must not burn the cores between two parts: the camera and the PLC need them.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # The Q/DQ pairs of an INT8 engine stand where TensorRT fuses them. ONNX Runtime does not, and takes a
        # third less time when it does not try.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            # Its "fallback" prints on the standard output, which may be somebody's JSON.
            self._session = ort.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            inputs = [(i.name, i.shape) for i in self._session.get_inputs()]
        except Exception as error:  # onnxruntime raises its own types, and RuntimeError, and more
            hint = "Run build-engines again."
            raise BackendFault(f"ONNX Runtime cannot load it: {error}", str(path), hint) from error
        self.name = f"ONNX Runtime {ort.__version__} CPU"
        check_model(path, inputs, input_size)
        for _ in range(WARM_UP_RUNS):
            self.infer(np.zeros((*input_size, 3), np.uint8))

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """See `edge.backends.Backend`."""
        maps, scores = self._run(pixels[None])
        return maps[0], float(scores[0])

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """See `edge.backends.Backend`; AT_ONCE pictures a run."""
        runs = [self._run(pixels[i : i + AT_ONCE]) for i in range(0, len(pixels), AT_ONCE)]
        maps, scores = zip(*runs, strict=True)
        return np.concatenate(maps), np.concatenate(scores)

    def _run(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        try:
            outputs: Any = self._session.run(["anomaly_map", "score"], {"pixels": pixels})
        except Exception as error:
            raise BackendFault(f"inference failed: {error}", self.name, "Restart the station.") from error
        maps, scores = outputs
        check_answer(self.name, maps, scores, (len(pixels), *self.input_size))
        return maps, scores

    def close(self) -> None:
        """ONNX Runtime frees the session with its last reference; there is nothing to wait for."""


def check_model(engine: Path, inputs: list[tuple[str, list[Any]]], input_size: tuple[int, int]) -> None:
    """Compare a model's inputs with what the recipe says. Raises BackendFault."""
    wanted = ("pixels", [*input_size, 3])
    found = [(name, list(shape[1:])) for name, shape in inputs]
    if found != [wanted]:
        what = f"the engine takes {found}, the recipe says {[wanted]}"
        raise BackendFault(what, str(engine), "Use the engine and the recipe of one build-engines run.")


def check_answer(name: str, maps: Any, scores: Any, wanted: tuple[int, ...]) -> None:
    """Whether an engine answers as one of this product does, for so many pictures. Raises BackendFault."""
    found = [(np.shape(each), str(getattr(each, "dtype", type(each)))) for each in (maps, scores)]
    if found != [(wanted, "float32"), (wanted[:1], "float32")]:
        what = f"the engine answers {found}, an engine of this product a map {wanted} and {wanted[:1]} scores"
        raise BackendFault(what, name, "Run build-engines again.")


def embedded_recipe(engine: Path) -> str | None:
    """The recipe text that an ONNX file carries in its metadata, or None."""
    from edge.recipe import METADATA_KEY

    try:
        session = ort.InferenceSession(str(engine), providers=["CPUExecutionProvider"], enable_fallback=0)
        text: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except Exception as error:
        raise BackendFault(f"not an ONNX model: {error}", str(engine), "Run build-engines again.") from error
    return text
