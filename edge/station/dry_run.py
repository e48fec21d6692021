"""`run --dry-run`: engine, camera and outputs tried one by one, before the first part."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from edge.cameras import Camera, camera_opener, safe_uri
from edge.cameras.device_names import number_note
from edge.engines.choice import Choice
from edge.engines.engine import pace
from edge.errors import CameraTimeout, FrameIncomplete, InspectError
from edge.frame import Pixels
from edge.outputs import caution_of, handshake_of, output_opener
from edge.picture.view import view_of
from edge.plc.link import PlcLink
from edge.recipe import Recipe, load_pair, other_size, stale_note
from edge.station.camera_settings import with_settings
from edge.station.compose import nobody, start_engine, trigger_of
from edge.station.http_trigger import HttpTrigger
from edge.station.line import HTTP, LineOptions
from edge.station.running import RunOptions
from edge.station.wiring import camera_of, recipes_of

FIRST_PICTURE_S = 10.0  # a GigE or RTSP camera may take seconds to give its first picture


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
        start = start_engine(options, nobody)
        opened = start.opened
        opened.backend.close()
        recipe.append(opened.recipe)
        told = pace(opened.picture_ms, opened.recipe, options.line.pictures)
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
            if unfit := other_size(recipe[0], pixels.shape):
                raise unfit
            view_of(recipe[0]).see(pixels)
        text, note = f"gives {pixels.shape[1]}x{pixels.shape[0]}", number_note(options.camera)
        return f"{text}. Note: {note}" if note else text

    checks = [_check("engine", engine), *_line_checks(options, recipe)]
    checks += [_check(f"camera {safe_uri(options.camera)}", camera)]
    return checks + [_check(f"output {safe_uri(uri)}", _output_check(uri)) for uri in options.outputs]


def _line_checks(options: RunOptions, recipe: Sequence[Recipe]) -> list[Check]:
    """What the PLC may load, and whether trigger, gate and outputs go together."""

    def line() -> str:
        asking = trigger_of({safe_uri(uri): PlcLink(handshake_of(uri)) for uri in options.outputs})
        options.line.check(asking is not None, options.outputs)
        if options.line.kind == HTTP:
            HttpTrigger(options.line.trigger, lambda now_ns: False, 0).close()  # is the port free?
        if recipe:
            camera_of(options, recipe[0], None)
        return "can be used"

    def opens(number: int) -> str:
        opened = recipes_of(options, partial(start_engine, say=nobody)).open(number)
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
