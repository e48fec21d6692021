"""Verdicts to an MQTT broker, and commands from there. What is said is the dialect's, how the connection's.

MQTT is information: a verdict that cannot be an answer for its part any more is still sent, marked late.
While the broker is away `send` and `beat` raise OutputLost; the outbox keeps the verdicts and opens again.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from edge.errors import InspectError, OutputLost
from edge.outputs.mqtt_connection import Connection, Sent
from edge.outputs.mqtt_settings import MqttSettings
from edge.plc.handshake import Handshake
from edge.plc.link import PlcLink
from edge.plc.mqtt_words import Dialect, Life, Message
from edge.plc.remote import Answer, Desk, RemoteCommand, Wish, attend
from edge.plc.station_image import result_id
from edge.verdict import Verdict

LATE_NS = (
    500_000_000  # decided longer ago: its part has gone by; the outbox of a PLC would not send it any more
)


class Mqtt:
    """One connection; `link`, `dialect` and `desk` outlive it. Two threads say something: ours and paho's."""

    def __init__(self, settings: MqttSettings, link: PlcLink, dialect: Dialect, desk: Desk) -> None:
        self.uri = settings.uri
        self._settings, self._link, self._dialect, self._desk = settings, link, dialect, desk
        self._heartbeat, self._healthy = 0, False
        self._saying = threading.Lock()  # what is numbered first is sent first
        link.withdraw()
        self._connection = Connection(settings, dialect.will(_now_ms()), self._hear)
        try:
            self._begin()
        except BaseException:
            self._connection.close()
            raise

    def send(self, verdict: Verdict) -> None:
        """Publish one verdict, marked late where it is no answer for its part any more. Raises OutputLost."""
        self._check()
        self._link.publish(verdict)
        if not any(told is verdict for told in self._tell_shown()):
            self._tell(verdict, late=True)  # the trigger that asked for it does not wait any more

    def beat(self, counter: int, healthy: bool) -> None:
        """Say that the station lives, and hear that the broker does. Raises OutputLost."""
        self._check()
        self._heartbeat, self._healthy = counter, healthy
        self._link.beat(counter, healthy)
        life = self._life()
        self._tell_shown()  # triggers that had no verdict in time
        self._say(lambda: self._dialect.beat(life, _now_ms()))

    def close(self) -> None:
        """Say goodbye where the broker is still there; may be called twice."""
        self._link.withdraw()
        if not self._connection.broken:
            with suppress(OutputLost):
                self._say(lambda: self._dialect.death(_now_ms()))
        self._connection.close()

    def _begin(self) -> None:
        for topic, qos in self._dialect.listens:
            self._connection.subscribe(topic, qos)
        with suppress(OutputLost):
            self._connection.wait_for(lambda: self._dialect.host_online)
        self._check()
        life = self._life()
        self._say(lambda: self._dialect.birth(life, _now_ms()))

    def _check(self) -> None:
        if self._connection.broken:
            raise self._connection.lost("")
        if not self._dialect.host_online:
            hint = "Start it; or take primary_host= away. Verdicts are kept meanwhile."
            raise OutputLost(f"the primary host {self._settings.primary_host} is offline", self.uri, hint)

    # What we say

    def _life(self) -> Life:
        self._link.act(attend)
        return self._link.act(
            lambda hand, _: Life(self._healthy, hand.ready, self._heartbeat, hand.image.counters)
        )

    def _tell_shown(self) -> list[Verdict]:
        """Publish what the handshake shows; the broker has it, so that the next one may come."""
        told: list[Verdict] = []
        while shown := self._link.take_shown():
            for verdict in shown:
                self._tell(verdict, late=False)
                self._link.act(partial(_acknowledge, verdict))
            told += shown
        return told

    def _tell(self, verdict: Verdict, late: bool) -> None:
        age_ns = time.monotonic_ns() - verdict.decided_ns
        now_ms, life = _now_ms(), self._life()
        decided_ms, late = now_ms - age_ns // 1_000_000, late or age_ns > LATE_NS
        self._say(lambda: self._dialect.verdict(verdict, late, decided_ms, life, now_ms))

    def _say(self, words: Callable[[], list[Message]]) -> None:
        """Publish and wait until the broker has it. Raises OutputLost."""
        self._connection.confirm(self._publish(words))

    def _publish(self, words: Callable[[], list[Message]]) -> Sent:
        with self._saying:
            return self._connection.publish(words())

    # What we hear, in paho's thread: it must not wait for the broker

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        """Exactly one answer for each command; none for what is no command (the host's state)."""
        try:
            commands = self._dialect.hear(topic, payload, retained)
        except InspectError as error:
            self._answer(Answer(str(error)))
            return
        for command in commands:
            self._do(command)

    def _do(self, command: RemoteCommand) -> None:
        answer = self._link.act(partial(_carry_out, self._desk, command))
        if command.wish is Wish.REBIRTH:
            life = self._life()
            self._publish(lambda: self._dialect.birth(life, _now_ms()))
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self._publish(lambda: self._dialect.answer(answer, _now_ms()))


def _carry_out(desk: Desk, command: RemoteCommand, hand: Handshake, now_ns: int) -> Answer:
    return desk.take(command, hand, now_ns)


def _acknowledge(verdict: Verdict, hand: Handshake, now_ns: int) -> None:
    hand.acknowledge(result_id(verdict), now_ns)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
