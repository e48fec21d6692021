"""A PLC behind any protocol that carries the two register blocks: the station's 100..149, its own 0..27."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from edge.plc.handshake import Mode
from edge.plc.program import PlcProgram
from edge.plc.registers import (
    PLC_COUNT,
    STATION_COUNT,
    Control,
    GateBits,
    Status,
    VerdictCode,
    WordOrder,
    decode,
)
from edge.plc.timing_chart import Sample, sample
from edge.plcsim import Complaint, Ended, Scan, Taken
from edge.plcsim.judge import BlockJudge
from edge.plcsim.orders import OrderBook, SimOrder
from edge.plcsim.stops import stop_code
from edge.verdict import Reason

CYCLE_S = 0.01  # of a PLC: 2 to 10 ms
PATIENCE = 1000  # cycles that a part waits for its result


class Wire(Protocol):
    """Carries both blocks. Raises OSError while no station is there."""

    station: str  # what the station has to be given as --plc

    def read(self) -> list[list[int]]:
        """Every block of 50 that the station has shown since the last time, oldest first; at least one."""

    def show(self, plc: list[int]) -> None:
        """The PLC's block of 28, from now on."""

    def close(self) -> None:
        """Hang up."""


class BlockPlc:
    """The program of edge/plc/program.py on a wire, with a judge beside it. A Peer."""

    def __init__(self, wire: Wire, mode: Mode, word_order: WordOrder = "big") -> None:
        self._wire, self._mode, self._order = wire, mode, word_order
        self._program = PlcProgram(mode, word_order, PATIENCE)
        self._judge = BlockJudge(mode, word_order)
        self._book = OrderBook(self._program)
        self._plc = [0] * PLC_COUNT
        self._sequence = 0  # of the last result in free run
        self._confirms = False

    @property
    def station(self) -> str:
        """What the station has to be given as --plc."""
        return self._wire.station

    def part_arrives(self, part_id: int) -> None:
        """Trigger it as soon as the station is READY."""
        self._program.part_arrives(part_id)

    def order(self, orders: Sequence[SimOrder]) -> None:
        """Give these commands, once, as soon as a station is there; before the first scan."""
        self._book = OrderBook(self._program, orders)

    def confirm(self) -> None:
        """From now on the sensor at the gate sees every part that is rejected there."""
        self._confirms = True

    def scan(self, now_ns: int) -> Scan:
        """Read, judge, let the program do its cycle, write."""
        open_before = set(self._program.open_parts)
        gone = len(self._program.rejected)
        complaints: list[Complaint] = []
        taken, ended = tuple[Taken, ...](), tuple[Ended, ...]()
        try:
            blocks = self._wire.read()
            for block in blocks:
                complaints += self._judge.look(block, self._plc, self._program.open_parts, now_ns)
            taken = self._take(blocks)
            ended = self._book.look(Status(blocks[-1][0]), now_ns)
            if stop_code(blocks[-1], self._order):  # a person's to take back, not for a missed trigger
                self._plc[0] &= ~Control.CLEAR_ERROR
            self._plc[0] |= self._book.control | self._sensor(blocks[-1])
            self._wire.show(self._plc)
        except OSError:
            self._judge.forget()
            self._program.abandon()
            rejected = tuple(self._program.rejected[gone:])
            ended += self._book.lose()
            return Scan(False, {}, taken=taken, rejected=rejected, complaints=tuple(complaints), ended=ended)
        triggered = tuple(part for part in self._program.open_parts if part not in open_before)
        rejected = tuple(self._program.rejected[gone:])
        seen, stopped = self._sample(blocks[-1]), stop_code(blocks[-1], self._order)
        return Scan(True, seen, triggered, taken, rejected, tuple(complaints), ended, stopped)

    def close(self) -> None:
        """A PLC that stops: its block is cleared."""
        with suppress(OSError):
            self._wire.show([0] * PLC_COUNT)
        self._wire.close()

    def _take(self, blocks: Sequence[Sequence[int]]) -> tuple[Taken, ...]:
        if self._mode is Mode.FREE_RUN:
            self._plc = [0] * PLC_COUNT
            return tuple(self._result(block) for block in blocks if self._is_new(block))
        count = len(self._program.taken)
        self._plc = self._program.scan(blocks[-1])
        return tuple(self._result(blocks[-1]) for _ in self._program.taken[count:])

    def _sensor(self, block: Sequence[int]) -> Control:
        rejects = int(decode("GATE", block, self._order)) & GateBits.REJECT
        return Control.REJECT_CONFIRMED if self._confirms and rejects else Control(0)

    def _is_new(self, block: Sequence[int]) -> bool:
        """In free run every step of SEQUENCE is a result."""
        before, sequence = self._sequence, int(decode("SEQUENCE", block, self._order))
        if not block[0] & Status.RESULT_VALID:
            return False
        self._sequence = sequence
        return sequence != before

    def _result(self, block: Sequence[int]) -> Taken:
        part, verdict, sequence, reason = (
            int(decode(name, block, self._order)) for name in ("RESULT_ID", "VERDICT", "SEQUENCE", "REASON")
        )
        code = VerdictCode(verdict) if verdict in tuple(VerdictCode) else VerdictCode.NONE
        why = Reason(reason).name if reason in tuple(Reason) else f"REASON {reason}"
        return Taken(part, code, f"{why}, SEQUENCE {sequence}")

    def _sample(self, block: Sequence[int]) -> Sample:
        assert len(block) == STATION_COUNT
        gate, error = (int(decode(name, block, self._order)) for name in ("GATE", "ERROR_CODE"))
        bits = {str(bit.name): bool(gate & bit) for bit in GateBits}
        return sample(self._mode, self._plc, block, self._order) | bits | {"ERROR_CODE": str(error)}
