"""A handshake between threads: the PLC's side writes in one, the verdicts come in another, the station waits.

    outbox      --publish, beat-->  +-----------+ <--plc_wrote, act--  Modbus server, poller, serial reader
    station     <--wait-----------  | Handshake |  --block, shown-->   what the PLC sees
                                    +-----------+
One link outlives all connections of its output, so that SEQUENCE and counters go on. It is the Trigger of a
station whose PLC asks for the pictures.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from edge.plc.block import PlcBlock, PlcWatch
from edge.plc.commands import Order
from edge.plc.handshake import Handshake, Mode
from edge.plc.line_events import Event, Happened
from edge.plc.registers import GateBits, WordOrder
from edge.plc.station_image import StationImage
from edge.trigger import Request, nobody
from edge.verdict import Reason, Verdict

KEPT_EVENTS = 1000  # the newest, for whoever archives them
Answer = TypeVar("Answer")


class PlcLink:
    """One PLC. `carry_out` gets the PLC's orders and ends each with `end`; without it every order fails."""

    def __init__(
        self,
        mode: Mode = Mode.FREE_RUN,
        recipe_number: int = 1,
        budget_ns: int = 2_000_000_000,
        carry_out: Callable[[Order], None] | None = None,
    ) -> None:
        self.mode = mode
        self.archive: Callable[[Verdict], None] = _nowhere  # for verdicts that the handshake makes itself
        self.expect: Callable[[Request], None] = nobody  # hears of a trigger at once; `wait` may be late
        self.recipe = ""  # "name@digest" that the last verdict was judged by, or that is loaded
        self.simulated = False  # no camera looks at a real part: outputs that can say so do
        self.encoder: int | None = None  # counts of the belt, as the PLC wrote last; None: it has not yet
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._hand = Handshake(StationImage(recipe_number), mode, budget_ns)
        self._watch = PlcWatch(self._hand)
        self._carry_out = carry_out
        self._listeners: list[Callable[[Event], None]] = []
        self._asked: queue.Queue[Request] = queue.Queue()  # a SimpleQueue may forget its time-out in a signal
        self._shown: deque[Verdict] = deque(maxlen=KEPT_EVENTS)
        self._lock = threading.RLock()

    def act(self, what: Callable[[Handshake, int], Answer]) -> Answer:
        """Do something with the handshake, now and alone."""
        with self._lock:
            answer = what(self._hand, time.monotonic_ns())
            for event in self._hand.take_events():
                self._hear(event)
            return answer

    def publish(self, verdict: Verdict) -> None:
        """The station has decided."""
        self.recipe = verdict.recipe or self.recipe
        self.act(lambda hand, now_ns: hand.publish(verdict, now_ns))

    def beat(self, counter: int, healthy: bool) -> None:
        """Four times a second."""
        self.act(lambda hand, now_ns: hand.beat(counter, healthy, now_ns))

    def withdraw(self) -> None:
        """The connection begins or ends: nothing of before is shown."""
        with self._lock:
            self._watch.forget()
            self._shown.clear()
            self.encoder = None
            self.act(lambda hand, now_ns: hand.withdraw(now_ns))

    def begin_at_zero(self) -> None:
        """The PLC writes into registers of ours, which are 0 until it does."""
        with self._lock:
            self._watch.begin_at_zero()

    def hang_up(self) -> None:
        """The PLC's connection is gone, and its handshake with it; the station goes on."""
        with self._lock:
            self._watch.hang_up()
            self.encoder = None
            self.act(lambda hand, now_ns: hand.hang_up(now_ns))

    def block(self, word_order: WordOrder = "big") -> list[int]:
        """Registers 100..149 of this moment; what is overdue is taken back first."""

        def look(hand: Handshake, now_ns: int) -> list[int]:
            hand.tick(now_ns)
            return hand.block(word_order)

        return self.act(look)

    def plc_wrote(self, registers: Sequence[int], word_order: WordOrder = "big") -> None:
        """What stands in registers 0..27 now."""
        plc = PlcBlock.decode(registers, word_order)
        self.encoder = plc.encoder
        self.act(lambda hand, now_ns: self._watch.look(plc, now_ns))

    def take_shown(self) -> list[Verdict]:
        """Verdicts that are to be shown and were not asked for here yet, oldest first."""
        with self._lock:
            shown = list(self._shown)
            self._shown.clear()
        return shown

    def wait(self, timeout_s: float) -> Request | None:
        """The PLC's next trigger whose verdict is still waited for; None when there is none in time."""
        try:
            request = self._asked.get(timeout=timeout_s)
        except queue.Empty:
            return None
        return request if self.act(lambda hand, now_ns: hand.waits_for(request, now_ns)) else None

    def allow(self, budget_ns: int) -> None:
        """From trigger to verdict, from now on; a later verdict is not shown."""
        with self._lock:
            self._hand.budget_ns = budget_ns

    @property
    def recipe_number(self) -> int:
        """Of the recipe that judges the next part."""
        return self._hand.image.recipe_number

    def judges_by(self, recipe_number: int, budget_ns: int) -> None:
        """Another recipe from now on."""
        with self._lock:
            self._hand.image.recipe_number, self._hand.budget_ns = recipe_number, budget_ns

    def obey(self, carry_out: Callable[[Order], None]) -> None:
        """Who gets the PLC's orders; it is called with the link locked, and returns at once."""
        self._carry_out = carry_out

    def end(self, order: Order, ok: bool) -> None:
        """The order is carried out, or could not be."""
        self.act(lambda hand, now_ns: hand.end_command(order, ok, now_ns))

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Hear all events, with the link locked, in whatever thread: return at once, ask nothing here."""
        self._listeners.append(listener)

    def hold(self, held: bool) -> None:
        """READY stays off while the station has no time for a part."""
        with self._lock:
            self._hand.held = held

    def warn(self, reason: Reason) -> None:
        """As `Handshake.warn`."""
        self.act(lambda hand, now_ns: hand.warn(reason))

    def stop(self, reason: Reason) -> None:
        """As `Handshake.stop`."""
        self.act(lambda hand, now_ns: hand.stop(reason))

    def proven(self) -> None:
        """As `Handshake.proven`."""
        self.act(lambda hand, now_ns: hand.proven())

    def show_gate(self, bits: GateBits) -> None:
        """Register GATE."""
        with self._lock:
            self._hand.image.gate = bits

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        for listener in self._listeners:
            listener(event)
        match event.what:
            case Happened.TRIGGERED if event.request is not None:
                self.expect(event.request)
                self._asked.put(event.request)
            case Happened.SHOWN if event.verdict is not None:
                if event.verdict.frame_id < 0:
                    self.archive(event.verdict)
                self._shown.append(event.verdict)
            case Happened.PLC_LOST:
                self.encoder = None
            case Happened.WITHDRAWN:  # it may still wait for a slow line
                self._shown.clear()
            case Happened.ORDERED if event.order is not None and self._carry_out is not None:
                self._carry_out(event.order)
            case Happened.ORDERED if event.order is not None:
                self.end(event.order, ok=False)


def _nowhere(verdict: Verdict) -> None:
    pass
