"""Putting a station together from what the user typed, running it, and checking it beforehand."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge.backends import Backend, open_backend
from edge.cameras import Camera, camera_opener, safe_uri
from edge.capture import Capture, Policy
from edge.errors import CameraLost, CameraTimeout, InspectError, OutputLost
from edge.evidence import EvidenceWriter
from edge.frame import Pixels
from edge.handshake import Mode
from edge.outbox import Outbox
from edge.outputs import Output, handshake_of, output_opener
from edge.paths import check_folder
from edge.plc_link import PlcLink
from edge.recipe import Recipe, load_pair, size_note, stale_note
from edge.station import BLIND_VERDICT_EVERY_S, Observer, Station
from edge.view import view_of
from edge.worker import InferenceWorker

SENDING_S = 0.5  # after the deadline, for the way to the PLC; a verdict that takes longer is taken back
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


@dataclass
class Running:
    """A station that is about to run, with all its parts."""

    station: Station
    backend: Backend
    recipe: Recipe
    picture_ms: float  # what one picture takes here
    outboxes: dict[str, Outbox] = field(default_factory=dict)  # URI without password -> outbox
    evidence: EvidenceWriter | None = None

    def exit_code(self) -> int:
        """0, or the code of what never worked: camera 4, an output 5 (docs/errors.md)."""
        if self.station.counters.total and not self.station.capture.counters.frames:
            return CameraLost.exit_code
        silent = [box for box in self.outboxes.values() if box.last_error and not box.counters.sent]
        return OutputLost.exit_code if silent else 0


@contextmanager
def station_of(options: RunOptions, observers: Sequence[Observer] = ()) -> Iterator[Running]:
    """Open everything, hand it out, close everything again. Raises InspectError before the first part."""
    engine, recipe, artefact = load_pair(options.engine)
    open_source = camera_opener(options.camera)
    links = {safe_uri(uri): PlcLink(handshake_of(uri)) for uri in options.outputs}
    openers = {safe_uri(uri): output_opener(uri, link=links[safe_uri(uri)]) for uri in options.outputs}
    if len(openers) < len(options.outputs):
        raise InspectError("the same output is given twice", ", ".join(openers), "Give each output once.")
    trigger = _trigger(links)
    if options.save is not None:
        check_folder(options.save, "--save")
    backend = open_backend(engine, recipe, options.backend)
    took_ms = picture_ms(backend)
    with ExitStack() as stack:
        evidence = None
        if options.save is not None:
            limit = float(recipe.normalisation.get("map_limit", 1.0))
            evidence = EvidenceWriter(options.save, recipe, limit, options.save_all)
            stack.callback(evidence.close)
        worker = InferenceWorker(backend, recipe, artefact.sha256)
        stack.callback(worker.close)
        policy = Policy.LATEST if trigger else options.policy  # a trigger wants the picture of its part alone
        capture = stack.enter_context(Capture(open_source, safe_uri(options.camera), policy))
        station = Station(capture, worker, recipe, [*observers, *([evidence] if evidence else [])])
        if trigger is not None:
            station.trigger = trigger
            trigger.allow(_budget_ns(recipe))
        outboxes = {uri: _outbox(uri, opener, station) for uri, opener in openers.items()}
        station.outboxes = list(outboxes.values())
        for outbox in station.outboxes:
            stack.callback(outbox.close)
        yield Running(station, backend, recipe, took_ms, outboxes, evidence)


def _budget_ns(recipe: Recipe) -> int:
    """A verdict may take the time of a picture, of the deadline and of the way through the outbox."""
    return int((BLIND_VERDICT_EVERY_S + recipe.deadline_ms / 1e3 + SENDING_S) * 1e9)


def _trigger(links: dict[str, PlcLink]) -> PlcLink | None:
    """The PLC that asks for the pictures; None in free run."""
    asking = {uri: link for uri, link in links.items() if link.mode is not Mode.FREE_RUN}
    if len(asking) > 1:
        hint = "Leave handshake= away from all outputs but one."
        raise InspectError("two PLCs cannot both trigger one camera", ", ".join(asking), hint)
    return next(iter(asking.values()), None)


def _outbox(uri: str, opener: Callable[[], Output], station: Station) -> Outbox:
    """A PLC must not get late answers; a file may get its lines late."""
    max_age_s = math.inf if uri.startswith("jsonl:") else station.recipe.deadline_ms / 1e3 + SENDING_S
    return Outbox(opener, max_age_s=max_age_s, is_healthy=station.is_healthy)


def picture_ms(backend: Backend) -> float:
    """Milliseconds that one picture takes in the engine, on this machine and now."""
    begun = time.perf_counter()
    backend.infer(np.zeros((*backend.input_size, 3), np.uint8))
    return (time.perf_counter() - begun) * 1e3


def pace(took_ms: float, recipe: Recipe) -> str:
    """What a picture takes and what it may take; what to do where the deadline is too short for it."""
    text = f"one picture takes about {took_ms:.1f} ms here, the deadline is {recipe.deadline_ms:g} ms"
    if 2 * took_ms <= recipe.deadline_ms:
        return text
    enough = math.ceil(3 * took_ms / 100) * 100
    why = "short, for a picture may have to wait for the one before it"
    return f"{text}: {why}. Give it time: edge-inspect recipe ENGINE --deadline-ms {enough}"


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the verdict in hand; a second one ends it the hard way."""

    def handle(number: int, frame: object) -> None:
        stop()
        signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
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
        path, loaded, artefact = load_pair(options.engine)
        recipe.append(loaded)
        backend = open_backend(path, loaded, options.backend)
        told = pace(picture_ms(backend), loaded)
        backend.close()
        text = f"{loaded.identity}, {artefact.precision}, {backend.name}; {told}"
        note = stale_note(path)
        return f"{text}. Note: {note}" if note else text

    def camera() -> str:
        source = camera_opener(options.camera)()
        try:
            pixels = _first_picture(source)
        finally:
            source.close()
        if recipe:
            view_of(recipe[0]).see(pixels)
        text = f"gives {pixels.shape[1]}x{pixels.shape[0]}"
        note = size_note(recipe[0], pixels.shape) if recipe else ""
        return f"{text}. Note: {note}" if note else text

    checks = [_check("engine", engine), _check(f"camera {safe_uri(options.camera)}", camera)]
    return checks + [_check(f"output {safe_uri(uri)}", _output_check(uri)) for uri in options.outputs]


def _first_picture(source: Camera) -> Pixels:
    until = time.monotonic() + FIRST_PICTURE_S
    while True:
        try:
            return source.read(FIRST_PICTURE_S).pixels
        except CameraTimeout:
            if time.monotonic() > until:
                raise


def _output_check(uri: str) -> Callable[[], str]:
    def check() -> str:
        output_opener(uri)().close()
        return "answers"

    return check


def _check(what: str, action: Callable[[], str]) -> Check:
    try:
        return Check(what, action())
    except InspectError as error:
        return Check(what, str(error), error)
