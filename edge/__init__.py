"""The station: cameras, inference, verdicts, outputs. Knows files and pixels; never torch."""

import os

__version__ = "0.1.0"

# A station sends nothing to anybody. Since 1.29 ONNX Runtime reports its use to its maker, unless this is set
# before it is imported: here, since whatever of ours imports it has imported this package before.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
