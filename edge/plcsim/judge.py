"""What a PLC programmer would find wrong with a station, from its register block alone. Pure.

Every mistake is told once, when it begins: at the edge, not at each look.
"""

from collections.abc import Callable, Collection, Sequence

from edge.plc.handshake import Mode
from edge.plc.registers import (
    RESULT_BITS,
    STATION_START,
    TEST_F32,
    TEST_U16,
    Control,
    Status,
    VerdictCode,
    WordOrder,
    decode,
)
from edge.plc.station_image import next_sequence
from edge.plcsim import RUNS_FREE, Complaint, Mistake
from edge.plcsim.lasting import Lasting
from edge.plcsim.stops import stop_code

STILL_NS = 3_000_000_000  # a heartbeat that stands still for so long (docs/outputs.md)
SOON_NS = 1_000_000_000  # for what a station does at once: clear, acknowledge a trigger
DEAF_NS = 5_000_000_000
SWAPPED = 0x3412
SAME = "; is the station's handshake= the same as here?"
ANSWERS = Status.TRIGGER_ACK | Status.MISSED_TRIGGER
AT_WORK = Status.READY | Status.BUSY | Status.RESULT_OVERRUN | Status.COMMAND_BUSY

Read = Callable[[str], int]


class BlockJudge:
    """One station. `forget` when the connection is new."""

    def __init__(self, mode: Mode, word_order: WordOrder = "big") -> None:
        self._mode, self._order = mode, word_order
        self.forget()

    def forget(self) -> None:
        """What is seen next is where it starts from."""
        self._before: Sequence[int] | None = None
        self._open: Collection[int] = ()  # parts without a result
        self._asked = False  # for any part
        self._sequence = 0  # of the last result
        self._beat: tuple[int, int] | None = None  # HEARTBEAT, and since when
        self._lasting = Lasting()
        self._shown: tuple[int, int, int] | None = None
        self._layout_told = False
        self._looked_ns = 0

    def look(
        self, block: Sequence[int], plc: Sequence[int], open_parts: Collection[int], now_ns: int
    ) -> list[Complaint]:
        """Registers 100..149 as the station shows them, 0..27 as the PLC does; parts without a result yet."""
        before, self._before, self._open = self._before, list(block), open_parts
        self._asked = self._asked or bool(open_parts or decode("TRIGGER_ID", plc, self._order))
        if now_ns - self._looked_ns > SOON_NS:  # we stood still ourselves: what lasts is timed anew
            self._beat = None
            self._lasting.begin_anew()
        self._looked_ns = now_ns
        if not any(block):  # it has written nothing yet
            return []
        read: Read = lambda name: int(decode(name, block, self._order))  # noqa: E731
        found = [*self._layout(block), *self._heartbeat(read("HEARTBEAT"), now_ns)]
        stopped = bool(stop_code(block, self._order))
        found += self._standing(Status(block[0]), Control(plc[0]), plc, read, stopped, now_ns)
        if before is None or list(before) != list(block):
            found += self._changes(before, Status(block[0]), read)
        return found

    def _layout(self, block: Sequence[int]) -> list[Complaint]:
        if self._layout_told:
            return []
        self._layout_told = True
        seen, real = block[118 - STATION_START], decode("TEST_F32", block, self._order)
        if seen == SWAPPED:
            return [Complaint(Mistake.LAYOUT, "TEST_U16 (118) reads 0x3412: its bytes are swapped")]
        if seen != TEST_U16:
            hint = "addresses are off by one" if TEST_U16 in (block[17], block[19]) else "wrong addresses?"
            return [Complaint(Mistake.LAYOUT, f"TEST_U16 (118) reads {seen:#06x}, not 0x1234: {hint}")]
        if real != TEST_F32:
            hint = "set word_order alike on both sides"
            return [Complaint(Mistake.LAYOUT, f"TEST_F32 (134) reads {real:g}, not 1.0: {hint}")]
        return []

    def _heartbeat(self, beat: int, now_ns: int) -> list[Complaint]:
        if self._beat is None or self._beat[0] != beat:
            self._beat = (beat, now_ns)
        still = now_ns - self._beat[1] > STILL_NS
        detail = f"HEARTBEAT (116) has stood at {beat} for 3 s: treat every part as bad"
        return self._lasting.look(Mistake.NO_HEARTBEAT, still, detail, 0, now_ns)

    def _standing(
        self, status: Status, control: Control, plc: Sequence[int], read: Read, stopped: bool, now_ns: int
    ) -> list[Complaint]:
        """What is wrong only when it lasts. `stopped`: READY is off with good reason."""
        part, asked = read("RESULT_ID"), int(decode("TRIGGER_ID", plc, self._order))
        if self._mode is Mode.BITS:
            acknowledged = bool(control & Control.RESULT_ACK)
            unanswered = bool(control & Control.TRIGGER) and not status & ANSWERS
        else:
            acknowledged = self._mode is Mode.IDS and int(decode("RESULT_ACK_ID", plc, self._order)) == part
            unanswered = asked in self._open and status & AT_WORK == Status.READY
        stays = acknowledged and bool(status & Status.RESULT_VALID)
        offline = bool(status & Status.READY) and not status & Status.ONLINE
        idle = not stopped and status & (AT_WORK | Status.ONLINE) == Status.ONLINE
        deaf = idle and bool(control & Control.ENABLE)
        last = self._lasting.look
        return [
            *last(Mistake.NOT_CLEARED, stays, f"part {part}, 1 s later{SAME}", SOON_NS, now_ns),
            *last(Mistake.NO_TRIGGER_ACK, unanswered, f"part {asked}, for 1 s{SAME}", SOON_NS, now_ns),
            *last(Mistake.NOT_READY, deaf, f"for 5 s with ENABLE on{SAME}", DEAF_NS, now_ns),
            *last(Mistake.READY_OFFLINE, offline, f"STATUS is {status:#06x}", 0, now_ns),
        ]

    def _changes(self, before: Sequence[int] | None, status: Status, read: Read) -> list[Complaint]:
        shown, self._shown = self._shown, (status & RESULT_BITS, read("VERDICT"), read("REASON"))
        found = [] if shown == self._shown else self._contradiction(status, read)
        if before is None:  # what stood there before we came
            self._sequence = read("SEQUENCE")
            return found
        if not status & Status.RESULT_VALID:
            return found
        if not before[0] & Status.RESULT_VALID or self._sequence != read("SEQUENCE"):
            return found + self._new_result(read)
        names = ("RESULT_ID", "VERDICT", "REASON")
        old = [int(decode(name, before, self._order)) for name in names]
        new = [read(name) for name in names]
        if old != new:
            detail = f"SEQUENCE stayed {read('SEQUENCE')}, {', '.join(names)} went from {old} to {new}"
            found.append(Complaint(Mistake.CHANGED, detail))
        return found

    def _new_result(self, read: Read) -> list[Complaint]:
        last, self._sequence = self._sequence, read("SEQUENCE")
        part, sequence = read("RESULT_ID"), self._sequence
        if read("VERDICT") == VerdictCode.NONE:
            return [Complaint(Mistake.EARLY, f"RESULT_VALID is 1, VERDICT (101) still 0, part {part}")]
        if sequence == last:
            return [Complaint(Mistake.EARLY, f"RESULT_VALID is 1, SEQUENCE (104) still {last}, part {part}")]
        found = []
        if self._mode is not Mode.FREE_RUN and part not in self._open:
            found.append(self._nobody_s(part))
        if last and sequence != next_sequence(last):
            found.append(Complaint(Mistake.SKIPPED, f"from {last} to {sequence}: results were missed"))
        return found

    def _nobody_s(self, part: int) -> Complaint:
        """A result for a part that waits for none."""
        if not self._asked:
            return Complaint(Mistake.UNASKED, f"RESULT_ID is {part}; {RUNS_FREE}")
        waiting = ", ".join(map(str, self._open)) or "no part"
        return Complaint(Mistake.OTHER_PART, f"RESULT_ID is {part}, {waiting} waits for a result")

    def _contradiction(self, status: Status, read: Read) -> list[Complaint]:
        valid, verdict, reason = bool(status & Status.RESULT_VALID), read("VERDICT"), read("REASON")
        bits = (bool(status & Status.PASS), bool(status & Status.FAIL))
        right = (valid and verdict == VerdictCode.PASS, valid and verdict == VerdictCode.FAIL)
        wrong_pass = valid and verdict == VerdictCode.PASS and reason != 0
        unknown = verdict not in tuple(VerdictCode)
        if bits == right and not wrong_pass and not unknown:
            return []
        bits_seen = f"RESULT_VALID {valid:d}, PASS {bits[0]:d}, FAIL {bits[1]:d}"
        return [Complaint(Mistake.CONTRADICTION, f"{bits_seen}, VERDICT {verdict}, REASON {reason}")]
