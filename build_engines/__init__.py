"""From a trained model to engines: ONNX now, TensorRT next."""

import edge  # noqa: F401  # first of all: some modules here import onnxruntime, which edge keeps silent
