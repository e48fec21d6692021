"""`edge-inspect plc-sim`: parts come, the PLC triggers them, the station is watched."""

import itertools
import json
import math
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from edge.errors import InspectError, OutputLost
from edge.outputs import handshake_of
from edge.plc.handshake import Mode
from edge.plcsim import Ended, Peer, peer_opener
from edge.plcsim.blocks import BlockPlc
from edge.plcsim.orders import SimOrder, need_block, parse_orders
from edge.plcsim.screen import Screen
from edge.plcsim.tally import Tally

CYCLE_S = 0.01  # of the PLC
SETTLE_S = 0.5  # after the last part: what should be cleared now is
FIRST_PART = 70_001  # more than 16 bits: a wrong word order shows at once


@dataclass(frozen=True)
class SimOptions:
    """`edge-inspect plc-sim`, as typed."""

    uri: str
    handshake: str = ""  # "": as the URI says
    parts: int = 0  # 0: until Ctrl-C
    rate: float = 2.0
    wait_s: float = 60.0
    commands: Sequence[str] = field(default_factory=list)  # given once after the start
    confirm: bool = False  # a sensor sees the rejected parts leave


def run_plc(options: SimOptions, as_json: bool, console: Console) -> int:
    """0 when every part got its result and the station made no mistake, else 1. Raises OutputLost when none
    came, InspectError for a wrong URI."""
    uri = _with_handshake(options.uri, options.handshake)
    mode = handshake_of(uri)
    tally, orders = Tally(mode), parse_orders(options.commands, uri, mode)
    if options.confirm:
        need_block(uri, "confirms rejects")
    missing = f"no station came within {options.wait_s:g} s"
    with closing(peer_opener(uri, mode)()) as peer:
        live = console.is_terminal and not as_json
        screen = Live(Screen(peer, tally), console=console, refresh_per_second=10) if live else nullcontext()
        try:
            _begin(peer, options, orders, console)
            with screen:
                _run(peer, mode, options, tally, None if live or as_json else console)
        except KeyboardInterrupt:
            missing = "no station came before plc-sim was stopped"
        if not tally.connections:
            raise OutputLost(missing, options.uri, f"Start the station with --plc '{peer.station}'.")
    open_orders = orders[len(tally.commands) :]
    ok = tally.ok and tally.done >= options.parts and not open_orders
    summary = {"station": peer.station, "handshake": mode.value, **tally.summary()}
    summary |= {"commands": _ends(tally, open_orders), "ok": ok}
    if as_json:
        print(json.dumps(summary), flush=True)
    else:
        _tell(summary, console)
    return 0 if ok else 1


def _begin(peer: Peer, options: SimOptions, orders: Sequence[SimOrder], console: Console) -> None:
    console.print(f"start the station with --plc '{escape(peer.station)}'", highlight=False, soft_wrap=True)
    if isinstance(peer, BlockPlc):
        peer.order(orders)
        if options.confirm:
            peer.confirm()


def _ends(tally: Tally, open_orders: Sequence[SimOrder]) -> list[str]:
    unanswered = [Ended(order.text, "no answer") for order in open_orders]
    return [str(ended) for ended in (*tally.commands, *unanswered)]


def _with_handshake(uri: str, handshake: str) -> str:
    """The option goes into the URI, for the station has to hear it, too."""
    if not handshake or f"handshake={handshake}" in uri:
        return uri
    if "handshake=" in uri:
        raise InspectError(f"--handshake {handshake} is not what the URI says", uri, "Say it once.")
    return f"{uri}{'&' if '?' in uri else '?'}handshake={handshake}"


class Belt:
    """Parts that come to the camera, so many a second at most."""

    def __init__(self, parts: int, rate: float) -> None:
        self._ids = iter(range(FIRST_PART, FIRST_PART + parts) if parts else itertools.count(FIRST_PART))
        self._pause_s, self._due_s = 1 / rate, 0.0

    def next(self, now_s: float) -> int | None:
        """The part that comes now."""
        if now_s < self._due_s:
            return None
        self._due_s = now_s + self._pause_s
        return next(self._ids, None)


def _run(peer: Peer, mode: Mode, options: SimOptions, tally: Tally, lines: Console | None) -> None:
    """Until all parts are done, nothing happens any more, or Ctrl-C."""
    belt, moved_s, done = Belt(options.parts, options.rate), time.monotonic(), 0
    ends_s = math.inf
    while (now_s := time.monotonic()) < ends_s:
        if tally.connected and mode is not Mode.FREE_RUN and (part := belt.next(now_s)) is not None:
            peer.part_arrives(part)
        for line in tally.add(peer.scan(time.monotonic_ns()), time.monotonic_ns()):
            if lines is not None:
                lines.print(escape(line), highlight=False, soft_wrap=True)
        if tally.done != done:
            done, moved_s = tally.done, now_s
        if options.parts and done >= options.parts and len(tally.commands) >= len(options.commands):
            ends_s = min(ends_s, now_s if mode is Mode.FREE_RUN else now_s + SETTLE_S)
        if now_s - moved_s > options.wait_s and (options.parts or not tally.connections):
            break
        time.sleep(CYCLE_S)


def _tell(summary: dict[str, object], console: Console) -> None:
    for name, value in summary.items():
        console.print(f"{name.replace('_', ' '):<12} {escape(str(value))}", highlight=False, soft_wrap=True)
