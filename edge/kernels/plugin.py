"""The affinity kernel inside a TensorRT engine: an IPluginV3 for TensorRT 10 and 11, launched from Python.

The station is a Python program, and a CUDA graph leaves Python out of every frame, so a plugin in C++ would
gain nothing. TensorRT for RTX 1.7 takes no plugins in its networks: its engines end at the feature maps, and
the launch follows on the same stream. Nothing of TensorRT is imported here: who opens the engine hands its
module over.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from edge.errors import BackendFault
from edge.kernels.compile import gpu_library
from edge.kernels.constants import PARTS, SCALES, Constants
from edge.kernels.launch import Launcher, SharedLibrary
from edge.kernels.problem import Layout, Maps

NAME, VERSION = "edge_affinity", "1"
FIELD = "constants"  # `Constants.to_bytes`, in the engine's plan


class AffinityLayer:
    """The plugin's methods, for any TensorRT module `trt`.

    Inputs: FP16 (pictures, channels, height, width) of teacher, global student, local student's targets, each
    from the finest scale on; float32 (n,), `Layout.tables`, which the network holds as a weight. Outputs:
    float32 anomaly map (pictures, H, W), scores (pictures, 2).
    """

    def __init__(self, trt: Any, constants: Constants, launcher: Launcher):
        for base in _bases(trt):
            base.__init__(self)
        self.trt, self.constants, self.launcher = trt, constants, launcher
        self.plugin_name, self.plugin_version, self.plugin_namespace = NAME, VERSION, ""
        self.num_outputs = 2
        self._packed = np.frombuffer(constants.to_bytes(), np.int8)  # TensorRT's fields only point to it

    def get_capability_interface(self, kind: Any) -> Any:
        """One object has all three capabilities."""
        return self

    def clone(self) -> Any:
        """Another one with the same constants."""
        return type(self)(self.trt, self.constants, self.launcher)

    def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
        """Map and scores are float32."""
        return [self.trt.float32, self.trt.float32]

    def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> list[Any]:
        """(pictures, H, W) and (pictures, 2)."""
        sides = [self.constants.input_size, (PARTS,)]
        return [self.trt.DimsExprs([inputs[0][0], *map(builder.constant, of_one)]) for of_one in sides]

    def supports_format_combination(self, position: int, tensors: Sequence[Any], inputs: int) -> bool:
        """Linear memory; FP16 for the maps, float32 for tables and outputs."""
        wanted = self.trt.float16 if position < inputs - 1 else self.trt.float32
        tensor = tensors[position].desc
        return bool(tensor.type == wanted and tensor.format == self.trt.TensorFormat.LINEAR)

    def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        """The scratch, for the largest batch."""
        return Layout(self.constants, inputs[0].max[0]).scratch_bytes

    def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Nothing depends on it."""

    def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Where everything lies for this number of pictures."""
        self.layout = Layout(self.constants, inputs[0].dims[0])

    def enqueue(
        self, input_desc: Any, output_desc: Any, inputs: Sequence[int], outputs: Sequence[int],
        workspace: int, stream: int,
    ) -> None:  # fmt: skip
        """All by address. Raises BackendFault."""
        given = iter(inputs)
        teacher, globl = ([next(given) for _ in range(SCALES)] for _ in range(2))
        local = [next(given) if has else None for has in self.constants.local]
        problem = self.layout.problem(Maps(teacher, globl, local), next(given), workspace, *outputs)
        self.launcher.run(problem, stream or None)

    def attach_to_context(self, context: Any) -> Any:
        """One for each execution context, since each has its own number of pictures."""
        return self.clone()

    def get_fields_to_serialize(self) -> Any:
        """What `create_plugin` needs."""
        field = self.trt.PluginField(FIELD, self._packed, self.trt.PluginFieldType.INT8)
        return self.trt.PluginFieldCollection([field])

    def get_valid_tactics(self) -> list[int]:
        """There is one way to do it."""
        return []

    def set_tactic(self, tactic: int) -> None:
        """There is one way to do it."""


def _bases(trt: Any) -> tuple[Any, ...]:
    return trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime


def plugin_creator(trt: Any, launcher: Launcher) -> Any:
    """For `trt.get_plugin_registry().register_creator`, before an engine is built or opened."""
    plugin = type("AffinityPlugin", (AffinityLayer, *_bases(trt)), {})

    class AffinityCreator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        """Makes the plugin from a field `constants`, of a network or of a plan."""

        def __init__(self) -> None:
            super().__init__()
            self.name, self.plugin_version, self.plugin_namespace = NAME, VERSION, ""
            empty = trt.PluginField(FIELD, np.zeros(0, np.int8), trt.PluginFieldType.INT8)
            self.field_names = trt.PluginFieldCollection([empty])

        def create_plugin(self, name: str, given: Any, phase: Any) -> Any:
            """Raises BackendFault when the constants cannot be read."""
            fields = {field.name: field.data.tobytes() for field in given}
            return plugin(trt, Constants.from_bytes(fields.get(FIELD, b"")), launcher)

    return AffinityCreator()


@cache  # TensorRT's registry does not keep what it is given alive
def register(trt: Any, launcher: Launcher | None = None) -> Any:
    """Make the plugin known to this TensorRT, before an ONNX graph or a plan with it is read -> its creator.

    Without a launcher: nvcc's own launches, for TensorRT gives a stream's handle, which pycuda cannot take.
    Raises BackendFault, also without nvcc or a GPU.
    """
    creator = plugin_creator(trt, launcher or SharedLibrary(gpu_library()))
    if not trt.get_plugin_registry().register_creator(creator, ""):
        raise BackendFault(
            "TensorRT does not take the affinity plugin", NAME, "Run the .onnx engine instead."
        )
    return creator


def is_in(packed: bytes) -> bool:
    """Whether an ONNX graph or a plan has the plugin in it: both write its name out."""
    return NAME.encode() in packed
