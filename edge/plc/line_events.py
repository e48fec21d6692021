"""What happened between PLC and station: for the archive, the operator, and whoever has to act on it."""

from dataclasses import dataclass
from enum import Enum

from edge.plc.commands import Order
from edge.trigger import Request
from edge.verdict import Verdict


class Happened(Enum):
    """What the archive wants to know."""

    TRIGGERED = "triggered"
    MISSED = "missed trigger"
    SHOWN = "result shown"
    TAKEN = "result taken by the PLC"
    TIMED_OUT = "no verdict in time"
    LATE = "verdict that nobody waits for"
    WITHDRAWN = "result or trigger taken back"
    QUEUE_FULL = "result queue full"
    PLC_LOST = "PLC heartbeat lost"
    PLC_BACK = "PLC heartbeat back"
    CLEARED = "errors taken back by the PLC"
    REJECT_CONFIRMED = "the reject sensor has seen a part"
    ORDERED = "command"
    ORDER_ENDED = "command ended"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, with what it is about."""

    what: Happened
    at_ns: int
    request: Request | None = None
    verdict: Verdict | None = None
    order: Order | None = None
