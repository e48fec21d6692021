"""`edge-inspect plc-sim`: parts come, the PLC triggers them, the station is watched."""

import itertools
import json
import math
import sys
import time
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from edge.errors import OutputLost
from edge.handshake import Mode
from edge.outputs import handshake_of
from edge.plcsim import Peer, peer_opener
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


def run_plc(options: SimOptions, as_json: bool, console: Console) -> int:
    """0 when every part got its result and the station made no mistake, else 1. Raises OutputLost when none
    came, InspectError for a wrong URI."""
    uri = _with_handshake(options.uri, options.handshake)
    mode, tally = handshake_of(uri), Tally()
    with closing(peer_opener(uri, mode)()) as peer:
        console.print(
            f"start the station with --plc '{escape(peer.station)}'", highlight=False, soft_wrap=True
        )
        live = console.is_terminal and not as_json
        screen = Live(Screen(peer, tally), console=console, refresh_per_second=10) if live else nullcontext()
        with suppress(KeyboardInterrupt), screen:
            _run(peer, mode, options, tally, None if live or as_json else console)
    ok = tally.ok and tally.done >= options.parts
    summary = {"station": peer.station, "handshake": mode.value, **tally.summary(), "ok": ok}
    if as_json:
        print(json.dumps(summary), flush=True)
    else:
        _tell(summary, console)
    return 0 if ok else 1


def _with_handshake(uri: str, handshake: str) -> str:
    """The option goes into the URI, for the station has to hear it, too."""
    if not handshake or "handshake=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}handshake={handshake}"


def _run(peer: Peer, mode: Mode, options: SimOptions, tally: Tally, lines: Console | None) -> None:
    due, ends, ids, arrived = 0.0, math.inf, itertools.count(FIRST_PART), 0
    progress, moved = tally.done, time.monotonic()
    while (now := time.monotonic()) < ends:
        if mode is not Mode.FREE_RUN and tally.connected and now >= due and arrived in _wanted(options.parts):
            peer.part_arrives(next(ids))
            arrived, due = arrived + 1, now + 1 / options.rate
        for line in tally.add(peer.scan(time.monotonic_ns()), time.monotonic_ns()):
            if lines is not None:
                lines.print(escape(line), highlight=False, soft_wrap=True)
        if tally.done != progress:
            progress, moved = tally.done, now
        if options.parts and tally.done >= options.parts:
            ends = min(ends, now if mode is Mode.FREE_RUN else now + SETTLE_S)
        if now - moved > options.wait_s and (options.parts or not tally.connections):
            break
        time.sleep(CYCLE_S)
    if not tally.connections:
        hint = f"Start the station with --plc '{peer.station}'."
        raise OutputLost(f"no station came within {options.wait_s:g} s", options.uri, hint)


def _wanted(parts: int) -> range:
    """How many may have arrived before the next one does."""
    return range(parts or sys.maxsize)


def _tell(summary: dict[str, object], console: Console) -> None:
    for name, value in summary.items():
        console.print(f"{name.replace('_', ' '):<12} {escape(str(value))}", highlight=False, soft_wrap=True)
