"""The handshake between PLC and station as a state machine: what both did and when -> what is shown, events.

    A, bits   READY -> TRIGGER -> TRIGGER_ACK, BUSY -> result, RESULT_VALID -> RESULT_ACK -> cleared -> next
    B, ids    READY -> TRIGGER_ID changes -> BUSY -> result, RESULT_VALID -> RESULT_ACK_ID -> cleared -> next
    free run  every verdict is shown until the next one; no trigger, no acknowledge

Pure: no thread, no clock, no socket; `now_ns` is monotonic. The rules it keeps:

- a verdict is shown only if the trigger that asked for it still waits; any other is an event, never shown;
- what was shown is cleared when the PLC has taken it, is gone, or the station cannot vouch for it;
- READY stands only where a trigger will be taken and its result will find a place: none is dropped silently.
"""

from collections import deque
from enum import Enum

from edge.plc.commands import Command, CommandState, Order
from edge.plc.line_events import Event, Happened
from edge.plc.registers import Status, VisionState, WordOrder
from edge.plc.station_image import LineState, StationImage, result_id
from edge.trigger import Request
from edge.verdict import Outcome, Reason, Verdict

QUEUE = 8  # results that wait for the PLC, with the one shown: as Cognex; Keyence has 10
PLC_SILENT_NS = 3_000_000_000  # a PLC whose heartbeat stands still for so long is gone


class Mode(Enum):
    """How PLC and station answer each other."""

    FREE_RUN = "none"
    BITS = "bits"
    IDS = "ids"


class Handshake:
    """One PLC and the station. What is shown lies in `image`, which outlives connections."""

    def __init__(
        self, image: StationImage, mode: Mode = Mode.FREE_RUN, budget_ns: int = 2_000_000_000
    ) -> None:
        self.image, self.mode = image, mode
        self.commands = CommandState()
        self.enabled = False  # the PLC wants parts to be inspected
        self.trigger_stands = self.trigger_taken = False  # TRIGGER is 1; the last trigger was taken
        self.ack_stands = False  # RESULT_ACK is 1: the next result waits until it is 0
        self.shown: Verdict | None = None
        self.missed = self.overrun = 0
        self.plc_lost = False
        self.budget_ns = budget_ns  # from trigger to verdict
        self.held = False  # the loop has no time for a part: another link's challenge
        self._stops: list[Reason] = []  # each stands until a person has looked, whatever comes on top
        self._warnings: list[Reason] = []
        self._missed_stands = False
        self._number = 0
        self._taken_id: int | None = None  # the part whose result the PLC took last
        self._waits: Request | None = None  # for its verdict
        self._results: deque[Verdict] = deque()  # decided, not shown yet
        self._plc_beat_ns: int | None = None  # None: it has not beaten yet and is not watched
        self._events: list[Event] = []

    # What is shown

    @property
    def queue_free(self) -> int:
        """Results that still find a place."""
        return QUEUE - len(self._results) - (self.shown is not None) - (self._waits is not None)

    @property
    def waiting(self) -> int:
        """Results that wait behind the one that is shown."""
        return len(self._results)

    @property
    def ready(self) -> bool:
        """A trigger would be taken."""
        return self._can_take() and not self.trigger_stands

    @property
    def state(self) -> VisionState:
        """What the station does now. What OPC UA clients can bring about beside it: edge/plc/vision.py."""
        if not self.image.online:
            return VisionState.ERROR if self.image.fault else VisionState.PREOPERATIONAL
        if self._stops:
            return VisionState.ERROR
        if self.mode is Mode.FREE_RUN:
            return VisionState.CONTINUOUS_EXECUTION
        if self._waits is not None:
            return VisionState.SINGLE_EXECUTION
        return VisionState.READY if self.ready else VisionState.INITIALIZED

    @property
    def line(self) -> LineState:
        """The handshake's part of the block."""
        warning = int(Reason.OUTPUT_LOST) if self.plc_lost else _newest(self._warnings)
        fault = _newest(self._stops)
        standing = Status.ERROR * bool(fault) | Status.WARNING * bool(warning)
        if self.mode is Mode.FREE_RUN:
            return LineState(int(standing), warning=warning, fault=fault, state=self.state)
        bits = {
            Status.READY: self.ready,
            Status.TRIGGER_ACK: self.trigger_taken,
            Status.BUSY: self._waits is not None,
            Status.MISSED_TRIGGER: self._missed_stands,
            Status.RESULT_OVERRUN: self._is_full(),
        }
        shown = Status(sum(bit for bit, on in bits.items() if on)) | self.commands.bits | standing
        return LineState(shown, self.queue_free, self.missed, self.overrun, warning, fault, self.state)

    def block(self, word_order: WordOrder = "big") -> list[int]:
        """Registers 100..149, one snapshot: verdict, part id, sequence and reason belong together."""
        return self.image.block(word_order, self.line)

    def waits_for(self, request: Request, now_ns: int) -> bool:
        """Whether a verdict for this trigger would still be shown."""
        self.tick(now_ns)
        return self._waits == request

    @property
    def last_trigger(self) -> Request | None:
        """The trigger that waits for its verdict."""
        return self._waits

    def take_events(self) -> list[Event]:
        """What happened since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    # What the PLC does

    def trigger(self, part_id: int | None, now_ns: int, encoder: int = 0) -> bool:
        """A part is there. False, and counted: the station cannot take it; its part is not inspected.

        A part without an id gets the trigger's number as its id. With handshake B a part that waits for its
        result, or had the last one, is not inspected again: it may be gone, and another one stand there.
        """
        self.trigger_taken = self._can_take() and not self._knows(part_id)
        if not self.trigger_taken:
            self.missed, self._missed_stands = self.missed + 1, True
            self._tell(Happened.MISSED, now_ns, Request(None, part_id, now_ns, encoder))
            return False
        self._number += 1
        part_id = self._number if part_id is None else part_id
        self._waits = Request(self._number, part_id, now_ns, encoder, self.image.recipe_number)
        self._tell(Happened.TRIGGERED, now_ns, self._waits)
        return True

    def abort(self, now_ns: int) -> None:
        """The PLC gives up the part that waits: its verdict, if it still comes, is not shown."""
        if self._waits is not None:
            self._tell(Happened.WITHDRAWN, now_ns, self._waits)
            self._waits, self.trigger_taken = None, False

    def acknowledge(self, part_id: int, now_ns: int) -> bool:
        """The PLC has taken this part's result. False when another one, or none, is shown."""
        if self.mode is Mode.FREE_RUN:
            return self.image.verdict is not None and result_id(self.image.verdict) == part_id
        if self.shown is None or result_id(self.shown) != part_id:
            return False
        self._tell(Happened.TAKEN, now_ns, verdict=self.shown)
        self._taken_id = part_id
        self._clear_shown()
        self.show_next(now_ns)
        return True

    def plc_beats(self, now_ns: int) -> None:
        """A sign of life. From the first one on its absence is noticed."""
        self._plc_beat_ns = now_ns
        if self.plc_lost:
            self.plc_lost = False
            self._tell(Happened.PLC_BACK, now_ns)

    def clear_error(self, now_ns: int) -> None:
        """The PLC has seen MISSED_TRIGGER, a person what stopped or warned; the counts stay."""
        self._missed_stands, self._stops, self._warnings = False, [], []
        self._tell(Happened.CLEARED, now_ns)

    def warn(self, reason: Reason) -> None:
        """WARNING and its code, until the PLC sets CLEAR_ERROR."""
        self._warnings = [*_without(reason, self._warnings), reason]

    def stop(self, reason: Reason) -> None:
        """ERROR and its code, and no trigger is taken, until the PLC sets CLEAR_ERROR."""
        self._stops = [*_without(reason, self._stops), reason]

    def proven(self) -> None:
        """The challenge that failed before has been passed; what else stops or warns stands on."""
        self._stops = _without(Reason.CHALLENGE_FAILED, self._stops)
        self._warnings = _without(Reason.CHALLENGE_FAILED, self._warnings)

    def reject_confirmed(self, now_ns: int) -> None:
        """The sensor at the gate has seen a part leave the line."""
        self._tell(Happened.REJECT_CONFIRMED, now_ns)

    def command(self, code: int, argument: int, now_ns: int) -> Order | None:
        """Take an order, which whoever carries it out ends with `end_command`; None: refused."""
        order = self.commands.begin(code, argument)
        if order is not None:
            self._tell(Happened.ORDERED, now_ns, order=order)
            if order.command is Command.RESET_COUNTERS:  # they live here
                self.image.reset_counters()
                self.missed = self.overrun = 0
                self.end_command(order, True, now_ns)
        return order

    def end_command(self, order: Order, ok: bool, now_ns: int) -> None:
        """The order is carried out (DONE) or could not be (FAILED)."""
        if self.commands.end(order.number, ok):
            self._tell(Happened.ORDER_ENDED, now_ns, order=order)

    # What the station does

    def publish(self, verdict: Verdict, now_ns: int) -> None:
        """Show it when its turn comes; a verdict that no trigger waits for is told and never shown."""
        if self.mode is Mode.FREE_RUN:
            self.image.publish(verdict)
            self._tell(Happened.SHOWN, now_ns, verdict=verdict)
            return
        self.tick(now_ns)
        if self._waits is None or verdict.request != self._waits.number:
            self._tell(Happened.LATE, now_ns, verdict=verdict)
            return
        self._decided(verdict, now_ns)

    def beat(self, counter: int, healthy: bool, now_ns: int) -> None:
        """Four times a second. A station that has stalled takes back everything: it vouches for nothing."""
        if not healthy:
            self._withdraw_all(now_ns)
        self.image.beat(counter, healthy)
        self.tick(now_ns)

    def withdraw(self, now_ns: int) -> None:
        """The connection begins or ends: nothing of before is shown, and READY waits for the PLC."""
        self._forget_plc(now_ns)
        self.image.withdraw()

    def begin(self, now_ns: int) -> None:
        """The PLC has set ENABLE, and may begin with ids that it had before: nothing of then is shown."""
        if self.mode is not Mode.FREE_RUN:
            self._withdraw_all(now_ns)

    def hang_up(self, now_ns: int) -> None:
        """The PLC has gone, the station is well. Without a handshake a result stays until the next one."""
        if self.mode is not Mode.FREE_RUN:
            self._forget_plc(now_ns)

    def tick(self, now_ns: int) -> None:
        """Let time pass: a verdict that is overdue becomes "no decision", a silent PLC is given up."""
        if self._waits is not None and now_ns - self._waits.at_ns > self.budget_ns:
            self._tell(Happened.TIMED_OUT, now_ns, self._waits)
            self._decided(no_decision(self._waits, now_ns, self.image.recipe_number), now_ns)
        silent = self._plc_beat_ns is not None and now_ns - self._plc_beat_ns > PLC_SILENT_NS
        if silent and not self.plc_lost:
            self.plc_lost, self.enabled = True, False
            self._tell(Happened.PLC_LOST, now_ns)
            self._withdraw_all(now_ns)

    def show_next(self, now_ns: int) -> None:
        """Show the oldest result that waits, where none is shown and the last acknowledge was taken back."""
        if self.shown is None and self._results and not self.ack_stands:
            self.shown = self._results.popleft()
            self.image.publish(self.shown)
            self._tell(Happened.SHOWN, now_ns, verdict=self.shown)

    def _decided(self, verdict: Verdict, now_ns: int) -> None:
        self._waits = None
        self._results.append(verdict)
        self.show_next(now_ns)
        if self._is_full():
            self.overrun += 1
            self._tell(Happened.QUEUE_FULL, now_ns)

    def _can_take(self) -> bool:
        free = self._waits is None and self.queue_free > 0 and not (self.commands.locks or self.held)
        allowed = self.enabled and self.image.online and not self._stops
        return self.mode is not Mode.FREE_RUN and allowed and free

    def _knows(self, part_id: int | None) -> bool:
        results = (*([self.shown] if self.shown else []), *self._results)
        known = {self._taken_id, *map(result_id, results)}
        return self.mode is Mode.IDS and part_id is not None and part_id in known

    def _is_full(self) -> bool:
        return self._waits is None and self.queue_free <= 0

    def _forget_plc(self, now_ns: int) -> None:
        self._withdraw_all(now_ns)
        self.enabled = self.trigger_stands = self.ack_stands = self.plc_lost = False
        self._plc_beat_ns = None

    def _withdraw_all(self, now_ns: int) -> None:
        for verdict in (*([self.shown] if self.shown else []), *self._results):
            self._tell(Happened.WITHDRAWN, now_ns, verdict=verdict)
        if self._waits is not None:
            self._tell(Happened.WITHDRAWN, now_ns, self._waits)
        self._results.clear()
        self._waits, self.trigger_taken = None, False
        self._clear_shown()

    def _clear_shown(self) -> None:
        self.shown = None
        self.image.clear_result()

    def _tell(
        self,
        what: Happened,
        at_ns: int,
        request: Request | None = None,
        verdict: Verdict | None = None,
        order: Order | None = None,
    ) -> None:
        self._events.append(Event(what, at_ns, request, verdict, order))


def _newest(reasons: list[Reason]) -> int:
    """Its code; 0 where there is none."""
    return int(reasons[-1]) if reasons else 0


def _without(reason: Reason, reasons: list[Reason]) -> list[Reason]:
    return [each for each in reasons if each is not reason]


def no_decision(request: Request, now_ns: int, recipe_number: int = 0) -> Verdict:
    """What a part gets whose verdict did not come in time; its frame is unknown: no frame has this number."""
    return Verdict(
        -(request.number or 0), request.part_id, Outcome.FAIL, Reason.DEADLINE_MISSED, None, 0.0, "",
        request.at_ns, now_ns, request=request.number, recipe_number=recipe_number,
    )  # fmt: skip
