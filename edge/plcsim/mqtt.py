"""The PLC's end of MQTT: a client of the same broker that triggers by command and reads the verdicts."""

import queue
from collections.abc import Callable
from dataclasses import replace

from edge.errors import InspectError, OutputLost
from edge.outputs.mqtt_connection import Connection
from edge.outputs.mqtt_settings import MqttSettings, mqtt_settings
from edge.plc.handshake import Mode
from edge.plc.mqtt_words import Message
from edge.plcsim import Peer, Scan
from edge.plcsim.mqtt_talk import MqttTalk

AGAIN_NS = 1_000_000_000  # between two tries to reach the broker
HEARD = ("verdict", "reply", "status")


def mqtt_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError; the opener raises OutputLost where no broker is."""
    settings = mqtt_settings(uri)
    if settings.sparkplug:
        raise InspectError("plc-sim speaks JSON over MQTT, not Sparkplug", uri, "Leave format= away.")
    return lambda: MqttPlc(settings, mode)


class MqttPlc:
    """A Peer. What paho's thread hears waits here for the next cycle."""

    def __init__(self, settings: MqttSettings, mode: Mode) -> None:
        self.station = settings.uri
        self._settings = replace(settings, client_id=f"{settings.client_id}-plc-sim")
        self._prefix, self._talk = "/".join(settings.path), MqttTalk(mode)
        self._heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._tried_ns = 0
        self._connection = self._connect()

    def part_arrives(self, part_id: int) -> None:
        """It is triggered when the one before it has its verdict."""
        self._talk.part_arrives(part_id)

    def scan(self, now_ns: int) -> Scan:
        """Read what was said, ask."""
        if self._connection.broken:
            self._talk.abandon()
            self._reconnect(now_ns)
        while not self._heard.empty():
            self._talk.hear(*self._heard.get(), now_ns)
        scan, command = self._talk.turn(now_ns)
        if command is not None:
            self._connection.publish([Message(f"{self._prefix}/cmd", command)])
        return scan

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _connect(self) -> Connection:
        connection = Connection(self._settings, None, self._note)
        try:
            for name in HEARD:
                connection.subscribe(f"{self._prefix}/{name}", 1)
        except OutputLost:
            connection.close()
            raise
        return connection

    def _reconnect(self, now_ns: int) -> None:
        if now_ns - self._tried_ns < AGAIN_NS:
            return
        self._tried_ns = now_ns
        self._connection.close()
        try:
            self._connection = self._connect()
        except OutputLost:
            return  # the old one is still broken: the next try follows

    def _note(self, topic: str, payload: bytes, retained: bool) -> None:
        self._heard.put((topic.removeprefix(f"{self._prefix}/"), payload))
