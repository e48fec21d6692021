"""What of a station belongs to its line: what starts a part, how many pictures it has, its recipes, its gate.

Between what the user typed and the files that do it. Knows no socket and no register.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from edge.engines.choice import Choice
from edge.engines.engine import Opened
from edge.errors import InspectError
from edge.outputs import handshake_of, has_registers, shows_gate, takes_recipes
from edge.picture.images import read_image
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.recipe import find_engine, load_pair
from edge.station.finder import CountedPictures, EveryPicture, Finder, PresenceFinder, empty_belt
from edge.station.gatekeeper import OPTION, GateKeeper, now_ns, parse_gate
from edge.station.loop import FIRST_RECIPE
from edge.station.presence import PartWatch

U16_MAX = 0xFFFF
NUMBER = re.compile(r"[0-9]{1,5}")
HTTP, CAMERA, PRESENCE = "http", "camera", "presence"
KNOWN_TRIGGERS = (
    "camera, presence:?from=0.03&reference=empty.png, http://127.0.0.1:8000; the PLC's: ?handshake= at --plc"
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class LineOptions:
    """As typed. Without any of it: free run, one picture a part, one recipe, no gate."""

    trigger: str = ""
    shots: int = 1
    gate: str = ""
    recipes: Mapping[int, Choice] = field(default_factory=dict)  # beside the first
    views: Sequence[tuple[str, Choice]] = ()  # further cameras on the same part, each with its engine

    @property
    def kind(self) -> str:
        """The trigger's first word."""
        return self.trigger.partition(":")[0]

    @property
    def pictures(self) -> int:
        """Of one part, from all cameras."""
        return self.shots * (1 + len(self.views))

    def check(self, asking: bool, outputs: Sequence[str]) -> None:
        """What can be seen before the camera is open; `asking`: a PLC triggers. Raises InspectError."""
        if self.kind not in ("", HTTP, CAMERA, PRESENCE):
            raise InspectError(
                f"trigger {self.trigger!r} is not known", "--trigger", f"Known: {KNOWN_TRIGGERS}."
            )
        if self.trigger and asking:
            hint = "Leave --trigger or handshake= away."
            raise InspectError("two triggers: the PLC's and another one", self.trigger, hint)
        finder_of(self.trigger)
        if (self.shots > 1 or self.views) and not (asking or self.kind == HTTP):
            hint = "Add ?handshake=bits to --plc, or --trigger http://127.0.0.1:8000"
            where = "--shots" if self.shots > 1 else "--camera"
            raise InspectError("without a trigger nobody knows which pictures are one part's", where, hint)
        if self.views and self.recipes:
            hint = "Give one --camera, or a station for each product."
            raise InspectError("with several cameras the recipe cannot be changed", "--recipe", hint)
        if self.gate:
            self._check_gate(asking, outputs)
        for choice in (*self.recipes.values(), *(choice for _, choice in self.views)):
            load_pair(choice.engine)
        if self.recipes and not any(map(takes_recipes, outputs)):
            hint = "Add ?handshake= to a PLC with registers; or tcp:, serial: (RCP), opc-ua:."
            raise InspectError("nobody can load another recipe", "--recipe", hint)

    def _check_gate(self, asking: bool, outputs: Sequence[str]) -> None:
        by_encoder = parse_gate(self.gate).by_encoder
        if not (asking or self.trigger):
            hint = "Add ?handshake= to --plc, or --trigger."
            raise InspectError("without part ids no part can be followed to the gate", OPTION, hint)
        if not any(map(shows_gate, outputs)):
            hint = "Add --plc modbus-tcp-server://0.0.0.0:502, or ?handshake=bits to a PLC with registers."
            raise InspectError("nobody reads register GATE in time", OPTION, hint)
        counted = any(has_registers(uri) and handshake_of(uri) is not Mode.FREE_RUN for uri in outputs)
        if by_encoder and not counted:
            hint = "Give the distances in ms, or let a PLC with registers trigger: ?handshake=bits."
            raise InspectError("the encoder's count comes with the PLC's trigger", OPTION, hint)


def parse_recipes(texts: Sequence[str]) -> dict[int, Path]:
    """`2=lid/` -> {2: Path("lid")}; 1 is the one of --engine. Raises InspectError."""
    recipes: dict[int, Path] = {}
    for text in texts:
        number, _, path = text.partition("=")
        usable = NUMBER.fullmatch(number) and FIRST_RECIPE < int(number) <= U16_MAX and path
        if not usable:
            hint = f"Write --recipe 2=lid/ ; numbers from 2 to {U16_MAX}, 1 is the one of --engine."
            raise InspectError(f"{text!r} is no numbered recipe", "--recipe", hint)
        if int(number) in recipes:
            raise InspectError(f"recipe {number} is given twice", "--recipe", "Give each number once.")
        recipes[int(number)] = Path(path)
    return recipes


def view_choices(cameras: Sequence[str], choices: Sequence[Choice]) -> list[tuple[str, Choice]]:
    """Each camera with its engine, in the order in which they are given. Raises InspectError."""
    if len(set(cameras)) < len(cameras):
        raise InspectError("the same camera is given twice", ", ".join(cameras), "Give each camera once.")
    if len(choices) not in (1, len(cameras)):
        hint = "Give one --engine for all cameras, or one for each, in the same order."
        raise InspectError(f"{len(choices)} engines for {len(cameras)} cameras", "--engine", hint)
    return list(zip(cameras, choices if len(choices) > 1 else [*choices] * len(cameras), strict=True))


def finder_of(trigger: str) -> Finder:
    """Which pictures are parts in free run. Raises InspectError."""
    kind, _, rest = trigger.partition(":")
    if kind == CAMERA:
        return CountedPictures()
    if kind != PRESENCE:
        return EveryPicture()
    settings = dict(parse_qsl(rest.removeprefix("?"), keep_blank_values=True))
    share, reference = settings.pop("from", "0.03"), settings.pop("reference", "")
    if settings or not re.fullmatch(r"0\.\d{1,6}", share) or not 0.001 <= float(share) <= 0.5:
        hint = (
            "Known: from=0.03, the share of the picture that a part changes (0.001 to 0.5), reference=FILE."
        )
        raise InspectError(f"the trigger {trigger!r} cannot be read", "--trigger", hint)
    belt = empty_belt([read_image(Path(reference))]) if reference else None
    return PresenceFinder(PartWatch(float(share)), belt)


@dataclass(frozen=True)
class Recipes:
    """Which engine is which number; what opens it."""

    first: Path
    more: Mapping[int, Choice]
    views: Sequence[Path]  # engines of further cameras
    open_first: Callable[[], Opened]
    open_choice: Callable[[Choice], Opened]

    def open(self, number: int) -> Opened:
        """Ready to judge. Raises InspectError, also for a number that nobody has given."""
        if number == FIRST_RECIPE:
            return self.open_first()
        if number not in self.more:
            known = ", ".join(map(str, (FIRST_RECIPE, *sorted(self.more))))
            hint = "Give it with --recipe NUMBER=ENGINE."
            raise InspectError(f"there is no recipe {number}", f"known are {known}", hint)
        return self.open_choice(self.more[number])

    def folders(self, number: int) -> list[Path]:
        """Where its engine lies, and those of the further cameras."""
        path = self.first if number == FIRST_RECIPE else self.more[number].engine
        return [each if each.is_dir() else find_engine(each).parent for each in (path, *self.views)]


def keep_gate(
    options: LineOptions, links: Sequence[PlcLink], asking: PlcLink | None, say: Say, stack: ExitStack
) -> GateKeeper:
    """Drive the reject gate."""
    settings = parse_gate(options.gate)

    def counted() -> int | None:
        return asking.encoder if asking is not None else None

    position = counted if settings.by_encoder else now_ns
    keeper = GateKeeper(settings, position, links, asking is not None, say)
    stack.callback(keeper.close)
    for link in links:
        link.listen(keeper.hear)
    return keeper
