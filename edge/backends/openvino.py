"""OpenVINO on the CPU (extra `openvino`). Only this file knows openvino."""

import sys
from pathlib import Path

import numpy as np

from edge.backends.ort import WARM_UP_RUNS, check_answer, check_model
from edge.errors import BackendFault
from edge.frame import AnomalyMap, Pixels


class OpenVinoBackend:
    """One compiled model. Raises BackendFault as `OnnxRuntimeBackend` does, and without the package.

    `precision` is fixed to f32: OpenVINO would take bf16 where the CPU has it, and thresholds that were
    calibrated in one precision do not hold in another.
    """

    resizes = False

    def __init__(self, engine: Path, input_size: tuple[int, int], precision: str = "f32"):
        self.input_size = input_size
        # A station sends nothing to anybody: without this, importing OpenVINO reports the use to its maker.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            import openvino
        except ImportError as error:
            hint = "Install it with: pip install -e '.[openvino]'"
            raise BackendFault("OpenVINO is not installed", str(engine), hint) from error
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        try:
            model = openvino.Core().read_model(engine)
            inputs = [(i.get_any_name(), [d.get_length() if d.is_static else -1 for d in i.partial_shape])
                      for i in model.inputs]  # fmt: skip
            check_model(engine, inputs, input_size)
            model.reshape([1, *input_size, 3])  # a fixed batch lets it plan its memory once
            self._request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
        except (RuntimeError, ValueError) as error:  # names that are no text
            hint = "Run build-engines again."
            raise BackendFault(f"OpenVINO cannot load it: {error}", str(engine), hint) from error
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]} CPU {precision}"
        for _ in range(WARM_UP_RUNS):
            self.infer(np.zeros((*input_size, 3), np.uint8))

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """See `edge.backends.Backend`."""
        try:
            outputs = self._request.infer([pixels[None]])
            maps, scores = outputs["anomaly_map"], outputs["score"]
        except (RuntimeError, KeyError) as error:
            raise BackendFault(f"inference failed: {error}", self.name, "Restart the station.") from error
        check_answer(self.name, maps, scores, (1, *self.input_size))
        return maps[0].copy(), float(scores[0])

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """See `edge.backends.Backend`; one after the other, since the model's batch is fixed."""
        maps, scores = zip(*map(self.infer, pixels), strict=True)
        return np.stack(maps), np.array(scores, np.float32)

    def close(self) -> None:
        """OpenVINO frees the model with its last reference; there is nothing to wait for."""
