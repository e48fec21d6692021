"""ONNX, recipe and calibration pictures -> TensorRT plans. No torch: this is what runs on a Jetson.

precision -> graph -> gate -> limits -> plan for each GPU -> recipe
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from build_engines.builder import EngineBuilder, open_builder
from build_engines.cache import PlanCache
from build_engines.cut import cut
from build_engines.gate import Gate, GateResult, gate_pictures
from build_engines.graph import load_onnx
from build_engines.listener import Listener
from build_engines.own_gpu import OwnGpu, PlanRunner
from build_engines.pictures import LEAST_TO_DIVIDE, halves, open_calibration
from build_engines.precision import emulated, to_half
from build_engines.qdq import fits_half
from build_engines.quantise import quantise
from build_engines.seal import BuildResult, Sealer, made_of
from calibration.thresholds import Thresholds
from edge.backends import Backend
from edge.backends.plan import WITH_KERNEL
from edge.errors import BackendFault, InspectError, RecipeError
from edge.gpu import own_sm
from edge.kernels.compile import find_compiler
from edge.paths import cache_folder
from edge.picture.tiling import MOST_TILES
from edge.picture.view import view_of
from edge.recipe import Artefact, Recipe, load_pair, recipe_left
from edge.remake import AFFINITY, ENGINE_ENDING, KERNEL, as_typed

GATE_RAN = "the graph on a CPU with the plan's roundings, not the plan itself"
GATE_RAN_PLAIN = (
    "the graph with plain operations in place of the affinity kernel, on a CPU, not the plan itself"
)
PLAN_RAN = "the plan itself, on the GPU of the machine that built it"
BATCH = MOST_TILES  # pictures of one run at most: all tiles of a large one
MOST_PIECES = 64  # of large held-out pictures: for INT8


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
    kernel: bool = False  # the affinity kernel in place of the plain operations


def build_plans(
    path: Path, options: PlanOptions, listener: Listener, runner: PlanRunner | None = None
) -> Iterator[BuildResult]:
    """Plans NAME.PRECISION.smSM.plan of an ONNX engine, each with its recipe.

    Plans that `runner` (None: this machine's own GPU) can run are asked themselves by the gate.

    Raises InspectError: for a missing or wrong file, a GPU that cannot be built for, a graph that judges
    otherwise than FP32. A plan that was refused or interrupted is not there.
    """
    engine, recipe, artefact = load_pair(path)
    if artefact.precision != "fp32":
        what = f"plans are made from the FP32 engine, not from {artefact.precision}"
        model = engine.with_name(ENGINE_ENDING.sub(".onnx", engine.name))
        raise RecipeError(what, str(engine), f"Run: {as_typed([str(model)])}")
    builder, targets = check_options(options)
    source = _Source(engine, recipe, options, listener, runner or OwnGpu(listener.note))
    for precision in options.precisions:
        try:
            yield from source.plans(source.accepted(precision), builder, targets)
        except RecipeError as error:
            if not options.best or precision == options.precisions[-1]:
                raise
            listener.note(f"{error.what}. {options.precisions[-1]} is tried")
        else:
            if options.best:
                return


def check_options(options: PlanOptions) -> tuple[EngineBuilder, list[int]]:
    """What builds, and for which GPUs. Raises InspectError for what cannot work, before the long part."""
    builder = open_builder(options.runtime)
    targets = builder.targets(options.sms)
    if options.kernel and "fp32" in options.precisions:
        hint = "Add --fp16, --int8 or --best, or leave --kernel away."
        raise InspectError("the affinity kernel reads feature maps in FP16", "--kernel", hint)
    if options.kernel and own_sm() in targets:
        find_compiler("nvcc")  # without it the plan could not be opened here
    return builder, targets


def _check_kernel(model: onnx.ModelProto, engine: Path) -> None:
    try:
        cut(model)
    except BackendFault as error:
        hint = "Leave --kernel away: the plan has the plain operations then, and judges the same."
        raise BackendFault(error.what, str(engine), hint) from error


@dataclass(frozen=True)
class _Graph:
    """What TensorRT builds, what the CPU runs to see its numbers, and what the gate said."""

    precision: str
    model: onnx.ModelProto
    stand_in: onnx.ModelProto
    islands: tuple[tuple[str, str, str], ...] = ()  # what of it stays in FP32
    gate: str = ""
    int8_share: float = 0.0


@dataclass(frozen=True)
class _Facts:
    """What the recipe of a plan says besides the plan."""

    thresholds: Thresholds
    made_with: dict[str, str]


class _Source:
    """One ONNX engine, opened: what all its plans have in common."""

    def __init__(
        self, engine: Path, recipe: Recipe, options: PlanOptions, listener: Listener, runner: PlanRunner
    ) -> None:
        self._engine, self._recipe, self._options, self._listener = engine, recipe, options, listener
        self._runner = runner
        self._model, self._view = load_onnx(engine), view_of(recipe)
        if options.kernel:
            _check_kernel(self._model, engine)
        self._calibration = open_calibration(engine, recipe, self._view, options.calibration_set)
        if self._calibration.note:
            listener.note(self._calibration.note)

    def accepted(self, precision: str) -> _Graph:
        """The graph of a precision, when the gate lets it pass. Raises RecipeError, with the figures."""
        if precision == "fp32":
            return _Graph(precision, self._model, self._model)
        if precision == "fp16":
            return self._judged(_graph_of(self._model, precision))
        if (beside := self._beside()) is not None:
            try:
                return self._judged(_graph_of(beside, precision))
            except RecipeError as error:
                self._listener.note(f"{self._engine.stem}.int8.onnx with FP16 around it: {error.what}")
        return self._quantised()

    def _judged(self, graph: _Graph) -> _Graph:
        self._listener.say(f"comparing {graph.precision} with fp32")
        return self._passed(graph, self._accept(self._gate.judge(graph.stand_in, graph.precision)))

    def _passed(self, graph: _Graph, result: GateResult) -> _Graph:
        self._listener.islands(list(graph.islands))
        return replace(graph, gate=result.verdict, int8_share=result.int8_mac_share)

    def _accept(self, result: GateResult) -> GateResult:
        self._listener.judged(result)
        if not (result or self._options.force):
            other = "--fp16" if result.precision == "int8" else "another --calibration-set"
            hint = f"{result.tolerance}. Try {other}, or --force to keep it anyway."
            what = f"{result.precision} judges otherwise than fp32: {result}"
            raise RecipeError(what, "accuracy gate", hint)
        return result

    def plans(self, graph: _Graph, builder: EngineBuilder, sms: list[int]) -> Iterator[BuildResult]:
        """Build or fetch, and seal, for each GPU."""
        out = self._sealer.folder
        out.mkdir(parents=True, exist_ok=True)
        self._listener.say(f"setting the limits of {graph.precision}")
        facts = _Facts(self._sealer.limits_of(graph.stand_in), self._made_with(graph, out))
        cache = PlanCache(cache_folder() / "plans", self._listener)
        parts = cut(graph.model) if self._options.kernel else None
        for artefact in self._in_turn(graph, builder, sms):
            sm = artefact.sm or 0
            build = partial(cache.plan, builder=builder, sm=sm, batch=BATCH)
            plan = (
                parts.built(build, builder.takes_plugins) if parts else build(graph.model.SerializeToString())
            )
            replaced = self._other_kind(artefact)
            found = self._asked(plan, artefact, graph, facts)
            about = f"SM {sm}, {builder.name}{WITH_KERNEL if self._options.kernel else ''}"
            sealed = self._sealer.seal_plan(plan, artefact, found.thresholds, found.made_with, about)
            if replaced:
                self._listener.note(replaced)
            yield sealed

    def _other_kind(self, artefact: Artefact) -> str:
        """What to say where a plan of this name has the kernel and the new one has not, or the reverse."""
        beside = self._sealer.folder / artefact.path
        old = recipe_left(beside) if beside.is_file() else None
        if old is None or (has := KERNEL in old.made_with) == self._options.kernel:
            return ""
        return f"{artefact.path} replaced the plan {'with' if has else 'without'} the affinity kernel"

    def _in_turn(self, graph: _Graph, builder: EngineBuilder, sms: list[int]) -> list[Artefact]:
        """What can be asked comes first: where its GPU refuses it, no other plan of the graph is left."""
        stem, precision = f"{self._engine.stem}.{graph.precision}", graph.precision
        every = [Artefact(f"{stem}.sm{sm}.plan", "", precision, sm, builder.name) for sm in sms]
        return sorted(every, key=lambda artefact: not self._runner.fits(artefact))

    def _made_with(self, graph: _Graph, out: Path) -> dict[str, str]:
        rate = self._options.false_reject_rate
        made_with = made_of(self._engine)
        made_with |= {"onnx": os.path.relpath(self._engine, out)}  # where the command that rebuilds finds it
        ran = GATE_RAN_PLAIN if self._options.kernel else GATE_RAN
        made_with |= {"gate": graph.gate, "gate_ran": ran} if graph.gate else {}
        made_with |= {KERNEL: AFFINITY} if self._options.kernel else {}
        return made_with | {"false_rejects": f"{rate:g}"}

    def _asked(self, plan: bytes, artefact: Artefact, graph: _Graph, facts: _Facts) -> _Facts:
        """Limits and gate of the plan itself where this machine can run it, else as they are.

        It is opened in a folder of its own: what is refused has never been beside the ONNX.
        """
        if not self._runner.fits(artefact):
            return facts
        with TemporaryDirectory() as scratch:
            trial = replace(self._sealer, folder=Path(scratch))
            pair = trial.seal_plan(plan, artefact, facts.thresholds, facts.made_with, "")
            try:
                backend = self._runner.open(pair.engine, pair.recipe)
            except BackendFault as error:
                if not self._options.force:
                    what = f"the plan cannot be opened on the GPU it is for: {error.what}"
                    hint = f"{error.next_step} --force keeps it, judged by its graph alone."
                    raise RecipeError(what, artefact.path, hint) from error
                self._listener.note(f"{artefact.path} itself was not asked, only its graph: {error}")
                return facts
            with closing(backend):
                said = self._gate_of(backend, artefact, graph)
                return _Facts(self._sealer.limits(backend), facts.made_with | said)

    def _gate_of(self, backend: Backend, artefact: Artefact, graph: _Graph) -> dict[str, str]:
        """What the gate says of the plan itself; FP32 may do without, where pictures are few."""
        if graph.precision == "fp32" and len(self._calibration.images) < LEAST_TO_DIVIDE:
            few = f"fewer than {LEAST_TO_DIVIDE} good pictures"
            self._listener.note(f"{artefact.path} was not compared with the graph: {few}")
            return {}
        self._listener.say(f"comparing {artefact.path} itself with fp32")
        result = self._accept(self._gate.judge_engine(backend, graph.precision, graph.int8_share))
        return {"gate": result.verdict, "gate_ran": PLAN_RAN}

    @cached_property
    def _sealer(self) -> Sealer:
        """One for all precisions: the FP32 graph looks at the good pictures once."""
        out, draft = self._options.out or self._engine.parent, replace(self._recipe, artefacts=())
        rate = self._options.false_reject_rate
        return Sealer(out, draft, self._view, self._calibration.images, rate, self._model)

    @cached_property
    def _gate(self) -> Gate:
        _, judging = halves(self._calibration.images)
        pictures = gate_pictures(judging, self._calibration.good, self._calibration.anomalous)
        return Gate(self._model, pictures, self._options.false_reject_rate, self._view)

    def _beside(self) -> onnx.ModelProto | None:
        """The INT8 engine beside this one where it is of the same model, with scales that FP16 holds."""
        beside = self._engine.with_name(f"{self._engine.stem}.int8.onnx")
        if not beside.is_file() or self._options.calibration_set is not None:
            return None
        path, recipe, _ = load_pair(beside)
        model = load_onnx(path)
        return model if recipe.same_model(self._recipe) and fits_half(model) else None

    def _quantised(self) -> _Graph:
        """Quantised now, by what the gate says of the plan's own roundings."""
        fitting, _ = halves(self._calibration.images)
        pieces = self._view.pieces(fitting, MOST_PIECES)
        found = quantise(
            self._model, pieces, self._gate, self._listener, lambda graph: _graph_of(graph, "int8").stand_in
        )
        kept = found if self._options.force else found.accepted()
        return self._passed(_graph_of(kept.model, "int8"), kept.gate)


def _graph_of(model: onnx.ModelProto, precision: str) -> _Graph:
    """FP32, with Q/DQ pairs or without -> mixed with FP16."""
    half = to_half(model)
    return _Graph(precision, half.model, emulated(half.model), tuple(half.table()))
