"""Commands from the PLC: load recipe, challenge, reset counters, set lot; with busy, done and failed. Pure.

    EXEC_COMMAND ____/~~~~~~~~~~~~~~~\\_____
    COMMAND_BUSY _____/~~~~~~~~\\___________
    COMMAND_DONE ______________/~~~~\\______    or COMMAND_FAILED

DONE or FAILED stand until EXEC_COMMAND is 0. A command that takes so long that EXEC_COMMAND was taken back
before its end shows DONE or FAILED until the next one begins.
"""

from dataclasses import dataclass
from enum import IntEnum

from edge.plc.registers import Status


class Command(IntEnum):
    """Register COMMAND."""

    LOAD_RECIPE = 1
    CHALLENGE = 2
    RESET_COUNTERS = 3
    SET_LOT = 4
    TEACH = 5


@dataclass(frozen=True, slots=True)
class Order:
    """A command that somebody has to carry out, and then to end."""

    number: int  # rises by one: the end of an earlier order is not taken for this one's
    command: Command
    argument: int  # u32: recipe number, lot


class CommandState:
    """At most one order is under way."""

    def __init__(self) -> None:
        self.order: Order | None = None
        self._number = 0
        self._ended: Status = Status(0)  # COMMAND_DONE or COMMAND_FAILED

    @property
    def bits(self) -> Status:
        """Of STATUS."""
        return Status.COMMAND_BUSY if self.order else self._ended

    @property
    def locks(self) -> bool:
        """True while no part may be judged: the challenge needs camera and engine for itself."""
        return self.order is not None and self.order.command is Command.CHALLENGE

    def begin(self, code: int, argument: int) -> Order | None:
        """Take an order. None: another one is under way, or (FAILED stands) nobody knows this command."""
        if self.order is not None:
            return None
        self._number += 1
        self._ended = Status.COMMAND_FAILED
        if code in tuple(Command):
            self.order = Order(self._number, Command(code), argument)
        return self.order

    def end(self, number: int, ok: bool) -> bool:
        """The order is carried out, or could not be. False when it is not the one that is under way."""
        if self.order is None or self.order.number != number:
            return False
        self.order, self._ended = None, Status.COMMAND_DONE if ok else Status.COMMAND_FAILED
        return True

    def taken_back(self) -> None:
        """EXEC_COMMAND has become 0: the PLC has seen the end, where there was one."""
        if self.order is None:
            self._ended = Status(0)
