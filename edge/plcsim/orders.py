"""What the PLC orders once after the start, one after the other: a recipe, a challenge, CLEAR_ERROR. Pure."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edge.errors import InspectError
from edge.plc.commands import Command
from edge.plc.handshake import Mode
from edge.plc.program import PlcProgram
from edge.plc.registers import U32_MASK, Control, Status
from edge.plcsim import Ended

CLEAR = "clear"
WORDS = {
    "load": Command.LOAD_RECIPE, "challenge": Command.CHALLENGE, "reset": Command.RESET_COUNTERS,
    "lot": Command.SET_LOT,
}  # fmt: skip
NUMBERED = ("load", "lot")
CARRIED_BY = ("modbus-tcp", "modbus-tcp-server", "modbus-rtu", "modbus-rtu-server", "s7")
# So long before the first one and between two: a station has to see the bit at 0, and CLEAR_ERROR at 1.
SETTLE_NS = 1_000_000_000
ENDS = Status.COMMAND_DONE | Status.COMMAND_FAILED


@dataclass(frozen=True, slots=True)
class SimOrder:
    """As typed; `command` is None for CLEAR_ERROR, which is a bit."""

    text: str
    command: Command | None
    argument: int = 0


def parse_orders(texts: Sequence[str], uri: str, mode: Mode) -> list[SimOrder]:
    """`load=2`, `challenge`, `reset`, `lot=17`, `clear`. Raises InspectError."""
    orders = [_parse(text) for text in texts]
    if orders:
        need_block(uri, "sends commands")
    if mode is Mode.FREE_RUN and any(order.command is not None for order in orders):
        hint = f"Add handshake=bits on both sides; {CLEAR} alone needs none."
        raise InspectError("without a handshake a station takes no command", uri, hint)
    return orders


def need_block(uri: str, what: str) -> None:
    """Raises InspectError where no register block goes over the wire."""
    if uri.partition(":")[0] not in CARRIED_BY:
        hint = f"Take one of {', '.join(CARRIED_BY)}."
        raise InspectError(f"plc-sim {what} in the register block alone", uri, hint)


def _parse(text: str) -> SimOrder:
    word, equals, number = text.partition("=")
    if text == CLEAR:
        return SimOrder(text, None)
    readable = bool(re.fullmatch("[0-9]{1,10}", number)) and int(number) <= U32_MASK
    if word not in WORDS or (not readable if word in NUMBERED else equals):
        hint = "Known are load=2, challenge, reset, lot=17 and clear."
        raise InspectError(f"{text!r} is no command", "--command", hint)
    return SimOrder(text, WORDS[word], int(number or 0))


class OrderBook:
    """Gives them to the PLC's program. `control` are bits to write beside the program's own."""

    def __init__(self, program: PlcProgram, orders: Sequence[SimOrder] = ()) -> None:
        self.control = Control(0)
        self._program, self._waiting = program, deque(orders)
        self._current: SimOrder | None = None
        self._since_ns: int | None = None  # of the connection, the last end, or the order that is under way

    def look(self, status: Status, now_ns: int) -> tuple[Ended, ...]:
        """STATUS of this cycle; what has come to its end."""
        if self._since_ns is None:
            self._since_ns = now_ns
        settled = now_ns - self._since_ns >= SETTLE_NS
        if self._current is None:
            if self._waiting and settled and not status & (ENDS | Status.COMMAND_BUSY):
                self._begin(self._waiting.popleft(), now_ns)
            return ()
        if self._current.command is not None:
            ends, ok = bool(status & ENDS), bool(status & Status.COMMAND_DONE)
        else:
            ends, ok = settled, not status & (Status.ERROR | Status.MISSED_TRIGGER)
        return self._end("done" if ok else "failed", now_ns) if ends else ()

    def lose(self) -> tuple[Ended, ...]:
        """The station is gone, and with it the answer to what is under way."""
        return self._end("no answer", None) if self._current is not None else ()

    def _begin(self, order: SimOrder, now_ns: int) -> None:
        self._current, self._since_ns = order, now_ns
        if order.command is None:
            self.control = Control.CLEAR_ERROR
        else:
            self._program.order(order.command, order.argument)

    def _end(self, how: str, now_ns: int | None) -> tuple[Ended, ...]:
        assert self._current is not None
        ended = Ended(self._current.text, how)
        self._current, self._since_ns, self.control = None, now_ns, Control(0)
        return (ended,)
