"""Part tracking from the camera to the reject gate: positions and verdicts in, gate and alarms out. Pure.

    camera                               gate
      |  part 7   part 6      part 5    |<-tolerance->|
    --+----o--------o-----------o-------+------o------+----> belt
    position at the trigger + distance = where the part meets the gate

A position is an encoder count (u32, wraps) or a time in ns. Only a part that is known to be good is let
through: no verdict by the time it reaches the gate, and it is rejected with an alarm. Where windows overlap,
reject wins.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

ENCODER = 2**32  # counts until the encoder begins again
NANOSECONDS = 2**64


class Alarm(Enum):
    """What an operator has to know."""

    NO_VERDICT = "no verdict at the gate: rejected"
    NOT_CONFIRMED = "a reject was not confirmed: a bad part may have passed"
    UNEXPECTED_REJECT = "the reject sensor saw a part that was not rejected"
    PASSED_UNSEEN = "a part to reject went by while nobody looked"
    POSITION_LOST = "the encoder has jumped: nobody knows where the parts are"
    LOST_PARTS = "part ids are missing"
    EXTRA_PART = "a part id came twice"
    REJECTS_IN_A_ROW = "too many rejects in a row"


# A bad part is through, or may be, or all are bad.
STOPS = {Alarm.NOT_CONFIRMED, Alarm.PASSED_UNSEEN, Alarm.POSITION_LOST, Alarm.REJECTS_IN_A_ROW}


@dataclass(frozen=True, slots=True)
class Gate:
    """Where the gate is and how it behaves, all in counts (or ns)."""

    distance: int  # from the trigger to the middle of the gate
    tolerance: int  # before and after the middle: the gate is open, the part is somewhere in there
    confirm_within: int = 0  # after the window the reject sensor has seen the part; 0: there is no sensor
    most_rejects: int = 5  # in a row, then the line stops
    modulus: int = ENCODER


@dataclass(frozen=True, slots=True)
class GateEvent:
    """An alarm with the part it is about."""

    alarm: Alarm
    part_id: int | None
    count: int = 1  # parts that it is about


@dataclass(slots=True)
class _Part:
    part_id: int | None
    middle: int  # position at which it is in the middle of the gate
    number: int | None  # of its trigger; None: missed
    passed: bool | None = None
    rejected: bool = False  # the gate was told
    confirmed: bool = False


class PartTracker:
    """Several parts between camera and gate. `rejecting` and `letting` (through) are what the gate has to do
    and never both true, `stopped` the line."""

    def __init__(self, gate: Gate) -> None:
        self.rejecting, self.letting, self.stopped = False, False, False
        self._gate = gate
        self._parts: deque[_Part] = deque()
        self._last_id: int | None = None
        self._position: int | None = None
        self._in_a_row = 0
        self._events: list[GateEvent] = []

    def triggered(self, part_id: int | None, position: int, number: int | None) -> None:
        """A part is at the camera. `number` is never used again, as a part id may be: its verdict names it.

        None: the trigger was missed, so no verdict can be its own. Whether the PLC counts such a part, nobody
        knows: any id may follow.
        """
        middle = (position + self._gate.distance) % self._gate.modulus
        part = _Part(part_id, middle, number)
        if number is None or part_id is None:
            self._last_id = None
        elif self._came_twice(part_id):
            part.passed = False  # one too many is no good part
        self._parts.append(part)

    def judged(self, number: int, passed: bool) -> bool:
        """The verdict for the part of this trigger; False when it comes too late to count."""
        for part in self._parts:
            if part.number == number and part.passed is None:
                part.passed = passed
                return True
        return False

    def refused(self, number: int | None) -> None:
        """The part of this trigger is no good one any more, whatever its verdict said."""
        for part in self._parts:
            if part.number == number and not part.rejected:
                part.passed = False

    def confirmed(self) -> None:
        """The reject sensor has seen a part."""
        for part in self._parts:
            if part.rejected and not part.confirmed:
                part.confirmed = True
                return
        self._tell(Alarm.UNEXPECTED_REJECT, self._parts[0].part_id if self._parts else None)

    def advance(self, position: int) -> list[GateEvent]:
        """The belt has moved. Sets `rejecting`, `letting` and `stopped`; gives what happened since the last
        call."""
        self._move(position)
        for part in self._parts:
            self._at_gate(part)
        here = [part for part in self._parts if abs(self._past(part)) <= self._gate.tolerance]
        self.rejecting = any(part.rejected for part in here)
        self.letting = bool(here) and not self.rejecting
        while self._parts and self._past(self._parts[0]) > self._gate.tolerance + self._gate.confirm_within:
            self._leave(self._parts.popleft())
        events, self._events = self._events, []
        return events

    def restart(self) -> None:
        """A person has looked: the line may run again, with any part id."""
        self.stopped, self._in_a_row, self._last_id = False, 0, None

    def _came_twice(self, part_id: int) -> bool:
        """Ids rise by one (u32) until the PLC begins again; a gap or a repeat is an alarm."""
        travels = any(part.part_id == part_id and part.number is not None for part in self._parts)
        if travels or part_id == self._last_id:
            self._tell(Alarm.EXTRA_PART, part_id)
            return True
        step = 1 if self._last_id is None else _ahead(part_id, self._last_id, 2**32)
        self._last_id = part_id
        if step > 1:
            self._tell(Alarm.LOST_PARTS, part_id, step - 1)
        return False

    def _move(self, position: int) -> None:
        """A belt that swings back a little moves nothing; a count that falls further is another count."""
        step = 1 if self._position is None else _ahead(position, self._position, self._gate.modulus)
        if step > 0:
            self._position = position
        elif step < -self._gate.tolerance:
            if self._parts:
                self._tell(Alarm.POSITION_LOST, self._parts[0].part_id, len(self._parts))
            self._parts.clear()
            self._position = position

    def _past(self, part: _Part) -> int:
        """How far a part is past the middle of the gate; below 0 it has not reached it."""
        assert self._position is not None
        return _ahead(self._position, part.middle, self._gate.modulus)

    def _at_gate(self, part: _Part) -> None:
        if self._past(part) < -self._gate.tolerance or part.rejected or part.passed:
            return
        if part.passed is None:
            self._tell(Alarm.NO_VERDICT, part.part_id)
            part.passed = False
        part.rejected = True
        if self._past(part) > self._gate.tolerance:
            self._tell(Alarm.PASSED_UNSEEN, part.part_id)

    def _leave(self, part: _Part) -> None:
        self._in_a_row = self._in_a_row + 1 if part.rejected else 0
        if part.rejected and self._gate.confirm_within and not part.confirmed:
            self._tell(Alarm.NOT_CONFIRMED, part.part_id)
        if self._in_a_row >= self._gate.most_rejects:
            self._tell(Alarm.REJECTS_IN_A_ROW, part.part_id, self._in_a_row)

    def _tell(self, alarm: Alarm, part_id: int | None, count: int = 1) -> None:
        self.stopped = self.stopped or alarm in STOPS
        self._events.append(GateEvent(alarm, part_id, count))


def _ahead(position: int, other: int, modulus: int) -> int:
    """How far `position` is ahead of `other` on a circle, -modulus/2 .. modulus/2 - 1."""
    return (position - other + modulus // 2) % modulus - modulus // 2
