"""The TensorRT plugin, with a real TensorRT's classes and the kernel's host build, outside an engine."""

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from affinity_reference import random_case, reference

from build_engines.cut import cut
from edge.demo.show import ENGINE
from edge.errors import BackendFault
from edge.gpu import own_sm
from edge.kernels.compile import host_library
from edge.kernels.constants import Constants
from edge.kernels.launch import SharedLibrary
from edge.kernels.plugin import NAME, VERSION, is_in, plugin_creator, register
from edge.kernels.problem import Layout

trt = pytest.importorskip("tensorrt_rtx", reason="no TensorRT (pip install tensorrt-rtx)")
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the host build")


PARSED = """
import onnx, tensorrt_rtx as trt
from build_engines.cut import cut
from edge.backends.plan import error_log
from edge.demo.show import ENGINE
from edge.kernels.compile import host_library
from edge.kernels.launch import SharedLibrary
from edge.kernels.plugin import NAME, VERSION, plugin_creator

host = SharedLibrary(host_library())

class Watched(type(plugin_creator(trt, host))):
    def create_plugin(self, name, given, phase):
        made = super().create_plugin(name, given, phase)
        print("made", made.constants.sizes, flush=True)
        return made

creator = Watched()
assert trt.get_plugin_registry().register_creator(creator, "")
assert trt.get_plugin_registry().get_creator(NAME, VERSION, "") is not None
log = error_log(trt)
builder = trt.Builder(log)
network = builder.create_network(0)
print("parsed", trt.OnnxParser(network, log).parse(cut(onnx.load(ENGINE)).whole.SerializeToString()))
"""


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
    tables = Layout(constants, 2).tables.view(np.float32)
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


@pytest.mark.parametrize("cosine", [True, False])
def test_constants_survive_and_anything_else_is_refused(cosine: bool) -> None:
    constants, _ = random_case(1, local=(True, False, True), cosine=cosine)
    again = Constants.from_bytes(constants.to_bytes())
    for name in ("input_size", "channels", "sizes", "local", "grid", "top", "cosine"):
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


def test_constants_of_an_older_version_are_refused_by_name() -> None:
    """Without the measure: an engine that had the squared error alone must not be taken for one of both."""
    with np.load(io.BytesIO(random_case(1)[0].to_bytes())) as archive:
        older = {name: archive[name] for name in archive.files if name != "cosine"}
    packed = io.BytesIO()
    np.savez_compressed(packed, **older)  # type: ignore[arg-type]
    with pytest.raises(BackendFault, match="'cosine' is missing") as error:
        Constants.from_bytes(packed.getvalue())
    assert "build-engines" in error.value.next_step


def test_the_parser_makes_the_plugin_of_the_cut_graph_s_node() -> None:
    """In a process of its own, which it ends: of TensorRT for RTX 1.7 only the parser knows plugins."""
    paths = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", PARSED],
        capture_output=True,
        text=True,
        env={**os.environ, **paths},
        timeout=100,
    )
    assert "made ((64, 64), (32, 32), (16, 16))" in done.stdout, done.stderr
    assert done.returncode == -signal.SIGABRT and "parsed" not in done.stdout, (
        f"{trt.__version__} takes plugins: build the cut graph with it, and say so in docs/kernels.md"
    )


@pytest.mark.skipif(own_sm() is not None, reason="there is a GPU here")
def test_it_is_registered_only_where_it_can_run() -> None:
    with pytest.raises(BackendFault, match="no NVIDIA GPU or driver"):
        register(trt)
    assert trt.get_plugin_registry().get_creator(NAME, VERSION, "") is None


def test_what_holds_the_plugin_is_known() -> None:
    plain = onnx.load(ENGINE)
    assert is_in(cut(plain).whole.SerializeToString()) and not is_in(plain.SerializeToString())
