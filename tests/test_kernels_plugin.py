"""The TensorRT plugin, with a real TensorRT's classes and the kernel's host build, outside an engine."""

import shutil
from typing import Any

import numpy as np
import pytest
from affinity_reference import random_case, reference

from edge.errors import BackendFault
from edge.kernels.compile import host_library
from edge.kernels.constants import Constants
from edge.kernels.launch import SharedLibrary
from edge.kernels.plugin import plugin_creator
from edge.kernels.problem import Plan

trt = pytest.importorskip("tensorrt_rtx", reason="no TensorRT (pip install tensorrt-rtx)")
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


def created(constants: Constants) -> Any:
    """As TensorRT makes it when a plan is opened: from the fields that another one has written."""
    creator = plugin_creator(trt, SharedLibrary(host_library()))
    packed = np.frombuffer(constants.to_bytes(), np.int8)
    field = trt.PluginField("constants", packed, trt.PluginFieldType.INT8)
    first = creator.create_plugin("affinity", trt.PluginFieldCollection([field]), trt.TensorRTPhase.BUILD)
    written = first.get_fields_to_serialize()
    return creator.create_plugin("affinity", written, trt.TensorRTPhase.RUNTIME).attach_to_context(None)


def described(array: Any) -> Any:
    """As TensorRT describes a tensor to a plugin."""
    tensor = trt.PluginTensorDesc()
    tensor.dims, tensor.format = array.shape, trt.TensorFormat.LINEAR
    tensor.type = trt.float16 if array.dtype == np.float16 else trt.float32
    return tensor


def dynamic(tensor: Any) -> Any:
    """The same while it builds."""
    desc = trt.DynamicPluginTensorDesc()
    desc.desc, desc.max = tensor, tensor.dims
    return desc


def test_the_plugin_computes_what_the_kernel_computes() -> None:
    constants, networks = random_case(0, pictures=2)
    plugin = created(constants)
    tables = Plan(constants, 2).tables.view(np.float32)
    inputs = [*networks[0], *networks[1], *(m for m in networks[2] if m is not None), tables]
    outputs = [np.full((2, *constants.input_size), np.nan, np.float32), np.full((2, 2), np.nan, np.float32)]
    tensors = [described(a) for a in (*inputs, *outputs)]
    offered = [dynamic(t) for t in tensors]
    assert all(plugin.supports_format_combination(i, offered, len(inputs)) for i in range(len(offered)))
    scratch = np.full(plugin.get_workspace_size(offered[: len(inputs)], []), 255, np.uint8)
    plugin.on_shape_change(tensors[: len(inputs)], tensors[len(inputs) :])
    addresses = [[a.ctypes.data for a in of] for of in (inputs, outputs)]
    plugin.enqueue(None, None, *addresses, scratch.ctypes.data, 0)
    for found, wanted in zip(outputs, reference(constants, *networks), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_other_precisions_and_layouts_are_refused() -> None:
    constants, networks = random_case(0)
    plugin = created(constants)
    tensor = described(networks[0][0])
    for kind, layout in ((trt.float32, trt.TensorFormat.LINEAR), (trt.float16, trt.TensorFormat.HWC8)):
        tensor.type, tensor.format = kind, layout
        assert not plugin.supports_format_combination(0, [dynamic(tensor)], 9)


def test_constants_survive_and_anything_else_is_refused() -> None:
    constants, _ = random_case(1, local=(True, False, True))
    again = Constants.from_bytes(constants.to_bytes())
    for name in ("input_size", "channels", "sizes", "local", "grid", "top"):
        assert getattr(again, name) == getattr(constants, name)
    for name in ("low", "span", "blur"):
        np.testing.assert_array_equal(getattr(again, name), getattr(constants, name))
    for one, other in zip(
        [*again.gains, *again.offsets], [*constants.gains, *constants.offsets], strict=True
    ):
        np.testing.assert_array_equal(one, other)
    for broken in (b"", b"PK no archive", constants.to_bytes()[:200]):
        with pytest.raises(BackendFault, match="constants"):
            Constants.from_bytes(broken)
