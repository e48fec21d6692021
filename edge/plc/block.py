"""The PLC's registers 0..27, looked at again and again: what changes is a trigger, an acknowledge, a command.

Pure. Only what the PLC does while it is watched counts: bits and ids that stand already when it connects, or
when it sets ENABLE, are where it starts from, not triggers. CLEAR_ERROR alone is kept beyond a connection to
registers of ours: an operator panel may connect for nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from edge.plc.handshake import Handshake, Mode
from edge.plc.registers import Control, WordOrder, decode
from edge.plc.station_image import result_id


@dataclass(frozen=True, slots=True)
class PlcBlock:
    """What the PLC shows at one moment."""

    control: Control
    trigger_id: int
    command: int
    command_arg: int
    heartbeat: int
    encoder: int
    result_ack_id: int

    @classmethod
    def decode(cls, block: Sequence[int], word_order: WordOrder = "big") -> Self:
        """From registers 0..27 of one read or write."""
        names = ("TRIGGER_ID", "COMMAND", "COMMAND_ARG", "PLC_HEARTBEAT", "ENCODER", "RESULT_ACK_ID")
        return cls(Control(block[0]), *(int(decode(name, block, word_order)) for name in names))


class PlcWatch:
    """Drives a handshake from what the PLC shows. `forget` when the connection is new."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._before: PlcBlock | None = None
        self._clear_stands = True  # unknown is as if it stood: nobody has pressed it before our eyes

    def forget(self) -> None:
        """What the PLC shows next is where it starts from."""
        self._before, self._clear_stands = None, True

    def begin_at_zero(self) -> None:
        """The PLC writes into registers of ours, which are 0 until it does."""
        self._clear_stands = False

    def hang_up(self) -> None:
        """The writer has gone, its registers stay: CLEAR_ERROR that is written again is no new one."""
        self._before = None

    def look(self, plc: PlcBlock, now_ns: int) -> None:
        """Compare with the look before, and act; where nothing was seen before, only remember."""
        before, self._before = self._before, plc
        hand = self._handshake
        if before is not None and _beat(plc) != _beat(before):
            hand.plc_beats(now_ns)
        if hand.mode is Mode.BITS:
            hand.trigger_stands = bool(plc.control & Control.TRIGGER)
            hand.ack_stands = bool(plc.control & Control.RESULT_ACK)
        hand.tick(now_ns)
        clears, stood = bool(plc.control & Control.CLEAR_ERROR), self._clear_stands
        self._clear_stands = clears
        if clears and not stood:
            hand.clear_error(now_ns)
        if before is not None:
            self._hear(plc.control & ~before.control, now_ns)
        was_enabled, hand.enabled = hand.enabled, bool(plc.control & Control.ENABLE) and not hand.plc_lost
        starts = hand.enabled and not was_enabled
        if starts:
            hand.begin(now_ns)
        if before is not None and hand.mode is not Mode.FREE_RUN:
            self._act(before, plc, now_ns, starts)

    def _act(self, before: PlcBlock, plc: PlcBlock, now_ns: int, starts: bool) -> None:
        hand, rises = self._handshake, plc.control & ~before.control
        falls = before.control & ~plc.control
        if not starts and self._triggers(before, plc):
            hand.trigger(plc.trigger_id, now_ns, plc.encoder)
        if hand.mode is Mode.BITS and not hand.trigger_stands:
            hand.trigger_taken = False
        self._acknowledge(before, plc, now_ns)
        if rises & Control.EXEC_COMMAND:
            hand.command(plc.command, plc.command_arg, now_ns)
        if falls & Control.EXEC_COMMAND:
            hand.commands.taken_back()

    def _hear(self, rises: Control, now_ns: int) -> None:
        """Of what concerns the line, not one part; also in free run."""
        if rises & Control.REJECT_CONFIRMED:
            self._handshake.reject_confirmed(now_ns)

    def _triggers(self, before: PlcBlock, plc: PlcBlock) -> bool:
        if self._handshake.mode is Mode.BITS:
            return bool(plc.control & ~before.control & Control.TRIGGER)
        return plc.trigger_id not in (0, before.trigger_id)

    def _acknowledge(self, before: PlcBlock, plc: PlcBlock, now_ns: int) -> None:
        hand = self._handshake
        if hand.mode is Mode.IDS:
            if plc.result_ack_id != before.result_ack_id:
                hand.acknowledge(plc.result_ack_id, now_ns)
            return
        if hand.shown is not None and plc.control & ~before.control & Control.RESULT_ACK:
            hand.acknowledge(result_id(hand.shown), now_ns)
        hand.show_next(now_ns)


def _beat(plc: PlcBlock) -> tuple[int, Control]:
    return plc.heartbeat, plc.control & Control.HEARTBEAT
