"""Putting a station together from what the user typed, and taking it apart again."""

import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from edge.cameras import Camera, camera_kind, camera_opener, safe_uri
from edge.cameras.device_names import number_note
from edge.engines.engine import open_engine
from edge.engines.rebuild import Say, Start, begin
from edge.errors import InspectError
from edge.outputs import Output, caution_of, handshake_of, kept_verdicts, output_opener
from edge.paths import check_folder
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.recipe import Recipe
from edge.remake import is_plan
from edge.station.archive import Archive
from edge.station.capture import Policy
from edge.station.evidence import EvidenceWriter
from edge.station.loop import Observer, Station
from edge.station.outbox import Outbox
from edge.station.replacement import Replacement
from edge.station.running import Running, RunOptions
from edge.station.wiring import camera_of, capture_of, map_limit, outbox_age_s, wire
from edge.station.worker import InferenceWorker


def nobody(text: str) -> None:
    pass


@contextmanager
def station_of(
    options: RunOptions,
    observers: Sequence[Observer] = (),
    say: Say = nobody,
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
    trigger = trigger_of(links)
    options.line.check(trigger is not None, options.outputs)
    if options.save is not None:
        check_folder(options.save, "--save")
    start = start_engine(options, say)
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
            station.trigger, trigger.expect = trigger, station.expect
        outboxes = {uri: _outbox(uri, opener, station) for uri, opener in openers.items()}
        station.outboxes = sorted(outboxes.values(), key=lambda box: not isinstance(box, Archive))
        for link in links.values():
            link.archive = station.archive
        for outbox in outboxes.values():
            stack.callback(outbox.close)
        running = Running(station, opened.picture_ms, outboxes, evidence)
        wire(options, running, links, trigger, partial(start_engine, say=say), say, stack, camera)
        if start.maker is not None:
            stack.callback(Replacement(start.maker, station, opened, say).close)
        yield running


def start_engine(options: RunOptions, say: Say) -> Start:
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


def trigger_of(links: dict[str, PlcLink]) -> PlcLink | None:
    """The PLC that asks for the pictures; None in free run."""
    asking = {uri: link for uri, link in links.items() if link.mode is not Mode.FREE_RUN}
    if len(asking) > 1:
        hint = "Leave handshake= away from all outputs but one."
        raise InspectError("two PLCs cannot both trigger one camera", ", ".join(asking), hint)
    return next(iter(asking.values()), None)


def _is_archive(uri: str) -> bool:
    """A file on a disk; not the standard output or a pipe, whose reader may be slow."""
    scheme, _, name = uri.partition(":")
    if scheme != "jsonl" or name in ("", "-"):
        return False
    try:
        return stat.S_ISREG(Path(name).stat().st_mode)
    except OSError:  # not made yet, or on a share that is away
        return True


def _outbox(uri: str, opener: Callable[[], Output], station: Station) -> Outbox | Archive:
    """A PLC must not get late answers; a file or a broker may get them late."""
    if _is_archive(uri):
        return Archive(opener)
    max_age_s = outbox_age_s(uri, station.recipe.deadline_ms, pictures=1)
    return Outbox(opener, kept_verdicts(uri), max_age_s=max_age_s, is_healthy=station.is_healthy)
