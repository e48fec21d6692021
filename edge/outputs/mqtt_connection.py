"""One MQTT 3.1.1 connection. The only file that knows paho-mqtt.

When it breaks it stays broken: a new one has a new last will. Nothing counts as said before the broker has
answered: by PUBACK, or, where a message may not be acknowledged (quality of service 0), by its answer to a
request that was sent after it.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import OutputLost
from edge.outputs.mqtt_settings import MqttSettings
from edge.plc.mqtt_words import Message

NOBODY = "edge-inspect/nobody"  # never subscribed: unsubscribing it is a question that changes nothing
KEPT_ACKNOWLEDGES = 100

Hear = Callable[[str, bytes, bool], None]  # topic, payload, whether it was retained
Sent = Sequence[paho.MQTTMessageInfo]


class Connection:
    """Connected when it exists. `hear` is called in paho's thread, which must not wait for an answer.

    All methods but `publish` wait for the broker, for the time-out at most. Raises OutputLost.
    """

    def __init__(self, settings: MqttSettings, will: Message | None, hear: Hear) -> None:
        self.broken = ""  # why; "" while all is well
        self._settings, self._hear = settings, hear
        self._changed = threading.Condition()  # guards the three: broken and
        self._accepted = False
        self._acknowledged: deque[int] = deque(maxlen=KEPT_ACKNOWLEDGES)
        self._client = self._new_client(will)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def subscribe(self, topic: str, qos: int) -> None:
        """From now on `hear` hears of it."""
        self._ask(self._client.subscribe(topic, qos))

    def publish(self, messages: Sequence[Message]) -> Sent:
        """Send, in this order, without waiting: what `confirm` waits for."""
        sent = [self._client.publish(m.topic, m.payload, m.qos, m.retain) for m in messages]
        return [info for info, message in zip(sent, messages, strict=True) if message.qos]

    def confirm(self, sent: Sent) -> None:
        """Wait until the broker has what was sent."""
        try:
            for each in sent:
                each.wait_for_publish(self._settings.timeout_s)
        except (RuntimeError, ValueError) as error:  # paho's words for "not connected"
            raise self.lost(str(error)) from error
        if not all(each.is_published() for each in sent):
            raise self.lost("no answer in time")
        if not sent:
            self._ask(self._client.unsubscribe(NOBODY))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; looked at again after everything that was heard."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or bool(self.broken), self._settings.timeout_s)
            if self.broken or not condition():
                raise self.lost("no answer in time")

    def lost(self, why: str) -> OutputLost:
        """The error of a broken connection; `why` is for one that is not known to be broken yet."""
        why = self.broken or why
        hint = "Check broker and network; mqtts:// where it wants TLS; no second one with this client_id."
        if "uthori" in why or "user name" in why:
            hint = "Check username, password_file or password_env, and what the broker lets this user do."
        return OutputLost(f"MQTT broker: {why}", self._settings.uri, hint)

    def close(self) -> None:
        """Hang up; may be called twice.

        paho's client frees its pipe when it goes itself: nothing of ours that it knows may know it.
        """
        self._break("the connection was closed")
        self._client.disconnect()
        self._client.loop_stop()
        self._hear = _nobody
        client = self._client
        client.on_connect = client.on_disconnect = client.on_message = None
        client.on_subscribe = client.on_unsubscribe = None

    def _new_client(self, will: Message | None) -> paho.Client:
        settings = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            settings.client_id,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = settings.timeout_s
        if will is not None:
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
            raise OutputLost(f"the MQTT broker cannot be reached: {error}", settings.uri, hint) from error
        self._client.loop_start()
        self.wait_for(lambda: self._accepted)

    def _ask(self, asked: tuple[MQTTErrorCode, int | None]) -> None:
        code, number = asked
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS or number is None:
            raise self.lost(paho.error_string(code))
        self.wait_for(lambda: number in self._acknowledged)

    # In paho's thread

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
        self._hear(message.topic, bytes(message.payload), message.retain)
        with self._changed:
            self._changed.notify_all()

    def _note(self, number: int) -> None:
        with self._changed:
            self._acknowledged.append(number)
            self._changed.notify_all()

    def _break(self, why: str) -> None:
        """The first reason is the one that matters."""
        with self._changed:
            self.broken = self.broken or why
            self._changed.notify_all()


def _nobody(topic: str, payload: bytes, retained: bool) -> None:
    pass


def _at_once(client: paho.Client, userdata: object, connection: object) -> None:
    """Two short messages in a row must not wait for each other: with Nagle's algorithm that took 45 ms."""
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
