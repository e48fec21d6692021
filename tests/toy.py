"""Tiny real engines for tests of everything around the model: the score is the mean grey value over 100.

`kind` "slow" does needless work on the way, "random" adds noise, so that no two libraries ever agree on it,
"touchy" fails on a picture with a white pixel (grey 250 and above).
"""

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edge.demo.show import ENGINE
from edge.recipe import Artefact, Recipe, load_recipe, recipe_path, save_recipe, sha256_of

SIDE = 64
SLOW = 400  # matrix products of SIDE x SIDE


def toy_pair(folder: Path, name: str = "toy", kind: str = "plain", **changes: object) -> Path:
    """Write engine and recipe into `folder`; pictures darker than grey 150 pass."""
    engine = folder / f"{name}.onnx"
    onnx.save(_model(kind), engine)
    recipe = Recipe(name, (SIDE, SIDE), review=1.5, fail=2.0)
    recipe = replace(recipe, **changes)  # type: ignore[arg-type]
    save_recipe(recipe.with_artefact(Artefact(engine.name, sha256_of(engine), "fp32")), recipe_path(engine))
    return engine


def demo_pair(folder: Path, **changes: object) -> Path:
    """A copy of the shipped engine in `folder`, for pictures of any size."""
    engine = Path(shutil.copy(ENGINE, folder))
    recipe = replace(load_recipe(recipe_path(ENGINE)), training_set={})
    save_recipe(replace(recipe, **changes), recipe_path(engine))  # type: ignore[arg-type]
    return engine


def _detour(kind: str) -> list[onnx.NodeProto]:
    """From "grey" to "seen"."""
    node = helper.make_node
    if kind == "slow":
        ways = [node("MatMul", [f"way{i}", "zeros"], [f"way{i + 1}"]) for i in range(SLOW)]
        return [node("Identity", ["grey"], ["way0"]), *ways, node("Add", ["grey", f"way{SLOW}"], ["seen"])]
    if kind == "random":
        return [
            node("RandomUniformLike", ["grey"], ["noise"], high=5000.0),
            node("Add", ["grey", "noise"], ["seen"]),
        ]
    if kind == "touchy":
        return [
            node("Cast", ["grey"], ["index"], to=TensorProto.INT64),
            node("Gather", ["table", "index"], ["nothing"]),
            node("Add", ["grey", "nothing"], ["seen"]),
        ]
    return [node("Identity", ["grey"], ["seen"])]


def _model(kind: str) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "channels"], ["grey"], keepdims=0),
        *_detour(kind),
        helper.make_node("Div", ["seen", "hundred"], ["anomaly_map"]),
        helper.make_node("ReduceMean", ["anomaly_map", "places"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["batch", SIDE, SIDE]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
        ],
        [
            helper.make_tensor("channels", TensorProto.INT64, [1], [3]),
            helper.make_tensor("places", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("table", TensorProto.FLOAT, [250], [0.0] * 250),
            helper.make_tensor("hundred", TensorProto.FLOAT, [], [100.0]),
            helper.make_tensor("zeros", TensorProto.FLOAT, [SIDE, SIDE], [0.0] * SIDE**2),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
