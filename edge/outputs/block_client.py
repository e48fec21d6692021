"""The station as client of a PLC that holds both blocks in its own memory. Knows no library.

    outbox  --send, beat-->  +-------------+  --registers 100..149-->  +-----+
                             | BlockClient |                           | PLC |
    PlcLink <--plc_wrote---  +-------------+  <--registers 0..27-----  +-----+

One protocol is one small subclass that reads and writes registers, whatever the PLC calls them.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress

from edge.errors import OutputLost
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.registers import PLC_COUNT, PLC_START, RESULT_BITS, STATION_START, WordOrder
from edge.verdict import Verdict

RESULT_PART = slice(1, 5)  # VERDICT, RESULT_ID, SEQUENCE: tells one result from another
# So often the station looks at what the PLC has written; a PLC's cycle is 2 to 10 ms.
POLL_S = 0.005

Step = tuple[int, list[int]]  # address of the first register, values


def write_plan(before: Sequence[int] | None, after: Sequence[int]) -> list[Step]:
    """What a client writes to turn block `before` (None: unknown) into `after`: (address, values), in order.

    The status comes last, so that a PLC which sees RESULT_VALID sees the data that belong to it. When the
    result changes, the old RESULT_VALID, PASS and FAIL go first: the new id never stands beside the old pass.
    """
    steps = [(STATION_START + 1, list(after[1:])), (STATION_START, [after[0]])]
    if before is None or before[RESULT_PART] != after[RESULT_PART]:
        steps.insert(0, (STATION_START, [after[0] & ~RESULT_BITS]))
    return steps


class BlockClient(ABC):
    """The station writes into the PLC. After a loss it stays lost: open a new one.

    With a handshake a thread of its own reads what the PLC has written, and shows what follows from it. A
    subclass connects, then calls `__init__`, which clears what stands in the PLC.
    """

    def __init__(self, uri: str, link: PlcLink, word_order: WordOrder = "big") -> None:
        self.uri, self._link, self._word_order = uri, link, word_order
        self._written: list[int] | None = None
        self._using = threading.RLock()  # the libraries' clients are for one thread at a time
        self._open, self._lost = (
            True,
            OutputLost("the connection was closed", uri, "The outbox opens it again."),
        )
        self._closing = threading.Event()
        self._poller: threading.Thread | None = None
        link.withdraw()
        self._write()
        try:
            self._check_running()
        except OutputLost:
            self._hang_up()
            raise
        if link.mode is not Mode.FREE_RUN:
            self._look()  # a PLC without its block is told of at once
            self._poller = threading.Thread(target=self._poll, name="plc-poller", daemon=True)
            self._poller.start()

    def send(self, verdict: Verdict) -> None:
        """Publish. Blocks up to three time-outs. Raises OutputLost."""
        self._link.publish(verdict)
        self._write()

    def beat(self, counter: int, healthy: bool) -> None:
        """Write HEARTBEAT, or take the verdict back. Raises OutputLost."""
        self._link.beat(counter, healthy)
        self._write()
        self._check_running()

    def close(self) -> None:
        """Clear the block in the PLC where it is still there, then hang up. May be called twice."""
        self._closing.set()
        if self._poller is not None:
            self._poller.join()
        self._link.withdraw()
        if self._open:
            with suppress(OutputLost):
                self._write()
        self._hang_up()

    @abstractmethod
    def _write_registers(self, steps: Sequence[Step]) -> None:
        """Write one after the other, in this order. Raises OutputLost, after `_fail`."""

    @abstractmethod
    def _read_registers(self, address: int, count: int) -> list[int]:
        """Read in one go. Raises OutputLost, after `_fail`."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let the connection go; may be called twice, and never raises."""

    def _check_running(self) -> None:  # noqa: B027 a protocol that cannot tell says nothing
        """Ask whether the PLC's program runs. Raises OutputLost, with the connection still open."""

    def _poll(self) -> None:
        try:
            while not self._closing.wait(POLL_S):
                self._look()
        except OutputLost:
            pass  # the next send() or beat() says it
        except Exception as error:  # a thread that ends unheard would leave the PLC's triggers unheard, too
            self._fail(f"looking at the PLC ended: {type(error).__name__}: {error}", "It is opened again.")

    def _look(self) -> None:
        with self._using:
            self._ready()
            registers = self._read_registers(PLC_START, PLC_COUNT)
        self._link.plc_wrote(registers, self._word_order)
        if self._link.block(self._word_order) != self._written:
            self._write()

    def _write(self) -> None:
        with self._using:
            self._ready()
            block = self._link.block(self._word_order)
            self._write_registers(write_plan(self._written, block))
            self._written = block

    def _ready(self) -> None:
        if not self._open:
            raise self._lost

    def _fail(self, what: str, next_step: str) -> OutputLost:
        """Hang up; what is raised now is what every later call says."""
        self._hang_up()
        self._lost = OutputLost(what, self.uri, next_step)
        return self._lost

    def _hang_up(self) -> None:
        with self._using:
            self._open = False
            self._disconnect()
