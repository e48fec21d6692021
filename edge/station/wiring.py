"""The line's wires between the parts of a station: trigger, further cameras, the PLC's commands, the gate.

And what follows from another recipe: how long a verdict may take, how its heat map is drawn.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

from edge.cameras import Camera, camera_opener, safe_uri
from edge.engines.choice import Choice
from edge.engines.engine import Opened
from edge.engines.rebuild import NoEngine, Say, Start
from edge.errors import BackendFault, InspectError
from edge.outputs import is_information
from edge.plc.link import PlcLink
from edge.recipe import Recipe, load_pair
from edge.station.camera_settings import RecipeCamera, with_settings
from edge.station.capture import Capture, Policy
from edge.station.evidence import EvidenceWriter
from edge.station.gatekeeper import parse_gate
from edge.station.http_trigger import HttpTrigger
from edge.station.line import CAMERA, HTTP, PRESENCE, LineOptions, Recipes, finder_of, keep_gate
from edge.station.loop import BLIND_VERDICT_EVERY_S, FIRST_RECIPE, Station
from edge.station.orders import Orders
from edge.station.outbox import Outbox
from edge.station.running import Running, RunOptions
from edge.station.worker import InferenceWorker

SENDING_S = 0.5  # after the deadline, for the way to the PLC; a verdict that takes longer is taken back

StartEngine = Callable[[RunOptions], Start]


def capture_of(options: RunOptions, open_source: Callable[[], Camera], asked: bool) -> Capture:
    """A trigger wants its part's pictures alone; where each picture is a part, none pushes another out."""
    policy = Policy.LATEST if asked or options.line.kind == HTTP else options.policy
    policy = Policy.EVERY if options.line.kind == CAMERA else policy
    return Capture(open_source, safe_uri(options.camera), policy, keep=options.line.shots)


def camera_of(options: RunOptions, recipe: Recipe, source: Callable[[], Camera] | None) -> RecipeCamera:
    """With what each recipe sets of it; `source` opens one that no URI names. Raises InspectError."""
    others = [load_pair(choice.engine)[1].camera for choice in options.line.recipes.values()]
    if options.line.kind == PRESENCE and any(other != recipe.camera for other in others):
        what = "recipes with other camera settings: in another light the empty belt would look like a part"
        hint = "Give all recipes the same settings, or take another trigger."
        raise InspectError(what, "--trigger presence:", hint)
    return RecipeCamera(
        options.camera, [recipe.camera, *others], (lambda uri: source) if source else camera_opener
    )


def wire(
    options: RunOptions,
    running: Running,
    links: Mapping[str, PlcLink],
    asking: PlcLink | None,
    start: StartEngine,
    say: Say,
    stack: ExitStack,
    camera: RecipeCamera,
) -> None:
    """All of it; `start` opens an engine, `stack` closes what is opened here. Raises InspectError."""
    station, line = running.station, options.line
    station.shots = line.shots
    station.finder = finder_of(line.trigger)
    orders = Orders(station, recipes_of(options, start), say, camera)
    stack.callback(orders.close)
    for link in links.values():  # at once: a PLC that is there already may order, and would be told FAILED
        orders.obey(link)
    station.views = [_view(options, number, start, stack) for number in range(len(line.views))]
    keeper = keep_gate(line, [*links.values()], asking, say, stack) if line.gate else None
    if keeper is not None:
        station.outboxes.append(keeper)
        _say_if_near(line, running.recipe, say)

    def line_may_go() -> bool:
        return not (orders.challenge_failed or (keeper is not None and keeper.stopped))

    http = _http(options, running, line_may_go, stack)
    _follow_the_recipe(options, running, links, http)


def _say_if_near(line: LineOptions, recipe: Recipe, say: Say) -> None:
    settings = parse_gate(line.gate)
    arrives_ms = (settings.gate.distance - settings.gate.tolerance) / 1e6
    if not settings.by_encoder and arrives_ms < recipe.deadline_ms:
        after = f"a part is there after {arrives_ms:.0f} ms, its verdict may take {recipe.deadline_ms:g} ms"
        say(f"gate: {after}: what comes later is rejected")


def _http(
    options: RunOptions, running: Running, line_may_go: Callable[[], bool], stack: ExitStack
) -> HttpTrigger | None:
    if options.line.kind != HTTP:
        return None
    station = running.station

    def can_judge(now_ns: int) -> bool:
        return line_may_go() and station.is_healthy(now_ns)

    trigger = HttpTrigger(options.line.trigger, can_judge, int(SENDING_S * 1e9))
    stack.callback(trigger.close)
    station.trigger, trigger.expect = trigger, station.expect
    running.station.outboxes.append(trigger)
    return trigger


def _view(options: RunOptions, number: int, start: StartEngine, stack: ExitStack) -> Station:
    """A further camera on the same part, with its engine; its heat maps lie in a folder of their own."""
    uri, choice = options.line.views[number]
    opened = start(replace(options, engine=choice.engine, backend=choice.backend, rebuild=False)).opened
    worker = InferenceWorker(opened.backend, opened.recipe, opened.artefact.sha256)
    stack.callback(worker.close)
    opener = camera_opener(with_settings(uri, opened.recipe.camera))
    source = Capture(opener, safe_uri(uri), keep=options.line.shots)
    capture, observers = stack.enter_context(source), list[EvidenceWriter]()
    if options.save is not None:
        folder = options.save / f"camera-{number + 2}"
        observers.append(EvidenceWriter(folder, opened.recipe, map_limit(opened.recipe), options.save_all))
        stack.callback(observers[0].close)
    return Station(capture, worker, opened.recipe, observers)


def _follow_the_recipe(
    options: RunOptions, running: Running, links: Mapping[str, PlcLink], http: HttpTrigger | None
) -> None:
    """Now, and whenever another one takes over: its number, how long a verdict may take, its heat maps."""
    station = running.station
    pictures = options.line.pictures

    def judges_by(number: int, recipe: Recipe) -> None:
        deadline_ms = max(each.deadline_ms for each in (recipe, *(view.recipe for view in station.views)))
        budget_ns = int((BLIND_VERDICT_EVERY_S + max_age_s(deadline_ms, pictures)) * 1e9)
        for link in links.values():
            link.judges_by(number, budget_ns)
            link.recipe = recipe.identity
        if http is not None:
            http.allow(budget_ns)
        for uri, outbox in running.outboxes.items():
            if isinstance(outbox, Outbox):  # a file may get its lines late
                outbox.allow(outbox_age_s(uri, deadline_ms, pictures))
        if running.evidence is not None:
            running.evidence.use(recipe, map_limit(recipe))

    station.listeners.append(judges_by)
    judges_by(FIRST_RECIPE, station.recipe)


def max_age_s(deadline_ms: float, pictures: int) -> float:
    """From a part's first picture to the moment at which its verdict is no answer any more."""
    further = (pictures - 1) * (BLIND_VERDICT_EVERY_S + deadline_ms / 1e3)
    return further + deadline_ms / 1e3 + SENDING_S


def outbox_age_s(uri: str, deadline_ms: float, pictures: int) -> float:
    """A PLC must not get late answers; a file or a broker may get them late."""
    return math.inf if is_information(uri) else max_age_s(deadline_ms, pictures)


def map_limit(recipe: Recipe) -> float:
    """The map's value that gets the warning colour."""
    return float(recipe.normalisation.get("map_limit", 1.0))


def recipes_of(options: RunOptions, start: StartEngine) -> Recipes:
    """Which engine the PLC means by which number."""

    def open_first() -> Opened:
        opened = start(options).opened
        if isinstance(opened.backend, NoEngine):
            raise BackendFault(opened.backend.why, opened.path.name, "Load it again later.")
        return opened

    def open_choice(choice: Choice) -> Opened:
        other = replace(options, engine=choice.engine, backend=choice.backend, rebuild=False)
        return start(other).opened

    return Recipes(
        options.engine,
        options.line.recipes,
        [c.engine for _, c in options.line.views],
        open_first,
        open_choice,
    )
