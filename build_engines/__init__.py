"""From a trained model to engines: ONNX now, TensorRT next."""
