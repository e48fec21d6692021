"""MQTT 3.1.1 to a broker. The only file that knows paho-mqtt.

An output that is open is connected. When the connection breaks it stays broken, `send` and `beat` say so, and
the outbox, which keeps the verdicts meanwhile, opens a new one: with a new last will and a new birth.
Nothing counts as sent before the broker has said so: by PUBACK, or, for Sparkplug whose messages must not be
acknowledged (quality of service 0), by its answer to a request that was sent after them.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import InspectError, OutputLost
from edge.handshake import Handshake
from edge.mqtt_words import Dialect, Life, Message
from edge.outputs.mqtt_settings import MqttSettings
from edge.plc_link import PlcLink
from edge.remote import Answer, Desk, RemoteCommand, Wish, attend
from edge.station_image import result_id
from edge.verdict import Verdict

LATE_NS = (
    500_000_000  # decided longer ago: its part has gone by; the outbox of a PLC would not send it any more
)
NOBODY = "edge-inspect/nobody"  # never subscribed: unsubscribing it is a question that changes nothing
KEPT_ACKNOWLEDGES = 100


class Mqtt:
    """One connection. paho's thread reads, answers commands and pings; ours sends."""

    def __init__(self, settings: MqttSettings, link: PlcLink, dialect: Dialect, desk: Desk) -> None:
        self.uri = settings.uri
        self._settings, self._link, self._dialect, self._desk = settings, link, dialect, desk
        self._heartbeat, self._healthy = 0, False
        self._changed = threading.Condition()  # guards the three below
        self._accepted = False
        self._broken = ""
        self._acknowledged: deque[int] = deque(maxlen=KEPT_ACKNOWLEDGES)
        self._saying = threading.Lock()  # what is numbered first is sent first
        link.withdraw()
        self._client = self._new_client()
        try:
            self._connect()
            life = self._life()
            self._say(lambda: self._dialect.birth(life, _now_ms()))
        except BaseException:
            self._hang_up()
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
        if not self._broken:
            with suppress(OutputLost):
                self._say(lambda: self._dialect.death(_now_ms()))
        self._hang_up()

    # The connection

    def _new_client(self) -> paho.Client:
        settings, will = self._settings, self._dialect.will(_now_ms())
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            settings.client_id,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = settings.timeout_s
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            client.tls_set_context(settings.tls)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_unsubscribe = self._on_subscribe, self._on_unsubscribe
        client.on_message, client.on_socket_open = self._on_message, _at_once
        return client

    def _connect(self) -> None:
        settings = self._settings
        try:
            self._client.connect(settings.host, settings.port, settings.keepalive_s)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            hint = f"Try `ping {settings.host}`; is the broker running, is port {settings.port} open?"
            if settings.tls is not None:
                hint += (
                    " TLS: ca=FILE must be the CA of its certificate, and the name in it that of the address."
                )
            raise OutputLost(f"the MQTT broker cannot be reached: {error}", self.uri, hint) from error
        self._client.loop_start()
        self._wait(lambda: self._accepted)
        for topic, qos in self._dialect.listens:
            self._acknowledge(self._client.subscribe(topic, qos))
        self._wait_for_host()

    def _wait_for_host(self) -> None:
        try:
            self._wait(lambda: self._dialect.host_online)
        except OutputLost as error:
            if not self._broken:
                raise self._no_host() from error
            raise

    def _hang_up(self) -> None:
        self._break("the connection was closed")
        self._client.disconnect()
        self._client.loop_stop()

    def _check(self) -> None:
        if self._broken:
            raise self._lost(self._broken)
        if not self._dialect.host_online:
            raise self._no_host()

    def _no_host(self) -> OutputLost:
        hint = "Start it; or take primary_host= away. Verdicts are kept meanwhile."
        return OutputLost(f"the primary host {self._settings.primary_host} is offline", self.uri, hint)

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
        try:
            sent = self._publish(words)
            for each in sent:
                each.wait_for_publish(self._settings.timeout_s)
            if not all(each.is_published() for each in sent):
                raise self._lost(self._broken or "no answer in time")
        except (RuntimeError, ValueError) as error:  # paho's words for "not connected"
            raise self._lost(self._broken or str(error)) from error
        if not sent:
            self._acknowledge(self._client.unsubscribe(NOBODY))

    def _publish(self, words: Callable[[], list[Message]]) -> list[paho.MQTTMessageInfo]:
        """Those of which the broker will say that it has them."""
        with self._saying:
            messages = words()
            sent = [self._client.publish(m.topic, m.payload, m.qos, m.retain) for m in messages]
        return [info for info, message in zip(sent, messages, strict=True) if message.qos]

    def _acknowledge(self, asked: tuple[MQTTErrorCode, int | None]) -> None:
        """Wait for the answer to a request. Raises OutputLost."""
        code, number = asked
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS or number is None:
            raise self._lost(self._broken or paho.error_string(code))
        self._wait(lambda: number in self._acknowledged)

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or bool(self._broken), self._settings.timeout_s)
            if self._broken or not condition():
                raise self._lost(self._broken or "no answer in time")

    def _lost(self, why: str) -> OutputLost:
        hint = "Check broker and network; mqtts:// where it wants TLS; no second one with this client_id."
        if "uthori" in why or "user name" in why:
            hint = "Check username, password_file or password_env, and what the broker lets this user do."
        return OutputLost(f"MQTT broker: {why}", self.uri, hint)

    # What we hear, in paho's thread

    def _on_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._break(f"refused, {code}")
            return
        with self._changed:
            self._accepted = True
            self._changed.notify_all()

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._break(f"the connection is lost ({code})")

    def _on_subscribe(
        self,
        client: paho.Client,
        userdata: object,
        number: int,
        codes: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        if any(code.is_failure for code in codes):
            self._break("Not authorized to subscribe to the topic of commands")
        self._note(number)

    def _on_unsubscribe(
        self,
        client: paho.Client,
        userdata: object,
        number: int,
        codes: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        self._note(number)

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        """Exactly one answer for each command; none for what is no command (the host's state)."""
        try:
            commands = self._dialect.hear(message.topic, bytes(message.payload), message.retain)
        except InspectError as error:
            self._answer(Answer(str(error)))
            return
        for command in commands:
            self._do(command)
        with self._changed:  # the host's state
            self._changed.notify_all()

    def _answer(self, answer: Answer) -> None:
        self._publish(lambda: self._dialect.answer(answer, _now_ms()))

    def _do(self, command: RemoteCommand) -> None:
        answer = self._link.act(lambda hand, now_ns: self._desk.take(command, hand, now_ns))
        if command.wish is Wish.REBIRTH:
            life = self._life()
            self._publish(lambda: self._dialect.birth(life, _now_ms()))
        self._answer(answer)

    def _note(self, number: int) -> None:
        with self._changed:
            self._acknowledged.append(number)
            self._changed.notify_all()

    def _break(self, why: str) -> None:
        """The first reason is the one that matters."""
        with self._changed:
            self._broken = self._broken or why
            self._changed.notify_all()


def _at_once(client: paho.Client, userdata: object, connection: object) -> None:
    """Two short messages in a row must not wait for each other: with Nagle's algorithm that took 45 ms."""
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _acknowledge(verdict: Verdict, hand: Handshake, now_ns: int) -> None:
    hand.acknowledge(result_id(verdict), now_ns)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
