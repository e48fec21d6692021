"""INT8: what bears it is found by measuring, and what good parts look like in INT8 is the new normal."""

import io

import numpy as np
import onnx
import pytest
from onnx import helper
from plans import good_pictures
from rich.console import Console
from rich.status import Status

from build_engines.cli import SHOWN, _Screen
from build_engines.gate import Gate, gate_pictures, run_graph
from build_engines.graph import convolutions, load_onnx, producers, work_of
from build_engines.listener import Listener
from build_engines.pictures import halves
from build_engines.precision import emulated, to_half
from build_engines.quantise import Quantised, int8_of, quantise, with_anomalies
from build_engines.recalibrate import GoodParts
from build_engines.sensitivity import Sensitivity, stay_float, time_left
from edge.demo.show import ENGINE
from edge.errors import RecipeError

pytestmark = pytest.mark.timeout(600)  # the sweep runs every convolution alone


@pytest.fixture(scope="module")
def detector() -> onnx.ModelProto:
    return load_onnx(ENGINE)


@pytest.fixture(scope="module")
def found(detector: onnx.ModelProto) -> Quantised:
    fitting, judging = halves(good_pictures(24))
    return quantise(detector, fitting, Gate(detector, gate_pictures(judging), 0.003), Listener())


def test_most_of_the_work_is_in_int8_and_judges_as_fp32(found: Quantised) -> None:
    assert found.accepted() is found
    assert found.gate.int8_mac_share >= 0.9
    assert found.gate.score_correlation > 0.999
    assert abs(found.gate.auroc_delta) <= 0.002 and found.gate.flip_rate <= 0.005


def test_the_sweep_finds_the_teachers_first_layers_by_itself(
    found: Quantised, detector: onnx.ModelProto
) -> None:
    """Known from trying by hand: the first depthwise convolution and the blur of the map."""
    names = [node.name for node in convolutions(detector)]
    assert {names[1], names[-1]} <= set(found.in_float)
    assert len(found.table) == len(names)


def test_the_budget_is_kept_and_goes_to_the_worst() -> None:
    rows = [Sensitivity("a", (), 0.05, 0.5, 0.5), Sensitivity("b", (), 0.06, 0.4, 0.4),
            Sensitivity("c", (), 0.01, 0.1, 0.1)]  # fmt: skip
    assert stay_float(rows, 0.1) == ("a", "c")
    assert rows[0].damage > rows[1].damage


def test_the_time_that_is_left_is_told_from_a_minute_on() -> None:
    assert time_left(0.0, 0, 60) == time_left(50.0, 30, 60) == time_left(5.0, 60, 60) == ""
    assert time_left(60.0, 20, 60) == ", about 2 min left"


def test_layers_are_named_as_a_person_and_a_narrow_terminal_can_read_them() -> None:
    """The story: the table said node_conv2d_44, and even that was cut."""
    names = [f"teacher.blocks.{i}.depthwise.conv.weight" for i in range(16)]
    names += [
        "globl.decoder.stages.2.0.0.weight",
        "onnx::Conv_12",
        "a.very.long.way.to.a.tiny.convolution.weight",
    ]
    rows = [Sensitivity(f"node_{i}", (320, 1, 5, 5), 0.1, 0.1, 0.1, name) for i, name in enumerate(names)]
    layers = [row.layer for row in rows]
    assert layers[10] == "teacher.blocks.10.depthwise"
    assert layers[16:18] == ["globl.decoder.stages.2.0.0", "onnx::Conv_12"]
    assert layers[18].startswith("...") and layers[18].endswith(".a.tiny.convolution")
    assert len(set(layers)) == len(names) and Sensitivity("node_1", (), 1, 1, 1).layer == "node_1"
    screen = Console(file=io.StringIO(), width=80)
    _Screen(screen, Status(""), False).sensitivities(rows[-SHOWN:], ())
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert all(layer in shown for layer in layers[-SHOWN:]) and "320x1x5x5" in shown


def test_work_is_counted_in_the_graph() -> None:
    """A 3 x 3 convolution from 4 to 8 channels on 6 x 6 places: 8 * 36 * 4 * 9. Behind it a transposed one
    spreads each of these places over 2 x 2 of 5 channels: 8 * 36 * 5 * 4."""
    weights = onnx.numpy_helper.from_array(np.zeros((8, 4, 3, 3), np.float32), "w")
    spread = onnx.numpy_helper.from_array(np.zeros((8, 5, 2, 2), np.float32), "s")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["y", "s"], ["z"], "back", strides=[2, 2]),
    ]
    values = [helper.make_tensor_value_info(n, 1, shape) for n, shape in (("x", [1, 4, 6, 6]), ("z", None))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weights, spread])
    assert work_of(helper.make_model(graph)) == {"conv": 8 * 36 * 4 * 9, "back": 8 * 36 * 5 * 4}


def test_only_convolutions_read_what_is_rounded(detector: onnx.ModelProto) -> None:
    """The story: statistics and errors that read the INT8 copy of the teacher's maps erred twice as much."""
    graph = int8_of(detector, good_pictures(2)).graph(())
    behind = producers(graph)
    reading = {node.op_type for node in graph.graph.node for name in node.input
               if name in behind and behind[name].op_type == "DequantizeLinear"}  # fmt: skip
    assert reading == {"Conv"}


def test_the_graph_in_half_answers_alike(found: Quantised) -> None:
    """What stands for the plan; values rounded to FP16 fall on other INT8 steps here and there.

    The story: INT8 copies and values rounded to FP16 had the same names, and no plan could be judged.
    """
    pictures = with_anomalies(good_pictures(4), 4)
    right, half = (run_graph(one, pictures)[1] for one in (found.model, emulated(to_half(found.model).model)))
    assert half[:4] == pytest.approx(right[:4], abs=0.25)
    assert np.corrcoef(right, half)[0, 1] > 0.999


def test_recalibration_brings_good_parts_back(detector: onnx.ModelProto) -> None:
    good, others = good_pictures(12), good_pictures(12, seed=5)
    graph = int8_of(detector, good).graph(())  # all in INT8: far off
    right = run_graph(detector, others)[1].mean()
    before = run_graph(graph, others)[1].mean()
    GoodParts(detector, good).recalibrate(graph)
    after = run_graph(graph, others)[1].mean()
    assert abs(after - right) < 0.5 * abs(before - right)


def test_few_good_pictures_give_as_many_anomalies() -> None:
    good = good_pictures(5)
    assert len(with_anomalies(good, 4)) == 4 + 8
    assert len(with_anomalies(good[:2], 4)) == 2 + 8


def test_a_graph_of_another_version_is_refused_in_words(detector: onnx.ModelProto) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(detector)
    for tensor in other.graph.initializer:
        tensor.name = tensor.name.replace("score.", "points.")
    with pytest.raises(RecipeError, match="exported by another version"):
        GoodParts(other, good_pictures(2))
