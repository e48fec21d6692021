"""Putting a station together from what the user typed, running it, and checking it beforehand."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edge.cameras import Camera, camera_kind, camera_opener, safe_uri
from edge.cameras.device_names import number_note
from edge.engines.choice import Choice
from edge.engines.engine import Housing, open_engine, pace
from edge.engines.rebuild import Replacement, Say, Start, begin
from edge.errors import CameraLost, CameraTimeout, FrameIncomplete, InspectError, OutputLost
from edge.frame import Pixels
from edge.outputs import Output, caution_of, handshake_of, kept_verdicts, output_opener
from edge.paths import check_folder
from edge.picture.view import view_of
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.recipe import Recipe, load_pair, size_note, stale_note
from edge.remake import is_plan
from edge.station.archive import Archive
from edge.station.camera_settings import with_settings
from edge.station.capture import Policy
from edge.station.evidence import EvidenceWriter
from edge.station.http_trigger import HttpTrigger
from edge.station.line import HTTP, LineOptions
from edge.station.loop import Observer, Station
from edge.station.outbox import Outbox
from edge.station.wiring import camera_of, capture_of, map_limit, outbox_age_s, recipes_of, wire
from edge.station.worker import InferenceWorker

ISOLATED = Housing(isolated=True)
SAME_WISH_S = 1.0  # a second signal so soon after the first
FIRST_PICTURE_S = 10.0  # a GigE or RTSP camera may take seconds to give its first picture


@dataclass(frozen=True)
class RunOptions:
    """`edge-inspect run`, as typed."""

    camera: str
    engine: Path
    outputs: Sequence[str] = ()
    backend: str = "auto"
    policy: Policy = Policy.LATEST
    save: Path | None = None
    save_all: bool = False
    count: int = 0
    rebuild: bool = False  # a plan that does not fit this machine
    housing: Housing = ISOLATED
    line: LineOptions = field(default_factory=LineOptions)


@dataclass
class Running:
    """A station that is about to run, with all its parts."""

    station: Station
    picture_ms: float  # what one picture takes here, with the engine that the station begins with
    outboxes: dict[str, Outbox | Archive] = field(default_factory=dict)  # URI without password -> outbox
    evidence: EvidenceWriter | None = None

    @property
    def recipe(self) -> Recipe:
        """That the next part is judged by."""
        return self.station.recipe

    def exit_code(self) -> int:
        """0, or the code of what never worked: camera 4, an output 5 (docs/errors.md)."""
        if self.station.counters.total and not self.station.capture.counters.frames:
            return CameraLost.exit_code
        silent = [box for box in self.outboxes.values() if box.last_error and not box.counters.sent]
        return OutputLost.exit_code if silent else 0


def _nobody(text: str) -> None:
    pass


@contextmanager
def station_of(
    options: RunOptions,
    observers: Sequence[Observer] = (),
    say: Say = _nobody,
    source: Callable[[], Camera] | None = None,
) -> Iterator[Running]:
    """Open everything, hand it out, close everything again. Raises InspectError before the first part.

    `say` hears, from any thread, how an engine is rebuilt. `source` opens a camera that no URI names.
    """
    if source is None:
        camera_opener(options.camera)  # what cannot be read is said before the engine is opened
    if note := number_note(options.camera):
        say(note)
    links = {safe_uri(uri): PlcLink(handshake_of(uri)) for uri in options.outputs}
    openers = {safe_uri(uri): output_opener(uri, link=links[safe_uri(uri)]) for uri in options.outputs}
    if len(openers) < len(options.outputs):
        raise InspectError("the same output is given twice", ", ".join(openers), "Give each output once.")
    for caution in filter(None, map(caution_of, options.outputs)):
        say(caution)
    trigger = _trigger(links)
    options.line.check(trigger is not None, options.outputs)
    if options.save is not None:
        check_folder(options.save, "--save")
    start = _start(options, say)
    opened = start.opened
    for link in links.values():
        link.recipe = opened.recipe.identity
        link.simulated = source is None and camera_kind(options.camera) == "conveyor"
    with ExitStack() as stack:
        worker = InferenceWorker(opened.backend, opened.recipe, opened.artefact.sha256)
        stack.callback(worker.close)
        camera = camera_of(options, opened.recipe, source)
        evidence = _evidence(options, opened.recipe)
        if evidence is not None:
            stack.callback(evidence.close)
        if trigger is not None and options.policy is Policy.EVERY:
            say("--policy every is for free run: with a trigger each part gets the first picture after it")
        capture = stack.enter_context(
            capture_of(options, camera.opener(opened.recipe.camera), asked=trigger is not None)
        )
        station = Station(capture, worker, opened.recipe, [*observers, *([evidence] if evidence else [])])
        stack.callback(station.close)
        if trigger is not None:
            station.trigger = trigger
        outboxes = {uri: _outbox(uri, opener, station) for uri, opener in openers.items()}
        station.outboxes = sorted(outboxes.values(), key=lambda box: not isinstance(box, Archive))
        for link in links.values():
            link.archive = station.archive
        for outbox in outboxes.values():
            stack.callback(outbox.close)
        running = Running(station, opened.picture_ms, outboxes, evidence)
        wire(options, running, links, trigger, partial(_start, say=say), say, stack, camera)
        if start.maker is not None:
            stack.callback(Replacement(start.maker, station, opened, say).close)
        yield running


def _start(options: RunOptions, say: Say) -> Start:
    """The engine that was asked for, or what stands in for it."""
    if options.rebuild and not is_plan(options.engine):
        say(f"--rebuild-if-needed is for plans; {options.engine.name} needs no rebuilding")
    if not (options.rebuild and is_plan(options.engine)):
        return Start(open_engine(options.engine, options.backend, options.housing))
    onnx_with = "openvino" if options.backend == "openvino" else "onnxruntime"
    start = begin(options.engine, say, onnx_with, options.housing)
    if start.note:
        say(start.note)
    return start


def _evidence(options: RunOptions, recipe: Recipe) -> EvidenceWriter | None:
    if options.save is None:
        return None
    return EvidenceWriter(options.save, recipe, map_limit(recipe), options.save_all)


def _trigger(links: dict[str, PlcLink]) -> PlcLink | None:
    """The PLC that asks for the pictures; None in free run."""
    asking = {uri: link for uri, link in links.items() if link.mode is not Mode.FREE_RUN}
    if len(asking) > 1:
        hint = "Leave handshake= away from all outputs but one."
        raise InspectError("two PLCs cannot both trigger one camera", ", ".join(asking), hint)
    return next(iter(asking.values()), None)


def _is_archive(uri: str) -> bool:
    """A file on a disk; not the standard output or a pipe, whose reader may be slow."""
    scheme, _, name = uri.partition(":")
    path = Path(name)
    return scheme == "jsonl" and name not in ("", "-") and (path.is_file() or not path.exists())


def _outbox(uri: str, opener: Callable[[], Output], station: Station) -> Outbox | Archive:
    """A PLC must not get late answers; a file or a broker may get them late."""
    if _is_archive(uri):
        return Archive(opener)
    max_age_s = outbox_age_s(uri, station.recipe.deadline_ms, pictures=1)
    return Outbox(opener, kept_verdicts(uri), max_age_s=max_age_s, is_healthy=station.is_healthy)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the verdict in hand; a later one ends it the hard way.

    One that comes within SAME_WISH_S is the same wish: a key that bounces, an impatient finger, a shell and
    its script that both pass it on. It must not cost the summary, so once asked they are looked after to the
    program's end.
    """
    first_s = math.inf

    def handle(number: int, frame: object) -> None:
        nonlocal first_s
        first_s = min(first_s, time.monotonic())
        if time.monotonic() - first_s > SAME_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop()

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            if first_s == math.inf:
                signal.signal(number, handler)


@dataclass(frozen=True)
class Check:
    """One line of the dry run; `error` is None where all is well."""

    what: str
    detail: str
    error: InspectError | None = None


def dry_run(options: RunOptions) -> list[Check]:
    """Try engine, camera and outputs one by one; every fault is found, not only the first."""
    recipe: list[Recipe] = []

    def engine() -> str:
        start = _start(options, _nobody)
        opened = start.opened
        opened.backend.close()
        recipe.append(opened.recipe)
        told = pace(opened.picture_ms, opened.recipe)
        text = f"{opened.recipe.identity}, {opened.artefact.precision}, {opened.backend.name}; {told}"
        note = start.note or stale_note(opened.path)
        return f"{text}. Note: {note}" if note else text

    def camera() -> str:
        source = camera_opener(with_settings(options.camera, recipe[0].camera if recipe else {}))()
        try:
            pixels = _first_picture(source)
        finally:
            source.close()
        if recipe:
            view_of(recipe[0]).see(pixels)
        text = f"gives {pixels.shape[1]}x{pixels.shape[0]}"
        notes = [number_note(options.camera), size_note(recipe[0], pixels.shape) if recipe else ""]
        return ". Note: ".join([text, *filter(None, notes)])

    checks = [_check("engine", engine), *_line_checks(options, recipe)]
    checks += [_check(f"camera {safe_uri(options.camera)}", camera)]
    return checks + [_check(f"output {safe_uri(uri)}", _output_check(uri)) for uri in options.outputs]


def _line_checks(options: RunOptions, recipe: Sequence[Recipe]) -> list[Check]:
    """What the PLC may load, and whether trigger, gate and outputs go together."""

    def line() -> str:
        asking = _trigger({safe_uri(uri): PlcLink(handshake_of(uri)) for uri in options.outputs})
        options.line.check(asking is not None, options.outputs)
        if options.line.kind == HTTP:
            HttpTrigger(options.line.trigger, lambda now_ns: False, 0).close()  # is the port free?
        if recipe:
            camera_of(options, recipe[0], None)
        return "can be used"

    def opens(number: int) -> str:
        opened = recipes_of(options, partial(_start, say=_nobody)).open(number)
        opened.backend.close()
        return f"{opened.recipe.identity}, {opened.backend.name}"

    def sees(camera: str, choice: Choice) -> str:
        source = camera_opener(with_settings(camera, load_pair(choice.engine)[1].camera))()
        try:
            pixels = _first_picture(source)
        finally:
            source.close()
        return f"gives {pixels.shape[1]}x{pixels.shape[0]}"

    checks = [_check("line", line)] if options.line != LineOptions() else []
    checks += [
        _check(f"camera {safe_uri(camera)}", partial(sees, camera, choice))
        for camera, choice in options.line.views
    ]
    return checks + [_check(f"recipe {n}", partial(opens, n)) for n in options.line.recipes]


def _first_picture(source: Camera) -> Pixels:
    until = time.monotonic() + FIRST_PICTURE_S
    while True:
        try:
            return source.read(FIRST_PICTURE_S).pixels
        except (CameraTimeout, FrameIncomplete):
            if time.monotonic() > until:
                raise


def _output_check(uri: str) -> Callable[[], str]:
    def check() -> str:
        output_opener(uri)().close()
        caution = caution_of(uri)
        return f"answers. Note: {caution}" if caution else "answers"

    return check


def _check(what: str, action: Callable[[], str]) -> Check:
    try:
        return Check(what, action())
    except InspectError as error:
        return Check(what, str(error), error)
