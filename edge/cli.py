"""`edge-inspect`: the composition root. Every command imports what it needs inside its function, so that the
station starts without torch and training works without a PLC library."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from edge.cameras import KNOWN
from edge.errors import InspectError
from edge.outputs import SCHEMES
from edge.station.capture import Policy

if TYPE_CHECKING:
    from edge.station.running import RunOptions

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True,
    help="Visual inspection on the production line: learns from good parts, answers the PLC, shows why.",
)  # fmt: skip
console = Console(stderr=True)

CameraOption = Annotated[
    str,
    typer.Option("--camera", help=", ".join(KNOWN)),
]
PicturesArgument = Annotated[
    Path, typer.Argument(help="Folder of good parts; or one product of MVTec AD, LOCO AD, VisA or BTAD.")
]
EngineOption = Annotated[
    Path, typer.Option("--engine", help="Model folder; or loco.onnx, with loco.recipe.json beside it.")
]
RoiOption = Annotated[str, typer.Option(help="Region of interest: x,y,width,height in camera pixels.")]
MaskOption = Annotated[Path | None, typer.Option(help="Mask: white look, black or transparent ignore.")]
AlignOption = Annotated[
    str,
    typer.Option(help="For parts that do not lie still: x,y,width,height of a mark in the first picture."),
]


def print_version(wanted: bool) -> None:
    if wanted:
        from edge import __version__

        print(f"edge-inspect {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
]


@app.callback()
def everything(version: VersionOption = False) -> None:
    """Visual inspection on the production line: learns from good parts, answers the PLC, shows why."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """One line for the engineer and the documented exit code; tracebacks are for programmers' mistakes."""
    try:
        yield
    except InspectError as error:
        console.print("[bold red]error[/]", escape(str(error)), highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        console.print("stopped")
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader of --json went away: `main` ends quietly
        raise
    except OSError as error:
        what = f"{error.strerror or error} ({error.filename or 'system'})"
        hint = "Check the path, its permissions and the free space."
        console.print("[bold red]error[/]", escape(f"{what}. {hint}"), highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except ModuleNotFoundError as error:
        extra = ".\\[engines]" if error.name == "onnx" else ".\\[train]"  # a Jetson needs no torch
        console.print(f"[bold red]error[/] {error.name} is not installed. Install: pip install -e '{extra}'")
        raise typer.Exit(2) from error


@app.command()
def collect(
    camera: CameraOption,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(help="How many pictures.", min=1)] = 200,
    every: Annotated[float, typer.Option(help="Seconds between two pictures of a live camera.", min=0)] = 0.5,
) -> None:
    """Take pictures of good parts to learn from. Stops at `--count` or with Ctrl-C."""
    from edge.picture.images import list_images
    from edge.station.collect import collect_pictures

    with plain_errors():
        saved = collect_pictures(camera, out, count, every, console)
    there = f"{saved} new pictures, {len(list_images(out))} in {out}"
    console.print(escape(there), highlight=False, soft_wrap=True)
    if "test" not in out.parts:
        show_next("Next: edge-inspect check-data", out)


@app.command()
def train(
    pictures: PicturesArgument,
    out: Annotated[Path, typer.Option(help="Model folder.")],
    teacher: Annotated[str, typer.Option(help="efficientnet-lite0, -lite1, -lite2, resnet18, resnet34, "
        "wide_resnet50_2")]
    = "efficientnet-lite0",
    teacher_weights: Annotated[Path | None, typer.Option(help="The teacher's published state dict.")] = None,
    size: Annotated[int, typer.Option(help="Model input, pixels a side; a multiple of 32.")] = 384,
    roi: RoiOption = "",
    mask: MaskOption = None,
    align: AlignOption = "",
    tile: Annotated[bool, typer.Option("--tile", help="Tiles, for pictures above 1,024 pixels.")] = False,
    local_student: Annotated[str, typer.Option(help="forward or reverse")] = "",
    measure: Annotated[str, typer.Option(help="squared, cosine or both")] = "",
    context_grid: Annotated[int | None, typer.Option(help="Affinity: GRID x GRID context places.")] = None,
    bottleneck: Annotated[str, typer.Option(help="GCCB: convolution or attention")] = "",
    normalisation: Annotated[str, typer.Option(help="Of the maps: place, quantile or deviation")] = "",
    fusion: Annotated[str, typer.Option(help="Of the maps: max, trusted (each branch as loud as "
        "it is worth), sum or reliability")] = "",
    pooled_distance: Annotated[bool, typer.Option(help="Distance of pooled features in the score.")] = True,
    word_distance: Annotated[bool, typer.Option(help="Distance of the word histogram in the score.")] = True,
    steps: Annotated[int | None, typer.Option(help="Training steps. Default: 1600 at most, fewer where it "
        "learns nothing more.", min=1)] = None,
    flips: Annotated[bool, typer.Option(help="Also learn mirrored parts, where they are good.")] = False,
    seed: int = 0,
    restart: Annotated[bool, typer.Option(help="Forget an interrupted run.")] = False,
) -> None:  # fmt: skip
    """Learn from good parts. Continues by itself where an interrupted run of the same settings stopped."""
    with plain_errors():
        from calibration.views import ViewOptions
        from distillation.detector import DetectorConfig
        from distillation.learn import learn, remove_leftovers
        from distillation.progress import ProgressBars
        from distillation.train import TrainConfig
        from edge.paths import check_folder

        chosen = {"local_student": local_student, "measure": measure, "context_grid": context_grid,
                  "bottleneck": bottleneck, "normalisation": normalisation, "fusion": fusion}  # fmt: skip
        wholes = {"pooled_distance": pooled_distance, "word_distance": word_distance}
        config = DetectorConfig(teacher, (size, size), **wholes)  # type: ignore[arg-type]
        config = replace(config, **{k: v for k, v in chosen.items() if v not in (None, "")})  # type: ignore[arg-type]
        training = TrainConfig(seed=seed, flips=flips, **({"steps": steps} if steps else {}))
        check_folder(out, "--out")
        if restart:
            remove_leftovers(out)
        options = ViewOptions(parse_roi(roi), mask, parse_roi(align, "--align"), tile)
        begun = time.monotonic()
        try:
            with ProgressBars(console) as bars:
                result = learn(pictures, out, bars, config, training, teacher_weights, options)
        except KeyboardInterrupt:
            console.print("stopped. The same command goes on where it was.")
            raise typer.Exit(130) from None
    took = f"in {(time.monotonic() - begun) / 60:.1f} min"
    console.print(f"[green]trained[/] {escape(str(out))} {took}", highlight=False, soft_wrap=True)
    show_next(f"best step {result.best_step}. Next: build-engines", out)


@app.command("check-data")
def check_data(
    pictures: PicturesArgument,
    out: Annotated[Path | None, typer.Option(help="report.html: the pictures, worst first.")] = None,
    roi: RoiOption = "",
    mask: MaskOption = None,
    align: AlignOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Before training: copies, odd ones out, wrong sizes, bad light. Exit code 1 when something was found."""
    with plain_errors():
        from calibration.views import ViewOptions
        from distillation import check

        options = ViewOptions(parse_roi(roi), mask, parse_roi(align, "--align"))
        code = check.check_data(pictures, out, options, as_json, console)
    raise typer.Exit(code)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder or engine.")],
    pictures: Annotated[Path, typer.Argument(help="Data set with test/good and test/<type>.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Where report.html goes; default: beside the engine.")
    ] = None,
    backend: str = "auto",
) -> None:
    """Figures and pictures on labelled test parts; writes report.html."""
    with plain_errors():
        from calibration.show import evaluate_and_report

        evaluate_and_report(model, pictures, backend, report, as_json, console)


@app.command()
def run(
    cameras: Annotated[list[str], typer.Option("--camera", help=f"{', '.join(KNOWN)}; several look at one "
        "part, where a trigger starts it.")],
    engines: Annotated[list[Path], typer.Option("--engine", help="Model folder; or loco.onnx, with "
        "loco.recipe.json beside it. For several cameras one, or one for each.")],
    plc: Annotated[list[str], typer.Option(help=f"Output; may be given several times: {', '.join(SCHEMES)}. "
        "?handshake=bits or ids: the PLC triggers.")] = [],  # noqa: B006
    backend: Annotated[str, typer.Option(help="auto, onnxruntime, openvino, tensorrt")] = "auto",
    policy: Annotated[Policy, typer.Option(help="latest drops old pictures, every judges all of them.")]
    = Policy.LATEST,
    save: Annotated[Path | None, typer.Option(help="Folder for heat maps of stopped parts.")] = None,
    save_all: Annotated[bool, typer.Option(help="Save heat maps of all parts.")] = False,
    count: Annotated[int, typer.Option(help="Stop after so many verdicts; 0: run on.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, then the summary.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild-if-needed", help="Build a plan that does not fit this "
        "machine again; until it is there, inspect with the .onnx beside it.")] = False,
    in_process: Annotated[bool, typer.Option("--in-process", help="The engine in the station's own process, "
        "which cannot start it again when it hangs or crashes.")] = False,
    engine_memory: Annotated[int, typer.Option(help="MiB that the engine's process may take; 0: three "
        "quarters of the machine's.", min=0)] = 0,
    trigger: Annotated[str, typer.Option(help="What starts a part where no PLC does: camera, presence:, "
        "http://127.0.0.1:8000")] = "",
    shots: Annotated[int, typer.Option(help="Pictures of one part.", min=1, max=8)] = 1,
    gate: Annotated[str, typer.Option(help="Reject gate: distance=1200ms,tolerance=40ms; or counts.")] = "",
    recipes: Annotated[list[str], typer.Option("--recipe", help="Another engine that the PLC may load, "
        "2=lid/; may be given several times. 1 is --engine.")] = [],  # noqa: B006
    dry: Annotated[bool, typer.Option("--dry-run", help="Check camera, engine, outputs; then stop.")] = False,
) -> None:  # fmt: skip
    """Inspect: picture in, verdict out, until the source ends or Ctrl-C."""
    from edge.engines.choice import choose
    from edge.engines.engine import Housing
    from edge.engines.selftest import GoldenMemory
    from edge.paths import cache_folder
    from edge.station.line import LineOptions, parse_recipes, view_choices
    from edge.station.running import RunOptions

    with plain_errors():
        first, *views = view_choices(cameras, [choose(engine, backend) for engine in engines])
        camera, choice = first
        for each in dict.fromkeys(view.note for _, view in (first, *views) if view.note):
            show_note(each)
        others = {number: choose(path, backend) for number, path in parse_recipes(recipes).items()}
        line = LineOptions(trigger, shots, gate, others, tuple(views))
        options = RunOptions(
            camera, choice.engine, plc, choice.backend, policy, save, save_all, count, rebuild,
            Housing(not in_process, engine_memory, GoldenMemory(cache_folder() / "golden")), line,
        )  # fmt: skip
        code = show_dry_run(options, as_json) if dry else run_station(options, as_json)
    raise typer.Exit(code)


@app.command()
def bench(
    engine: Annotated[Path, typer.Argument(help="Engine file or model folder.")],
    backend: Annotated[str, typer.Option(help="As for run; or all, side by side.")] = "auto",
    camera: Annotated[str, typer.Option(help="Pictures, as for run; default: drawn ones.")] = "",
    count: Annotated[int, typer.Option(help="How many pictures.", min=1)] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What a picture takes here, stage by stage, against the deadline. Exit code 1 when it is not met."""
    from edge.engines.bench_show import bench_and_show

    with plain_errors():
        code = bench_and_show(engine, backend, camera, count, as_json, console)
    raise typer.Exit(code)


@app.command()
def doctor(
    engine: Annotated[Path | None, typer.Option(help="Engine file or model folder.")] = None,
    camera: Annotated[str, typer.Option(help="As for run.")] = "",
    plc: Annotated[list[str], typer.Option(help="As for run; nothing is written to it.")] = [],  # noqa: B006
    backend: Annotated[str, typer.Option(help="As for run.")] = "auto",
    save: Annotated[Path | None, typer.Option(help="As for run: the folder's disk.")] = None,
    interface: Annotated[str, typer.Option(help="Network card of a GigE camera, e.g. enp3s0.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:  # fmt: skip
    """Is this machine fit to be a station? What is wrong, what to do. Exit code 1 when something fails."""
    from edge.doctor.examine import Patient, examine, exit_code, show

    with plain_errors():
        findings = list(examine(Patient(engine, backend, camera, plc, save, interface)))
        if as_json:
            print(json.dumps([finding.to_json() for finding in findings]))
        else:
            show(findings, console)
    raise typer.Exit(exit_code(findings))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the heat maps go.")] = Path("demo-run"),
    parts: Annotated[int, typer.Option(help="How many parts.", min=1)] = 120,
    fps: Annotated[float, typer.Option(help="Parts a second.")] = 8.0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """The main job on this machine alone: simulated conveyor, shipped engine, simulated PLC on loopback."""
    from edge.demo.show import run_demo

    with plain_errors():
        code = run_demo(out, parts, fps, as_json, console)
    raise typer.Exit(code)


@app.command("plc-sim")
def plc_sim(
    uri: Annotated[str, typer.Argument(help="The station's --plc; serial:pty makes a port for it.")],
    parts: Annotated[int, typer.Option(help="Stop after so many parts; 0: run on.", min=0)] = 0,
    rate: Annotated[float, typer.Option(help="Parts a second, at most.", min=0.01)] = 2.0,
    handshake: Annotated[str, typer.Option(help="bits or ids; default: what the URI says.")] = "",
    wait: Annotated[
        float, typer.Option(help="Stop after so many seconds in which nothing came of --parts.", min=0)
    ] = 60.0,
    command: Annotated[
        list[str] | None,
        typer.Option(help="Give it once after the start: load=2, challenge, reset, lot=17, clear."),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="A sensor at the gate sees every rejected part.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """A PLC for trying a station without one: triggers parts, draws the signals, says what is wrong."""
    from edge.plcsim.run import SimOptions, run_plc

    with plain_errors():
        options = SimOptions(uri, handshake, parts, rate, wait, command or [], confirm)
        code = run_plc(options, as_json, console)
    raise typer.Exit(code)


@app.command()
def recipe(
    engine: Annotated[Path, typer.Argument(help="Engine file or model folder.")],
    review: Annotated[float | None, typer.Option(help="Scores below it pass.")] = None,
    fail: Annotated[float | None, typer.Option(help="Scores from it on fail.")] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="From picture to verdict.")] = None,
    max_frame_age_ms: Annotated[float | None, typer.Option(help="Older pictures are not judged.")] = None,
    on_fault: Annotated[str | None, typer.Option(help="fail or review")] = None,
    health: Annotated[
        str | None, typer.Option(help="Good pictures (a folder) to tell bad ones by; off")
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help="The camera's settings, exposure_us=5000&gain=3; off")
    ] = None,
    restore: Annotated[bool, typer.Option(help="Write the recipe anew from the engine's own copy.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole recipe.")] = False,
) -> None:
    """Show a recipe, or change its limits and seal it again."""
    from edge.picture.view import view_of
    from edge.picture.view_show import view_lines
    from edge.recipe_show import shown
    from edge.settings import change_recipe, readable, restore_recipe
    from edge.station.camera_settings import camera_option

    with plain_errors():
        changes = {"review": review, "fail": fail, "deadline_ms": deadline_ms,
                   "max_frame_age_ms": max_frame_age_ms, "on_fault": on_fault,
                   "health": None if health is None else measured_health(engine, health),
                   "camera": None if camera is None else camera_option(camera)}  # fmt: skip
        if restore:
            before = now = restore_recipe(engine)
        else:
            before, now = change_recipe(engine, changes, show_note)
        print(readable(now) if as_json else shown(now, before, view_lines(view_of(now))), end="")


def measured_health(engine: Path, text: str) -> dict[str, Any]:
    """What `--health` asks for, seen through the recipe's region of interest."""
    from calibration.health import health_option
    from edge.picture.view import view_of
    from edge.recipe import load_pair

    return health_option(text, view_of(load_pair(engine)[1]))


def show_next(command: str, folder: Path) -> None:
    """What to type next: it can be pasted, whatever the folder is called."""
    console.print(f"{command} {escape(shlex.quote(str(folder)))}", highlight=False, soft_wrap=True)


def show_note(text: str) -> None:
    """One line for a person, beside what goes to the standard output."""
    console.print(f"[bold yellow]note[/] {escape(text)}", highlight=False, soft_wrap=True)


def show_dry_run(options: "RunOptions", as_json: bool) -> int:
    """Print every check; the exit code is that of the first fault."""
    from edge.listing import listing
    from edge.station.dry_run import dry_run

    checks = dry_run(options)
    if as_json:
        print(json.dumps([{"what": c.what, "ok": c.error is None, "detail": c.detail} for c in checks]))
    else:
        states = {True: "[green]ok[/]", False: "[bold red]fault[/]"}
        rows = ((states[check.error is None], check.what, [check.detail]) for check in checks)
        console.print(listing(rows), highlight=False)
    return next((check.error.exit_code for check in checks if check.error), 0)


def run_station(options: "RunOptions", as_json: bool) -> int:
    """Run to the end and print the summary; the exit code says whether camera and outputs ever worked."""
    from edge.recipe import find_engine, stale_note
    from edge.station.live import summary, summary_table, watched
    from edge.station.systemd import told

    if not options.rebuild and (note := stale_note(find_engine(options.engine))):
        show_note(note)
    if not options.outputs and not as_json and options.line.kind != "http":
        show_note("no --plc: the verdicts are shown here and go nowhere else")
    if as_json:
        options = replace(options, outputs=[*options.outputs, "jsonl:-"])
    with (
        watched(options, console, quiet=as_json) as running,
        told(running.station.turns, running.recipe.identity),
    ):
        running.station.run(options.count)
    if as_json:
        print(json.dumps({"summary": summary(running)}), flush=True)
    else:
        console.print(summary_table(running))
    return running.exit_code()


def parse_roi(text: str, option: str = "--roi") -> tuple[int, int, int, int] | None:
    """`x,y,width,height` -> four numbers; empty -> None. Raises InspectError."""
    if not text:
        return None
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InspectError(
            f"{text!r} is not a region", option, "Give x,y,width,height, e.g. 100,80,640,480."
        ) from error
    if min(x, y) < 0 or min(width, height) <= 0:
        hint = "x and y must not be below zero, width and height be above it."
        raise InspectError(f"{text!r} is no region of a picture", option, hint)
    return x, y, width, height


def main() -> None:
    """Entry point."""
    try:
        app()
    except BrokenPipeError:  # the reader of --json went away
        sys.stderr.close()
        sys.exit(0)
