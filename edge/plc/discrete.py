"""Four lines in place of registers: what stands on READY, OK, NG and FAULT, and for how long.

    READY  a part may come
    OK     a pulse: this part passed
    NG     a pulse: this part did not pass, for whatever reason
    FAULT  on = all is well, so that a cut wire, a station without power and a fault look the same
    LIFE   flips with every heartbeat, while the station inspects

Pure: no thread, no clock, no device; `now_ns` is monotonic. The rules it keeps:

- OK and NG are never on together; between two pulses both are off for a while, so that each has its edge;
- a pulse that the next verdict overtakes is cut short; verdicts that meet in one pause become one pulse, and
  it is OK only if all of them are;
- a station that cannot vouch for anything has all lines off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

GAP_NS = 10_000_000  # both off between two pulses: a PLC's cycle; as long as a fast one is seen for certain


class Line(Enum):
    """By the names used in the URI."""

    READY = "ready"
    OK = "ok"
    NG = "ng"
    FAULT = "fault"
    LIFE = "life"


Levels = Mapping[Line, bool]
ALL_OFF: Levels = dict.fromkeys(Line, False)


@dataclass(frozen=True, slots=True)
class Pulse:
    """OK or NG; `at_ns` is when it may begin, and once it stands, when it ends."""

    passed: bool
    at_ns: int


class DiscreteLines:
    """The lines of one output. Whoever owns it asks for the levels again and again, and switches them.

    A pulse begins when it is asked for, not before: none is lost to an owner that comes late.
    """

    def __init__(self, pulse_ns: int, gap_ns: int = GAP_NS) -> None:
        self._pulse_ns, self._gap_ns = pulse_ns, gap_ns
        self._healthy = self._life = self._trouble = False
        self._waits: Pulse | None = None
        self._stands: Pulse | None = None
        self._free_ns = 0  # no pulse may begin before this time

    def show(self, passed: bool, now_ns: int) -> None:
        """One part's verdict; everything but a pass is an NG. Who has just judged a part is well."""
        self._healthy = True
        if self._waits is not None:
            self._waits = Pulse(passed and self._waits.passed, self._waits.at_ns)
            return
        self._cut(now_ns)
        self._waits = Pulse(passed, max(now_ns, self._free_ns))

    def judged(self, was_judged: bool) -> None:
        """FAULT falls for a part that could not be judged, or a trigger that was not taken, until one is."""
        self._trouble = not was_judged

    def beat(self, healthy: bool, now_ns: int) -> None:
        """With every heartbeat. What an unhealthy station shows is taken back."""
        self._healthy = healthy
        self._life = healthy and not self._life
        if not healthy:
            self._waits = None
            self._cut(now_ns)

    def rests(self, now_ns: int) -> bool:
        """Whether the last pulse and its pause are over."""
        return self._waits is None and self._stands is None and now_ns >= self._free_ns

    def levels(self, ready: bool, now_ns: int) -> Levels:
        """What stands from now on; `ready` is what the handshake says."""
        if self._stands is not None and now_ns >= self._stands.at_ns:
            self._cut(now_ns)
        if self._waits is not None and now_ns >= self._waits.at_ns:
            self._stands, self._waits = Pulse(self._waits.passed, now_ns + self._pulse_ns), None
        return {
            Line.READY: self._healthy and ready and self.rests(now_ns),
            Line.OK: self._stands is not None and self._stands.passed,
            Line.NG: self._stands is not None and not self._stands.passed,
            Line.FAULT: self._healthy and not self._trouble,
            Line.LIFE: self._life,
        }

    def _cut(self, now_ns: int) -> None:
        if self._stands is not None:
            self._stands, self._free_ns = None, now_ns + self._gap_ns


def changes(before: Levels, after: Levels) -> dict[Line, bool]:
    """What to switch, in this order: off first, so that OK and NG never meet on their way; FAULT before OK,
    so that the edge of OK finds it as it is.
    """
    changed = {line: on for line, on in after.items() if before.get(line) is not on}
    return dict(sorted(changed.items(), key=lambda item: (item[1], item[0] is not Line.FAULT)))
