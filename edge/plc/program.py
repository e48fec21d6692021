"""The PLC's half of both handshakes, as a PLC program would be written: the station's block in, its own out.

For trying the station without a PLC, for the timing charts and for the tests. Pure; one `scan` is one cycle.
"""

from collections import deque
from collections.abc import Sequence

from edge.plc.handshake import Mode
from edge.plc.registers import PLC_COUNT, PLC_START, Control, Status, WordOrder, decode, place

Result = tuple[int, int, int]  # RESULT_ID, VERDICT, SEQUENCE
PATIENCE = 1000  # scans that a part waits for its result; then the PLC rejects it and goes on


class PlcProgram:
    """Triggers the parts that arrive, one after the other, and takes their results."""

    def __init__(self, mode: Mode, word_order: WordOrder = "big", patience: int = PATIENCE) -> None:
        self.taken: list[Result] = []
        self.rejected: list[int] = []  # parts without a result
        self._mode, self._order, self._patience = mode, word_order, patience
        self._arrived: deque[int] = deque()
        self._open: deque[int] = deque()  # triggered, no result yet
        self._control = Control.ENABLE
        self._trigger_id = self._ack_id = self._heartbeat = self._waited = 0
        self._command = self._command_arg = self._sequence = 0

    @property
    def control(self) -> Control:
        """The bits that it writes."""
        return self._control

    @property
    def open_parts(self) -> tuple[int, ...]:
        """Triggered, and without a result yet."""
        return tuple(self._open)

    def part_arrives(self, part_id: int) -> None:
        """It will be triggered as soon as the station is READY."""
        self._arrived.append(part_id)

    def order(self, command: int, argument: int = 0) -> None:
        """Have the station carry out a command."""
        self._command, self._command_arg = command, argument
        self._control |= Control.EXEC_COMMAND

    def abandon(self) -> None:
        """The connection is lost, or the parts have gone by: whatever has no result is rejected."""
        self.rejected.extend(self._arrived)
        self._arrived.clear()
        self._give_up()

    def scan(self, block: Sequence[int]) -> list[int]:
        """Look at registers 100..149 (50 values) and give registers 0..27 (28 values)."""
        status = Status(block[0])
        self._take(status, block)
        self._trigger(status)
        self._reset(Control.CLEAR_ERROR, not status & Status.MISSED_TRIGGER)
        self._reset(Control.EXEC_COMMAND, bool(status & (Status.COMMAND_DONE | Status.COMMAND_FAILED)))
        self._heartbeat = (self._heartbeat + 1) & 0xFFFF
        return self._block()

    def _take(self, status: Status, block: Sequence[int]) -> None:
        part, verdict, sequence = (
            int(decode(name, block, self._order)) for name in ("RESULT_ID", "VERDICT", "SEQUENCE")
        )
        known = part == self._ack_id if self._mode is Mode.IDS else bool(self._control & Control.RESULT_ACK)
        if self._mode is Mode.IDS and status & Status.RESULT_VALID and known and sequence != self._sequence:
            self._ack_id = 0  # another result of the same part: what stands there acknowledges nothing
        elif status & Status.RESULT_VALID and not known:
            self.taken.append((part, verdict, sequence))
            self._ack_id, self._sequence = part, sequence
            if self._mode is Mode.BITS:
                self._control |= Control.RESULT_ACK
            self._close(part)
        self._reset(Control.RESULT_ACK, not status & Status.RESULT_VALID)

    def _close(self, part: int) -> None:
        """Results come in the order of their parts: whoever came before has none, and is rejected."""
        while self._open:
            first = self._open.popleft()
            if first == part:
                return
            self.rejected.append(first)

    def _trigger(self, status: Status) -> None:
        self._waited = self._waited + 1 if self._open else 0
        if self._waited > self._patience:
            self._give_up()
        elif self._control & Control.TRIGGER:
            if status & Status.TRIGGER_ACK:
                self._control &= ~Control.TRIGGER
            elif status & Status.MISSED_TRIGGER:
                self._give_up()
        elif self._arrived and status & Status.READY and not (self._mode is Mode.IDS and self._open):
            self._trigger_id = self._arrived.popleft()
            self._open.append(self._trigger_id)
            if self._mode is Mode.BITS:
                self._control |= Control.TRIGGER

    def _give_up(self) -> None:
        self.rejected.extend(self._open)
        self._open.clear()
        self._control = self._control & ~Control.TRIGGER | Control.CLEAR_ERROR
        self._waited = 0

    def _reset(self, bit: Control, when: bool) -> None:
        if when:
            self._control &= ~bit

    def _block(self) -> list[int]:
        block = [0] * PLC_COUNT
        ack_id = self._ack_id if self._mode is Mode.IDS else 0  # or it would answer the other handshake, too
        values = {
            "CONTROL": self._control, "TRIGGER_ID": self._trigger_id, "PLC_HEARTBEAT": self._heartbeat,
            "COMMAND": self._command, "COMMAND_ARG": self._command_arg, "RESULT_ACK_ID": ack_id,
        }  # fmt: skip
        for name, value in values.items():
            place(block, PLC_START, name, value, self._order)
        return block
