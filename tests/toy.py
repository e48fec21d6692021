"""A tiny real engine for tests of everything around the model: the score is the mean grey value over 100."""

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edge.recipe import Artefact, Recipe, recipe_path, save_recipe, sha256_of

SIDE = 64


def toy_pair(folder: Path, name: str = "toy", **changes: object) -> Path:
    """Write engine and recipe into `folder`; pictures darker than grey 150 pass."""
    engine = folder / f"{name}.onnx"
    onnx.save(_model(), engine)
    recipe = Recipe(name, (SIDE, SIDE), review=1.5, fail=2.0)
    recipe = replace(recipe, **changes)  # type: ignore[arg-type]
    save_recipe(recipe.with_artefact(Artefact(engine.name, sha256_of(engine), "fp32")), recipe_path(engine))
    return engine


def _model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "channels"], ["grey"], keepdims=0),
        helper.make_node("Div", ["grey", "hundred"], ["anomaly_map"]),
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
            helper.make_tensor("hundred", TensorProto.FLOAT, [], [100.0]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
