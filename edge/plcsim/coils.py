"""The PLC behind four wires: a Modbus module whose coils the station switches, and who looks at them.

Inputs and coils are one row of numbers here, so the trigger needs one that no coil has.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from edge.errors import InspectError
from edge.outputs.discrete_io import Wiring
from edge.outputs.modbus_wire import SERVED
from edge.outputs.remote_io import ModuleSettings, module_settings
from edge.plc.discrete import ALL_OFF, Line
from edge.plc.handshake import Mode
from edge.plc.registers import VerdictCode
from edge.plc.timing_chart import Sample
from edge.plcsim import Complaint, Mistake, Peer, Scan, Taken
from edge.plcsim.lasting import Lasting
from edge.plcsim.modbus import serve, where_to

SILENT_NS = 3_000_000_000  # a station that switches nothing for so long is not there: it does once a second
PATIENCE_NS = 10_000_000_000  # a part waits so long for its pulse
SOON_NS = 1_000_000_000
DEAF_NS = 5_000_000_000
NUMBERS = 16 * SERVED
WIRED = (Line.READY, Line.OK, Line.NG, Line.FAULT)


def coil_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError; the opener raises OutputLost when it cannot listen."""
    module = module_settings(uri)
    numbers = module.wiring.lines
    if missing := [line.value for line in WIRED if line not in numbers]:
        hint = f"Give {'= and '.join(missing)}=, too."
        raise InspectError("plc-sim looks at READY, OK, NG and FAULT", uri, hint)
    if module.wiring.trigger in numbers.values() or max(numbers.values()) >= NUMBERS:
        hint = f"Give trigger= a number that no coil has, all of them below {NUMBERS}."
        raise InspectError("the simulated module has one row of numbers for coils and inputs", uri, hint)
    return lambda: CoilPlc(module, mode)


class Module:
    """What the station switches, edge by edge, and the input that it looks at."""

    def __init__(self, settings: ModuleSettings) -> None:
        self._wiring: Wiring = settings.wiring
        self._registers, self._lock = [0] * SERVED, threading.Lock()
        self._edges: deque[tuple[Line, bool]] = deque(maxlen=1000)
        self._heard_ns = -SILENT_NS
        self._server = serve(settings.peer, range(SERVED), self._read, self._written)
        self.station = where_to(settings.peer, self._server)

    def look(self, now_ns: int) -> list[tuple[Line, bool]] | None:
        """Every edge since the last time; None: no station switches anything."""
        with self._lock:
            edges, silent = list(self._edges), now_ns - self._heard_ns > SILENT_NS
            self._edges.clear()
        return None if silent else edges

    def trigger(self, on: bool) -> None:
        """Stands until the next call."""
        if self._wiring.trigger is not None:
            with self._lock:
                self._put(self._wiring.trigger, on)

    def close(self) -> None:
        """End every connection."""
        self._server.close()

    def _read(self) -> list[int]:
        with self._lock:
            return list(self._registers)

    def _written(self, registers: list[int]) -> None:
        with self._lock:
            self._heard_ns = time.monotonic_ns()
            for line, number in self._wiring.lines.items():
                on = bool(registers[number // 16] >> number % 16 & 1)
                if on != bool(self._registers[number // 16] >> number % 16 & 1):
                    self._put(number, on)
                    self._edges.append((line, on))

    def _put(self, number: int, on: bool) -> None:
        register, bit = number // 16, 1 << number % 16
        self._registers[register] = self._registers[register] & ~bit | (bit if on else 0)


class CoilPlc:
    """One part after the other: READY, trigger until READY falls, the edge of OK or NG. A Peer."""

    def __init__(self, settings: ModuleSettings, mode: Mode) -> None:
        self._module, self._mode = Module(settings), mode
        self.station = self._module.station
        self._arrived: deque[int] = deque()
        self._results = 0
        self._begin()

    def part_arrives(self, part_id: int) -> None:
        """It is triggered when the one before it has its pulse."""
        self._arrived.append(part_id)

    def scan(self, now_ns: int) -> Scan:
        """See what was switched, raise or lower the trigger."""
        edges = self._module.look(now_ns)
        if edges is None:
            return Scan(False, {}, rejected=self._abandon())
        found, taken = list[Complaint](), list[Taken]()
        for line, on in edges:
            self._levels[line] = on
            if on and line in (Line.OK, Line.NG):
                taken.append(self._take(line, found))
        found += self._judge(now_ns)
        overdue = self._open is not None and now_ns - self._open_ns > PATIENCE_NS
        rejected = self._give_up() if overdue else ()
        triggered = self._trigger(now_ns)
        return Scan(True, self._sample(), triggered, tuple(taken), rejected, tuple(found))

    def close(self) -> None:
        """A PLC that stops."""
        self._module.close()

    def _begin(self) -> None:
        self._levels, self._lasting = dict(ALL_OFF), Lasting()
        self._open: int | None = None  # triggered, no pulse yet
        self._open_ns, self._asks = 0, False
        self._module.trigger(False)

    def _take(self, line: Line, found: list[Complaint]) -> Taken:
        healthy, part = self._levels[Line.FAULT], self._open
        self._results += 1
        if self._levels[Line.OK] and self._levels[Line.NG]:
            found.append(Complaint(Mistake.CONTRADICTION, "OK and NG are on together"))
        elif line is Line.OK and not healthy:
            found.append(Complaint(Mistake.CONTRADICTION, "OK rose while FAULT was off"))
        if self._mode is Mode.FREE_RUN:
            part = self._results
        elif part is None:
            found.append(Complaint(Mistake.OTHER_PART, f"{line.name} rose, no part waits for a result"))
        self._open = None
        good = line is Line.OK and healthy and not self._levels[Line.NG]
        code = VerdictCode.PASS if good else VerdictCode.FAIL if healthy else VerdictCode.NO_DECISION
        return Taken(-1 if part is None else part, code, f"{line.name}, FAULT {'on' if healthy else 'off'}")

    def _trigger(self, now_ns: int) -> tuple[int, ...]:
        """Held until READY falls, as docs/outputs.md wants it."""
        ready = self._levels[Line.READY]
        if self._asks and not ready:
            self._asks = False
            self._module.trigger(False)
        elif self._open is None and not self._asks and ready and self._arrived:
            self._open, self._open_ns, self._asks = self._arrived.popleft(), now_ns, True
            self._module.trigger(True)
            return (self._open,)
        return ()

    def _judge(self, now_ns: int) -> list[Complaint]:
        ready, healthy = self._levels[Line.READY], self._levels[Line.FAULT]
        rests = self._open is None and not (self._levels[Line.OK] or self._levels[Line.NG])
        deaf = self._mode is Mode.IDS and healthy and rests and not ready
        look, why = self._lasting.look, "for 5 s; has it stopped the line? Has it the same trigger=?"
        return [
            *look(Mistake.NO_TRIGGER_ACK, self._asks and ready, f"part {self._open}", SOON_NS, now_ns),
            *look(Mistake.NOT_READY, deaf, why, DEAF_NS, now_ns),
        ]

    def _sample(self) -> Sample:
        asked: Sample = {} if self._mode is Mode.FREE_RUN else {"TRIGGER": self._asks}
        return asked | {line.name: self._levels[line] for line in WIRED}

    def _give_up(self) -> tuple[int, ...]:
        """The trigger is taken back with its part."""
        lost, self._open, self._asks = self._open, None, False
        self._module.trigger(False)
        return () if lost is None else (lost,)

    def _abandon(self) -> tuple[int, ...]:
        """The station is gone: whatever has no result has gone by."""
        rejected = (*self._give_up(), *self._arrived)
        self._arrived.clear()
        self._begin()
        return rejected
