"""ONNX, recipe and calibration pictures -> TensorRT plans. No torch: this is what runs on a Jetson.

precision -> graph -> gate -> limits -> plan for each GPU -> recipe
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnx

from build_engines.builder import EngineBuilder, open_builder
from build_engines.cache import PlanCache
from build_engines.gate import Gate, gate_pictures
from build_engines.graph import load_onnx
from build_engines.listener import Listener
from build_engines.pictures import open_calibration
from build_engines.precision import emulated, to_half
from build_engines.quantise import quantise
from build_engines.seal import BuildResult, Sealer
from edge.errors import RecipeError
from edge.paths import cache_folder
from edge.recipe import ENGINE_ENDING, Artefact, Recipe, load_pair, sha256_of
from edge.tiling import MOST_TILES
from edge.view import view_of

GATE_RAN = "the graph on a CPU with the plan's roundings, not the plan itself"
BATCH = MOST_TILES  # pictures of one run at most: all tiles of a large one
MOST_PIECES = 64  # of large held-out pictures: for the gate and for INT8


@dataclass(frozen=True)
class PlanOptions:
    """As typed. `precisions` of fp32, fp16, int8; with `best` the first of them that passes is all."""

    precisions: tuple[str, ...]
    false_reject_rate: float
    best: bool = False
    sms: tuple[int, ...] = ()  # 86 is SM 8.6; none: this machine's own
    runtime: str = ""  # "": the one that is installed
    out: Path | None = None  # None: beside the ONNX
    calibration_set: Path | None = None
    force: bool = False


def build_plans(path: Path, options: PlanOptions, listener: Listener) -> Iterator[BuildResult]:
    """Plans NAME.PRECISION.smSM.plan of an ONNX engine, each with its recipe.

    Raises InspectError: for a missing or wrong file, a GPU that cannot be built for, a graph that judges
    otherwise than FP32. A plan that was refused or interrupted is not there.
    """
    engine, recipe, artefact = load_pair(path)
    if artefact.precision != "fp32":
        what = f"plans are made from the FP32 engine, not from {artefact.precision}"
        raise RecipeError(what, str(engine), f"Run: build-engines {ENGINE_ENDING.sub('.onnx', engine.name)}")
    builder = open_builder(options.runtime)
    targets = builder.targets(options.sms)
    source = _Source(engine, recipe, options, listener)
    for precision in options.precisions:
        try:
            graph = source.accepted(precision)
        except RecipeError as error:
            if not options.best or precision == options.precisions[-1]:
                raise
            listener.say(f"{precision} refused, the next one is tried: {error.what}")
            continue
        yield from source.plans(graph, builder, targets)
        if options.best:
            return


@dataclass(frozen=True)
class _Graph:
    """What TensorRT builds, what the CPU runs to see its numbers, and what the gate said."""

    precision: str
    model: onnx.ModelProto
    stand_in: onnx.ModelProto
    gate: str = ""


class _Source:
    """One ONNX engine, opened: what all its plans have in common."""

    def __init__(self, engine: Path, recipe: Recipe, options: PlanOptions, listener: Listener) -> None:
        self._engine, self._recipe, self._options, self._listener = engine, recipe, options, listener
        self._model, self._view = load_onnx(engine), view_of(recipe)
        self._calibration = open_calibration(engine, recipe, self._view, options.calibration_set)
        self._pieces = self._view.pieces(self._calibration.images, MOST_PIECES)

    def accepted(self, precision: str) -> _Graph:
        """The graph of a precision, when the gate lets it pass. Raises RecipeError, with the figures."""
        graph = self._graph(precision)
        if precision == "fp32":
            return graph
        self._listener.say(f"comparing {precision} with fp32")
        result = self._gate.judge(graph.stand_in, precision)
        self._listener.judged(result)
        if not (result or self._options.force):
            other = "--fp16" if precision == "int8" else "another --calibration-set"
            hint = f"{result.tolerance}. Try {other}, or --force to keep it anyway."
            raise RecipeError(f"{precision} judges otherwise than fp32: {result}", "accuracy gate", hint)
        return replace(graph, gate=result.verdict)

    def plans(self, graph: _Graph, builder: EngineBuilder, sms: list[int]) -> Iterator[BuildResult]:
        """Build or fetch, and seal, for each GPU."""
        out = self._options.out or self._engine.parent
        out.mkdir(parents=True, exist_ok=True)
        images, rate = self._calibration.images, self._options.false_reject_rate
        sealer = Sealer(out, replace(self._recipe, artefacts=()), self._view, images, rate)
        self._listener.say(f"setting the limits of {graph.precision}")
        thresholds = sealer.limits(graph.stand_in)
        made_with = {"of": f"{self._engine.name} {sha256_of(self._engine)}"}
        made_with |= {"gate": graph.gate, "gate_ran": GATE_RAN} if graph.gate else {}
        cache, model = PlanCache(cache_folder() / "plans"), graph.model.SerializeToString()
        for sm in sms:
            plan = cache.plan(model, builder, sm, BATCH, self._listener.say)
            name = f"{self._engine.stem}.{graph.precision}.sm{sm}.plan"
            artefact = Artefact(name, "", graph.precision, sm, builder.name)
            yield sealer.seal_plan(plan, artefact, thresholds, made_with, f"SM {sm}, {builder.name}")

    @cached_property
    def _gate(self) -> Gate:
        good, anomalous = self._calibration.good, self._calibration.anomalous
        pictures = gate_pictures(self._pieces, good, anomalous)
        return Gate(self._model, pictures, self._options.false_reject_rate)

    def _graph(self, precision: str) -> _Graph:
        if precision == "fp32":
            return _Graph(precision, self._model, self._model)
        half = to_half(self._model if precision == "fp16" else self._int8())
        self._listener.islands(list(half.table()))
        return _Graph(precision, half.model, emulated(half.model))

    def _int8(self) -> onnx.ModelProto:
        """The INT8 engine beside this one where it is of the same model, else quantised now."""
        beside = self._engine.with_name(f"{self._engine.stem}.int8.onnx")
        if beside.is_file() and self._options.calibration_set is None:
            path, recipe, _ = load_pair(beside)
            if _model_of(recipe) == _model_of(self._recipe):
                return load_onnx(path)
        found = quantise(self._model, self._pieces, self._gate, self._listener)
        return (found if self._options.force else found.accepted()).model


def _model_of(recipe: Recipe) -> tuple[object, ...]:
    """What two engines of one trained model have in common: pictures, and the constants fitted on them."""
    return recipe.name, recipe.training_set, recipe.normalisation
