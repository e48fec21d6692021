"""A station as a Sparkplug B edge node: births and deaths, sequence, commands. Pure.

    NBIRTH seq 0, bdSeq   the node: the station's program            NDEATH bdSeq, also the last will
    DBIRTH seq 1          the device: camera, model, loop at work    DDEATH when they stand still
    DDATA  seq 2, 3 ...   one per verdict; is_historical when late   seq goes round after 255
    NCMD                  Rebirth, Reset Counters, Trigger           answered by NDATA

Specification: Sparkplug 3.0. A birth never repeats the last verdict: its metrics are null until the next
part, since a host that asks for a rebirth would take it for a new one. There are no aliases.
"""

import json
from collections.abc import Iterable
from dataclasses import replace

from edge import __version__
from edge.errors import InspectError
from edge.plc.mqtt_words import Life, Message, record, retained_command
from edge.plc.remote import Answer, RemoteCommand, Wish, part_id_of
from edge.plc.sparkplug_payload import Datatype, Metric, Payload, decode, encode
from edge.plc.station_image import Counters
from edge.verdict import Verdict

NAMESPACE = "spBv1.0"
SEQ = 256  # numbers of bdSeq and of seq, from 0

VERDICT_METRICS = (  # name, datatype, key in the JSON record
    ("Verdict/Outcome", Datatype.STRING, "outcome"),
    ("Verdict/Reason", Datatype.STRING, "reason"),
    ("Verdict/Reason Code", Datatype.INT32, "reason_code"),
    ("Verdict/Part ID", Datatype.INT64, "part_id"),
    ("Verdict/Frame ID", Datatype.INT64, "frame_id"),
    ("Verdict/Score", Datatype.DOUBLE, "score"),
    ("Verdict/Threshold", Datatype.DOUBLE, "threshold"),
    ("Verdict/Recipe", Datatype.STRING, "recipe"),
    ("Verdict/Total ms", Datatype.DOUBLE, "total_ms"),
    ("Verdict/Preprocess ms", Datatype.DOUBLE, "preprocess_ms"),
    ("Verdict/Infer ms", Datatype.DOUBLE, "infer_ms"),
    ("Verdict/Label", Datatype.STRING, "label"),
    ("Verdict/Late", Datatype.BOOLEAN, "late"),
)
COUNTER_METRICS = (  # name, attribute of Counters
    ("Counters/Total", "total"),
    ("Counters/Passed", "passed"),
    ("Counters/Failed", "failed"),
    ("Counters/No Decision", "no_decision"),
)
ANSWER = "Node Control/Answer"
COMMANDS = {  # what may be written
    "Node Control/Rebirth": (Datatype.BOOLEAN, Wish.REBIRTH),
    "Node Control/Reset Counters": (Datatype.BOOLEAN, Wish.RESET_COUNTERS),
    "Node Control/Trigger": (Datatype.INT64, Wish.TRIGGER),
}


class SparkplugNode:
    """GROUP/NODE with one DEVICE. With a `primary_host` nothing is said while that host is offline."""

    def __init__(self, group: str, node: str, device: str, primary_host: str = "") -> None:
        self._group, self._node, self._device = group, node, device
        self._state = f"{NAMESPACE}/STATE/{primary_host}"
        self._has_host, self._host_ms = bool(primary_host), -1
        self._bd_seq, self._seq = SEQ - 1, 0
        self._node_born = self._device_born = False
        self._told: Counters | None = None
        self.host_online = not primary_host

    @property
    def listens(self) -> list[tuple[str, int]]:
        """Commands to the node and, to refuse them, to the device; the host's state."""
        topics = [(self._topic("NCMD"), 1), (self._topic("DCMD"), 1)]
        return [*topics, (self._state, 1)] if self._has_host else topics

    def will(self, at_ms: int) -> Message:
        """NDEATH with the next bdSeq, which NBIRTH will have too: so a host can tell whose death it is."""
        self._bd_seq = (self._bd_seq + 1) % SEQ
        self._node_born, self.host_online, self._host_ms = False, not self._has_host, -1
        return self._death(at_ms)

    def birth(self, life: Life, at_ms: int) -> list[Message]:
        """NBIRTH, and DBIRTH where the device is at work."""
        self._seq, self._node_born, self._device_born = SEQ - 1, True, False
        commands = [Metric(name, kind, _idle(kind)) for name, (kind, _) in COMMANDS.items()]
        own = [
            self._bd_metric(),
            Metric("Properties/Software", Datatype.STRING, f"edge-inspect {__version__}"),
            Metric(ANSWER, Datatype.STRING, None),
        ]
        return [self._say("NBIRTH", [*own, *commands], at_ms), *self._device_birth(life, at_ms)]

    def beat(self, life: Life, at_ms: int) -> list[Message]:
        """The device's birth or death where that has changed; counters where somebody has reset them."""
        if self._device_born and not life.healthy:
            self._device_born = False
            return [self._say("DDEATH", [], at_ms)]
        if not self._device_born:
            return self._device_birth(life, at_ms)
        changed = life.counters != self._told
        return [self._say("DDATA", self._counters(life), at_ms)] if changed else []

    def verdict(self, verdict: Verdict, late: bool, decided_ms: int, life: Life, at_ms: int) -> list[Message]:
        """DDATA; a late verdict is historical, so that no host takes it for the part that is there now."""
        row = record(verdict, late, decided_ms)
        metrics = [
            Metric(name, kind, row[key], decided_ms, historical=late) for name, kind, key in VERDICT_METRICS
        ]
        born = [] if self._device_born else self._device_birth(life, at_ms, healthy=True)
        return [*born, self._say("DDATA", [*metrics, *self._counters(life)], at_ms)]

    def hear(self, topic: str, payload: bytes, retained: bool) -> list[RemoteCommand]:
        """Commands, all or none of one message. Raises InspectError."""
        if topic == self._state:
            self._host_says(payload, topic)
            return []
        if retained:
            raise retained_command(topic)
        if topic != self._topic("NCMD"):
            hint = f"Write to the node: {', '.join(COMMANDS)}."
            raise InspectError("the device takes no commands", topic, hint)
        return [_command(metric, topic) for metric in decode(payload, topic).metrics]

    def answer(self, answer: Answer, at_ms: int) -> list[Message]:
        """NDATA with the same JSON text as PREFIX/reply has; nothing before the node is born."""
        if not self._node_born:
            return []
        return [self._say("NDATA", [Metric(ANSWER, Datatype.STRING, json.dumps(answer.as_json()))], at_ms)]

    def death(self, at_ms: int) -> list[Message]:
        """NDEATH, as the last will, which is not sent after a proper goodbye."""
        return [self._death(at_ms)]

    def _device_birth(self, life: Life, at_ms: int, healthy: bool = False) -> list[Message]:
        if not (healthy or life.healthy):
            return []
        self._device_born = True
        unknown = [Metric(name, kind, None) for name, kind, _ in VERDICT_METRICS]
        return [self._say("DBIRTH", [*unknown, *self._counters(life)], at_ms)]

    def _counters(self, life: Life) -> list[Metric]:
        self._told = life.counters
        return [Metric(name, Datatype.INT64, getattr(life.counters, key)) for name, key in COUNTER_METRICS]

    def _topic(self, kind: str) -> str:
        device = f"/{self._device}" if kind.startswith("D") else ""
        return f"{NAMESPACE}/{self._group}/{kind}/{self._node}{device}"

    def _say(self, kind: str, metrics: Iterable[Metric], at_ms: int) -> Message:
        """Every metric has a time: that of the message, where none is its own."""
        self._seq = (self._seq + 1) % SEQ
        timed = tuple(replace(m, at_ms=at_ms) if m.at_ms is None else m for m in metrics)
        return Message(self._topic(kind), encode(Payload(at_ms, timed, self._seq)), qos=0)

    def _death(self, at_ms: int) -> Message:
        return Message(self._topic("NDEATH"), encode(Payload(at_ms, (self._bd_metric(),))))

    def _bd_metric(self) -> Metric:
        return Metric("bdSeq", Datatype.INT64, self._bd_seq)

    def _host_says(self, payload: bytes, topic: str) -> None:
        """`{"online": true, "timestamp": 1}`; an older "offline" than the last "online" is not believed."""
        try:
            state = json.loads(payload)
            online, at_ms = bool(state["online"]), int(state["timestamp"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            hint = 'It should be {"online": true, "timestamp": 1}.'
            raise InspectError(f"the host's state cannot be read: {error!r}", topic, hint) from error
        if at_ms >= self._host_ms:
            self.host_online, self._host_ms = online, at_ms


def _idle(datatype: Datatype) -> bool | None:
    return False if datatype is Datatype.BOOLEAN else None


def _command(metric: Metric, topic: str) -> RemoteCommand:
    """Raises InspectError."""
    hint = f"Write one of: {', '.join(COMMANDS)}."
    kind, wish = COMMANDS.get(metric.name, (None, None))
    if wish is None:
        raise InspectError(f"there is no command {metric.name!r}", topic, hint)
    try:
        if kind is Datatype.BOOLEAN and metric.value is not True:
            raise ValueError(f"{metric.name} is not true")
        return RemoteCommand(wish, part_id_of(metric.value) if wish is Wish.TRIGGER else None)
    except ValueError as error:
        raise InspectError(f"this is no command: {error}", topic, hint) from error
