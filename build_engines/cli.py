"""`build-engines`: from a trained model folder, or from an ONNX engine, to engines."""

import json
import shlex
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Column, Table

from build_engines.listener import Listener
from calibration.thresholds import FALSE_REJECT_RATE
from edge.cli import VersionOption, plain_errors, show_note
from edge.errors import InspectError

if TYPE_CHECKING:
    from build_engines.gate import GateResult
    from build_engines.plans import PlanOptions
    from build_engines.seal import BuildResult
    from build_engines.sensitivity import Sensitivity

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
PLANS = "TensorRT plans"
SHOWN = 16  # convolutions: the others bear INT8 well


ModelArgument = Annotated[
    Path,
    typer.Argument(help="Model folder as `edge-inspect train` writes it; or its .onnx (no torch needed)."),
]
FalseRejectsOption = Annotated[
    float, typer.Option(help="Share of good parts that may be stopped; sets the limits.", min=1e-5, max=0.2)
]
Int8Option = Annotated[
    bool, typer.Option("--int8", help="Also build NAME.int8.onnx, or the plan in INT8 (explicit Q/DQ).")
]
Fp16Option = Annotated[
    bool, typer.Option("--fp16", help="FP16 plan, FP32 where needed.", rich_help_panel=PLANS)
]
BestOption = Annotated[
    bool,
    typer.Option("--best", help="INT8 plan if it judges as FP32 does, else FP16.", rich_help_panel=PLANS),
]
KernelOption = Annotated[
    bool,
    typer.Option(
        "--kernel", help="With the fused affinity kernel (needs nvcc where it runs).", rich_help_panel=PLANS
    ),
]
SmOption = Annotated[
    str, typer.Option(help="GPUs: 86,89,120 for SM 8.6, ... Default: this one.", rich_help_panel=PLANS)
]
RuntimeOption = Annotated[
    str, typer.Option(help="tensorrt or tensorrt-rtx. Default: what is installed.", rich_help_panel=PLANS)
]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder for the plans. Default: beside the ONNX.", rich_help_panel=PLANS)
]
CalibrationSetOption = Annotated[
    Path | None,
    typer.Option(help="Good pictures for limits, INT8 and gate. Default: held-out ones."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the accuracy gate's figures as JSON.", rich_help_panel=PLANS)
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Keep a plan that the gate refuses.", rich_help_panel=PLANS)
]


@app.command()
def build(
    model: ModelArgument,
    false_rejects: FalseRejectsOption = FALSE_REJECT_RATE,
    int8: Int8Option = False,
    fp16: Fp16Option = False,
    best: BestOption = False,
    kernel: KernelOption = False,
    sm: SmOption = "",
    runtime: RuntimeOption = "",
    out: OutOption = None,
    calibration_set: CalibrationSetOption = None,
    as_json: JsonOption = False,
    force: ForceOption = False,
    version: VersionOption = False,
) -> None:
    """Export the model to ONNX, check it against torch, set the limits from good parts, seal the recipe.

    With --fp16, --best, --kernel, --sm or --runtime, or from an .onnx: build TensorRT plans too.
    """
    console = Console(stderr=True)
    with plain_errors(), console.status("loading") as status:
        from build_engines.plans import PlanOptions

        options = PlanOptions(
            _precisions(fp16, int8, best), false_rejects, best=best, sms=_targets(sm), runtime=runtime,
            out=out, calibration_set=calibration_set, force=force, kernel=kernel,
        )  # fmt: skip
        wants_plans = model.suffix == ".onnx" or fp16 or best or kernel or bool(sm or runtime)
        try:
            told: list[str] = []
            for result in _results(model, options, int8, wants_plans, _Screen(console, status, as_json)):
                told = _show(console, result, told)
                _Interrupt.check()
        except (KeyboardInterrupt, Exception) as error:
            if not (_Interrupt.came or isinstance(error, KeyboardInterrupt)):
                raise
            console.print("stopped. What was built before is whole; nothing half-written is left.")
            raise typer.Exit(130) from None


def _results(
    model: Path, options: "PlanOptions", int8: bool, wants_plans: bool, listener: "_Screen"
) -> Iterator["BuildResult"]:
    """The ONNX engines of a folder, then the plans of the FP32 one."""
    if model.is_file() and model.suffix != ".onnx":
        hint = "Give the model folder, or its .onnx."
        raise InspectError("this is neither a model folder nor an ONNX engine", str(model), hint)
    if options.out is not None and not wants_plans:
        hint = "Leave it away, or say which plan: --fp16, --best, --kernel, --sm or --runtime."
        what = "ONNX engines stay in the model folder; no TensorRT plan was asked for"
        raise InspectError(what, f"--out {options.out}", hint)
    if wants_plans:
        from build_engines.plans import check_options

        check_options(options)
    if model.suffix != ".onnx":
        model = yield from _onnx_engines(model, options, int8, listener)
    if wants_plans:
        from build_engines.plans import build_plans

        yield from build_plans(model, options, listener)


def _onnx_engines(
    folder: Path, options: "PlanOptions", int8: bool, listener: "_Screen"
) -> Generator["BuildResult", None, Path]:
    """The ONNX engines of a model folder; returns the FP32 one's path."""
    from build_engines.build import build_engines
    from edge.paths import check_folder
    from edge.settings import set_by_hand

    check_folder(folder, "model")
    by_hand = {engine: set_by_hand(engine) for engine in sorted(folder.glob("*.onnx"))}
    built = []
    rate, pictures = options.false_reject_rate, options.calibration_set
    for result in build_engines(folder, rate, int8, listener, options.force, pictures):
        built.append(result.engine)
        yield result
        if again := by_hand.get(result.engine):
            command = f"edge-inspect recipe {shlex.quote(str(result.engine))} {again}"
            show_note(f"settings made by hand are gone; where they shall hold again: {command}")
    return built[0]


def _precisions(fp16: bool, int8: bool, best: bool) -> tuple[str, ...]:
    if best:
        return "int8", "fp16"
    return tuple(name for name, on in (("fp16", fp16), ("int8", int8)) if on) or ("fp32",)


def _targets(text: str) -> tuple[int, ...]:
    """ "86,89" -> (86, 89). Raises InspectError."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        hint = "Write SM 8.6 and SM 8.9 as: --sm 86,89"
        raise InspectError(f"{text!r} is not a list of compute capabilities", "--sm", hint) from error


@dataclass(frozen=True)
class _Screen(Listener):
    """Tells a person on stderr, and a program on stdout."""

    console: Console
    status: Status
    as_json: bool

    def say(self, text: str) -> None:
        _Interrupt.check()
        self.status.update(escape(text))

    def note(self, text: str) -> None:
        show_note(text)

    def islands(self, rows: list[tuple[str, str, str]]) -> None:
        table = Table("in FP32", "what it is", "why", title="FP16, but for these", title_justify="left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def sensitivities(self, table: "Sequence[Sensitivity]", in_float: Sequence[str]) -> None:
        whole = [Column(name, no_wrap=True) for name in ("convolution", "weights")]
        shown = Table(*whole, "share of work", "map error", "score error", "stays in",
                      title="Each convolution alone in INT8: the worst", title_justify="left")  # fmt: skip
        for row in table[:SHOWN]:
            stays = "float" if row.name in in_float else "INT8"
            errors = f"{row.map_error:.3f}", f"{row.score_error:.3f}"
            shown.add_row(row.layer, "x".join(map(str, row.weights)), f"{row.work:.1%}", *errors, stays)
        self.console.print(shown)

    def judged(self, result: "GateResult") -> None:
        if self.as_json:
            print(json.dumps(result.to_json()))
        verdict = "[green]passed[/]" if result else "[red]refused[/]"
        self.console.print(f"gate, {result.precision}: {verdict}: {result}", highlight=False)


def _show(console: Console, result: "BuildResult", told: list[str]) -> list[str]:
    """One engine; returns the lines about its limits, which are not repeated where they were `told` last."""
    recipe, done = result.recipe, "built" if result.changed else "unchanged"
    precision = recipe.artefacts[0].precision
    console.print(f"[green]{done}[/] {result.engine} ({precision}): {result.agreement}", highlight=False)
    lines = [
        f"limits: below {recipe.review:.3f} pass, from {recipe.fail:.3f} fail, between them review",
        f"expected false rejects: {result.expectation}",
        *(f"[yellow]note[/] {note}" for note in result.thresholds.notes),
    ]
    for line in lines if lines != told else ():
        console.print(line)
    return lines


class _Interrupt:
    """Ctrl-C, remembered: libraries on the way make errors of their own of it, or nothing at all."""

    came = False

    @classmethod
    def handle(cls, number: int, frame: object) -> None:
        cls.came = True
        raise KeyboardInterrupt

    @classmethod
    def check(cls) -> None:
        """Raise what somebody on the way swallowed."""
        if cls.came:
            raise KeyboardInterrupt


def main() -> None:
    """Entry point. SIGTERM ends it as Ctrl-C does: what is half-written goes again."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a script's background
        signal.signal(signal.SIGINT, _Interrupt.handle)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    app()
