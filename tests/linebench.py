"""A PLC program and a handshake on one bench: every step is a call, time is a number."""

from collections import deque
from dataclasses import replace

from peers import JUDGED

from edge.plc.block import PlcBlock, PlcWatch
from edge.plc.handshake import Handshake, Mode
from edge.plc.line_events import Event, Happened
from edge.plc.program import PlcProgram
from edge.plc.registers import Control, Status
from edge.plc.station_image import StationImage
from edge.trigger import Request
from edge.verdict import Outcome, Verdict

MS = 1_000_000
BUDGET_MS = 500


def judged(request: Request, outcome: Outcome = Outcome.PASS, at_ms: int = 0) -> Verdict:
    """What the station says about the picture of one request."""
    reason, score = JUDGED[outcome]
    number = request.number or 0
    return Verdict(
        1000 + number, request.part_id, outcome, reason, score, 0.5, "widget@abcd12345678",
        request.at_ns, request.at_ns + at_ms * MS, request=request.number,
    )  # fmt: skip


class Bench:
    """A station that is healthy, and the PLC's registers as a test writes them."""

    def __init__(self, mode: Mode) -> None:
        self.now_ms = 0
        self.image = StationImage()
        self.hand = Handshake(self.image, mode, BUDGET_MS * MS)
        self.watch = PlcWatch(self.hand)
        self.plc = PlcBlock(Control(0), 0, 0, 0, 0, 0, 0)
        self.asked: deque[Request] = deque()  # triggers that the station has not answered yet
        self.events: list[Event] = []
        self.beats = 0
        self.beat()
        self.write()

    def write(self, *, on: Control = Control(0), off: Control = Control(0), **values: int) -> None:  # noqa: B008
        """The PLC changes bits and registers in one write."""
        self.plc = replace(self.plc, control=self.plc.control & ~off | on, **values)
        self.watch.look(self.plc, self.now_ms * MS)
        self._hear()

    def scan(self, program: PlcProgram) -> None:
        """One cycle of a whole PLC program."""
        self.plc = PlcBlock.decode(program.scan(self.hand.block()))
        self.watch.look(self.plc, self.now_ms * MS)
        self._hear()

    def judge(self, outcome: Outcome = Outcome.PASS) -> None:
        """The station answers its oldest trigger."""
        self.publish(judged(self.asked.popleft(), outcome))

    def publish(self, verdict: Verdict) -> None:
        self.hand.publish(verdict, self.now_ms * MS)
        self._hear()

    def beat(self, healthy: bool = True) -> None:
        self.beats += healthy
        self.hand.beat(self.beats, healthy, self.now_ms * MS)
        self._hear()

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.hand.tick(self.now_ms * MS)
        self._hear()

    def reconnect(self) -> None:
        """The connection is lost and comes back."""
        self.hand.withdraw(self.now_ms * MS)
        self.watch.forget()
        self._hear()

    def hang_up(self) -> None:
        """The PLC's connection is lost; the station's side of it goes on."""
        self.hand.hang_up(self.now_ms * MS)
        self.watch.forget()
        self._hear()

    @property
    def status(self) -> Status:
        return Status(self.hand.block()[0])

    def told(self, what: Happened) -> list[Event]:
        return [event for event in self.events if event.what is what]

    def _hear(self) -> None:
        events = self.hand.take_events()
        self.events += events
        self.asked += [e.request for e in events if e.what is Happened.TRIGGERED and e.request]
