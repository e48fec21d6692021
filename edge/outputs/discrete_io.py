"""An output of four lines, wherever they are: a thread that keeps them as edge/plc/discrete.py says.

    outbox --send, beat--> +----------------+ --write--> gpio.py       lines of this machine
    station <--PlcLink---- | DiscreteOutput | <--rises-- remote_io.py  coils of a Modbus module
                           +----------------+
With `trigger=` a rising edge asks for a picture, and the end of the pulse is its acknowledge.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from edge.errors import InspectError, OutputLost
from edge.outputs import whole_number
from edge.plc.discrete import ALL_OFF, DiscreteLines, Levels, Line, changes
from edge.plc.handshake import Handshake, Mode
from edge.plc.link import PlcLink
from edge.plc.station_image import result_id
from edge.verdict import Outcome, Verdict

REFRESH_NS = 1_000_000_000  # so often all lines are written anew: a module's watchdog waits for that
POLL_S = 0.005  # so exact are pulses, and triggers that are polled
KNOWN = (*(line.value for line in Line), "trigger", "pulse_ms")


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which line is which number of the device, and how long a pulse lasts."""

    lines: Mapping[Line, int]
    trigger: int | None
    pulse_ms: int


def wiring_of(uri: str, known: dict[str, str], numbers: range) -> Wiring:
    """`ready=17&ok=27&ng=22&fault=23&trigger=24&pulse_ms=100`. Raises InspectError."""
    lines = {line: whole_number(known, line.value, 0, numbers, uri) for line in Line if line.value in known}
    if missing := [line.value for line in (Line.OK, Line.FAULT) if line not in lines]:
        hint = "Give ok= and fault=, and what else is wired of: ready=, ng=, life=."
        raise InspectError(f"no line for {' and '.join(missing)}", uri, hint)
    if len(set(lines.values())) < len(lines):
        raise InspectError("two signals on one line", uri, "Give each a number of its own.")
    trigger = whole_number(known, "trigger", 0, numbers, uri) if "trigger" in known else None
    return Wiring(lines, trigger, whole_number(known, "pulse_ms", 100, range(10, 10_001), uri))


class LinePort(Protocol):
    """The device. Both calls may come from two threads; they raise OutputLost."""

    def write(self, levels: Levels) -> None:
        """Switch these lines, in this order."""

    def rises(self, within_s: float) -> list[int]:
        """When the trigger has risen (monotonic ns); waits so long for it. Never called without a trigger."""

    def close(self) -> None:
        """Let the lines go; may be called twice."""


class DiscreteOutput:
    """One set of lines. After a loss it stays lost: open a new one."""

    def __init__(self, uri: str, wiring: Wiring, open_port: Callable[[], LinePort], link: PlcLink) -> None:
        self.uri, self._wiring, self._link = uri, wiring, link
        self._lines = DiscreteLines(wiring.pulse_ms * 1_000_000)
        self._levels: Levels = ALL_OFF
        self._on_lines: Verdict | None = None  # the last that had its pulse begun
        self._using, self._closing = threading.RLock(), threading.Event()
        self._broken: Exception | None = None
        self._refreshed_ns = 0
        self._port = open_port()
        try:
            self._write(ALL_OFF)
        except OutputLost:
            self._port.close()
            raise
        link.withdraw()
        link.act(_enable)
        self._thread = threading.Thread(target=self._run, name="discrete-io", daemon=True)
        self._thread.start()

    def send(self, verdict: Verdict) -> None:
        """Begin its pulse, with a trigger when its turn comes. Raises OutputLost."""
        self._check()
        self._link.publish(verdict)
        self._turn()

    def beat(self, counter: int, healthy: bool) -> None:
        """Flip LIFE; about once a second write all lines anew. Raises OutputLost."""
        self._check()
        with self._using:
            self._link.beat(counter, healthy)
            self._lines.beat(healthy, now_ns := time.monotonic_ns())
            self._turn()
            if now_ns - self._refreshed_ns >= REFRESH_NS:
                self._write(self._levels)
                self._refreshed_ns = now_ns

    def close(self) -> None:
        """All lines off."""
        self._closing.set()
        self._thread.join()
        self._link.withdraw()
        with suppress(OutputLost):
            self._write(ALL_OFF)
        self._port.close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                for at_ns in self._triggers():
                    self._trigger(at_ns)
                self._turn()
        except Exception as error:  # whatever ends this thread ends the output: the next beat() says so
            self._broken = error

    def _triggers(self) -> list[int]:
        if self._wiring.trigger is not None:
            return self._port.rises(POLL_S)
        self._closing.wait(POLL_S)
        return []

    def _trigger(self, at_ns: int) -> None:
        with self._using:
            if not self._link.act(lambda hand, _: hand.trigger(None, at_ns)):
                self._lines.judged(False)

    def _turn(self) -> None:
        """Let what is due happen, and switch what has changed."""
        with self._using:
            now_ns = time.monotonic_ns()
            for verdict in self._link.take_shown():
                self._lines.show(verdict.outcome is Outcome.PASS, now_ns)
                self._lines.judged(not verdict.reason.is_fault)
                self._on_lines = verdict
            levels = self._lines.levels(self._link.act(self._proceed), now_ns)
            self._write(changes(self._levels, levels))
            self._levels = levels

    def _proceed(self, hand: Handshake, now_ns: int) -> bool:
        """The end of a pulse acknowledges its result. Gives whether a part may come."""
        hand.tick(now_ns)
        if hand.shown is not None and hand.shown is self._on_lines and self._lines.rests(now_ns):
            hand.acknowledge(result_id(hand.shown), now_ns)
        if hand.mode is Mode.FREE_RUN:
            return hand.image.online
        return hand.ready and hand.shown is None  # lines have no ids: one part at a time

    def _write(self, levels: Levels) -> None:
        wired = {line: on for line, on in levels.items() if line in self._wiring.lines}
        if wired:
            self._port.write(wired)

    def _check(self) -> None:
        if self._closing.is_set():
            raise OutputLost("the lines were let go", self.uri, "The outbox takes them again.")
        if self._broken is not None:
            hint = "Check module, wiring and rights."
            raise OutputLost(f"the lines were lost: {self._broken}", self.uri, hint) from self._broken


def _enable(hand: Handshake, now_ns: int) -> None:
    hand.enabled = True  # four lines have no ENABLE
