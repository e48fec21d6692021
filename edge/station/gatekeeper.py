"""The reject gate: a thread that moves the belt of `tracking.py` on and shows what the gate has to do now.

    PLC's trigger, or the picture --part, position-->  +-------------+ --register GATE--> PLC --> valve
    station                       --verdict--------->  | PartTracker | --ERROR, WARNING-> PLC, log
    PLC                           --encoder, sensor--> +-------------+

--gate distance=1200ms,tolerance=40ms                     a belt that runs at one speed
--gate distance=5200,tolerance=150,confirm=400,rejects=5  counts of the PLC's encoder; a sensor at the gate
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.errors import InspectError
from edge.plc.line_events import Event, Happened
from edge.plc.registers import GateBits
from edge.station.tracking import ENCODER, NANOSECONDS, STOPS, Alarm, Gate, GateEvent, PartTracker
from edge.verdict import Outcome, Reason, Verdict

TICK_S = 0.005  # a PLC's cycle is 2 to 10 ms
SHORTEST_MS = 4 * TICK_S * 1e3  # on either side of the gate: no look may step over it
OPTION = "--gate"
NEEDED = {"distance", "tolerance"}
NUMBER = re.compile(r"[0-9]{1,9}")
REASONS = {
    Alarm.NO_VERDICT: Reason.GATE_NO_VERDICT,
    Alarm.NOT_CONFIRMED: Reason.GATE_NOT_CONFIRMED,
    Alarm.UNEXPECTED_REJECT: Reason.GATE_UNEXPECTED,
    Alarm.PASSED_UNSEEN: Reason.GATE_PASSED_UNSEEN,
    Alarm.POSITION_LOST: Reason.GATE_POSITION_LOST,
    Alarm.LOST_PARTS: Reason.PARTS_LOST,
    Alarm.EXTRA_PART: Reason.PART_EXTRA,
    Alarm.REJECTS_IN_A_ROW: Reason.REJECTS_IN_A_ROW,
}

Say = Callable[[str], None]


class GateOutput(Protocol):
    """What moves the gate and tells of it. `PlcLink` is one; a lamp or a valve on a pin could be another."""

    def show_gate(self, bits: GateBits) -> None:
        """What the gate has to do from now on; returns at once."""

    def warn(self, reason: Reason) -> None:
        """A person should look."""

    def stop(self, reason: Reason) -> None:
        """The line must not go on before a person has looked."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """As typed; `by_encoder`: in counts, else in nanoseconds."""

    gate: Gate
    by_encoder: bool


def parse_gate(text: str) -> GateSettings:
    """Raises InspectError; lengths all have the unit ms, or none of them (encoder counts)."""
    given = dict(item.partition("=")[::2] for item in text.split(","))
    rejects = given.pop("rejects", "5")
    units = {value.endswith("ms") for value in given.values()}
    if len(units) > 1:
        hint = "Give all lengths in ms (tolerance=50ms), or all as counts of the PLC's encoder."
        raise InspectError(f"the units of {text!r} are mixed", OPTION, hint)
    in_ms = units == {True}
    numbers = {name: value.removesuffix("ms") if in_ms else value for name, value in given.items()}
    readable = all(NUMBER.fullmatch(number) for number in (*numbers.values(), rejects))
    if not readable or not NEEDED <= numbers.keys() <= NEEDED | {"confirm"}:
        hint = "Write distance=1200ms,tolerance=40ms or, in encoder counts, distance=5200,tolerance=150"
        raise InspectError(f"{text!r} cannot be read", OPTION, f"{hint}; confirm= and rejects= may follow.")
    return _settings({name: int(number) for name, number in numbers.items()}, int(rejects), not in_ms)


def _settings(lengths: dict[str, int], rejects: int, by_encoder: bool) -> GateSettings:
    distance, tolerance = lengths["distance"], lengths["tolerance"]
    _check_size(distance, tolerance, "" if by_encoder else "ms")
    if rejects < 1:
        raise InspectError("rejects=0: the line would always stop", OPTION, "Give rejects=1 or more.")
    unit = 1 if by_encoder else 1_000_000
    modulus = ENCODER if by_encoder else NANOSECONDS
    gate = Gate(distance * unit, tolerance * unit, lengths.get("confirm", 0) * unit, rejects, modulus)
    return GateSettings(gate, by_encoder)


def _check_size(distance: int, tolerance: int, unit: str) -> None:
    shortest = SHORTEST_MS if unit else 1
    if tolerance < shortest:
        what = f"tolerance={tolerance}{unit} is too small: the gate could be missed between two looks"
        raise InspectError(what, OPTION, f"Give tolerance={shortest:g}{unit} or more.")
    if tolerance >= distance:
        what = f"tolerance={tolerance}{unit} is not smaller than distance={distance}{unit}"
        hint = "distance is the way from the camera to the gate, tolerance how far off a part may be there."
        raise InspectError(what, OPTION, hint)


class GateKeeper:
    """`position` is asked every TICK_S: encoder counts or ns, None while nobody knows.

    `asked`: parts are told by the PLC's triggers, which it hears as events, missed ones too; else by their
    verdicts, from the time of the picture on.
    """

    def __init__(
        self,
        settings: GateSettings,
        position: Callable[[], int | None],
        outputs: Sequence[GateOutput],
        asked: bool,
        say: Say,
    ) -> None:
        self._settings, self._position, self._outputs = settings, position, outputs
        self._asked, self._say = asked, say
        self._tracker, self._lock = PartTracker(settings.gate), threading.Lock()
        self._shown: GateBits | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)
        self._thread.start()

    def hear(self, event: Event) -> None:
        """What the PLC did; called with its link locked, so nothing is asked of a link here."""
        with self._lock:
            match event.what:
                case Happened.TRIGGERED | Happened.MISSED if self._asked and event.request is not None:
                    request = event.request
                    at = request.encoder if self._settings.by_encoder else request.at_ns
                    self._tracker.triggered(request.part_id, at, request.number)
                case Happened.TIMED_OUT | Happened.WITHDRAWN if event.request is not None:
                    self._tracker.refused(event.request.number)  # the PLC was not told that it is good
                case Happened.REJECT_CONFIRMED:
                    self._tracker.confirmed()
                case Happened.CLEARED:
                    self._tracker.restart()

    def put(self, verdict: Verdict) -> None:
        """A part's verdict; what has no part id is no part."""
        with self._lock:
            number = verdict.request if self._asked else verdict.frame_id
            if verdict.part_id is None or number is None:
                return
            if not self._asked:
                self._tracker.triggered(verdict.part_id, verdict.captured_ns, number)
            self._tracker.judged(number, verdict.outcome is Outcome.PASS)

    @property
    def stopped(self) -> bool:
        """The line must not go on before a person has looked."""
        return self._tracker.stopped or not self._thread.is_alive()

    def close(self) -> None:
        """Move nothing any more; may be called twice."""
        self._closing.set()
        self._thread.join()
        self._show(GateBits(0))

    def _run(self) -> None:
        while not self._closing.wait(TICK_S):
            try:
                self._tick()
            except Exception as error:  # whatever it is: nothing gets through that nobody follows
                self._show(GateBits.REJECT | GateBits.LINE_STOP)
                self._tell(Reason.STATION_FAULT, f"the gate's tracking broke: {error!r}", stops=True)
                return

    def _tick(self) -> None:
        position = self._position()
        if position is None:  # what is at the gate now may be any part
            self._show((self._shown or GateBits(0)) & ~GateBits.LET_THROUGH)
            return
        with self._lock:
            events, tracker = self._tracker.advance(position), self._tracker
            bits = {
                GateBits.REJECT: tracker.rejecting,
                GateBits.LET_THROUGH: tracker.letting,
                GateBits.LINE_STOP: tracker.stopped,
            }
        self._show(GateBits(sum(bit for bit, on in bits.items() if on)))
        for event in events:
            self._tell(REASONS[event.alarm], _words(event), event.alarm in STOPS)

    def _show(self, bits: GateBits) -> None:
        if bits != self._shown:
            self._shown = bits
            for output in self._outputs:
                output.show_gate(bits)

    def _tell(self, reason: Reason, text: str, stops: bool) -> None:
        for output in self._outputs:
            output.stop(reason) if stops else output.warn(reason)
        until = f"; the line has to stop: ERROR_CODE {int(reason)}, until CLEAR_ERROR" if stops else ""
        self._say(f"gate: {text}{until}")


def _words(event: GateEvent) -> str:
    count = f", {event.count} of them" if event.count > 1 else ""
    return f"{event.alarm.value} (part {'without id' if event.part_id is None else event.part_id}{count})"


def now_ns() -> int:
    """The position of a belt that runs at one speed."""
    return time.monotonic_ns()
