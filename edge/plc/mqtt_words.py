"""What a station says on which MQTT topic, in plain JSON; and what any such language has to have. Pure.

PREFIX/status    {"online": true, ...}   retained, about four times a second; the last will says offline
PREFIX/verdict   one JSON object per part; never retained: whoever comes later must not take it for news
PREFIX/cmd       what others want        PREFIX/reply   what became of it
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge.errors import InspectError
from edge.plc.remote import Answer, RemoteCommand, read_command
from edge.plc.station_image import Counters
from edge.verdict import Verdict
from edge.verdict_json import verdict_json


@dataclass(frozen=True, slots=True)
class Message:
    """`qos` 1: the broker acknowledges it. `retain`: it is kept for whoever subscribes later."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """What the station says of itself."""

    healthy: bool  # the loop turns, the camera gives pictures
    ready: bool  # a trigger would be taken
    heartbeat: int
    counters: Counters


class Dialect(Protocol):
    """One station's words. Lives as long as the station, over many connections. Times: UTC milliseconds."""

    @property
    def host_online(self) -> bool:
        """False while somebody whom the station has to wait for is not there."""

    @property
    def listens(self) -> Sequence[tuple[str, int]]:
        """Topics with their quality of service, to subscribe before anything is said."""

    def will(self, at_ms: int) -> Message:
        """What the broker says for us when we are cut off; a new connection begins."""

    def birth(self, life: Life, at_ms: int) -> list[Message]:
        """The first words of a connection, and those of a rebirth."""

    def beat(self, life: Life, at_ms: int) -> list[Message]:
        """About four times a second."""

    def verdict(self, verdict: Verdict, late: bool, decided_ms: int, life: Life, at_ms: int) -> list[Message]:
        """One part; `late` says that it has long gone by."""

    def hear(self, topic: str, payload: bytes, retained: bool) -> list[RemoteCommand]:
        """Read what was received. Raises InspectError for what is not understood: nothing of it is done."""

    def answer(self, answer: Answer, at_ms: int) -> list[Message]:
        """To a command."""

    def death(self, at_ms: int) -> list[Message]:
        """The last words."""


class PlainJson:
    """JSON under one topic prefix."""

    host_online = True

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.listens = [(f"{prefix}/cmd", 1)]

    def will(self, at_ms: int) -> Message:
        """Without a time: nobody knows yet when it will be."""
        return self._message("status", {"online": False}, retain=True)

    def birth(self, life: Life, at_ms: int) -> list[Message]:
        """The same as every beat."""
        return self.beat(life, at_ms)

    def beat(self, life: Life, at_ms: int) -> list[Message]:
        """Retained: whoever subscribes knows at once."""
        return [self._message("status", status_json(life, at_ms), retain=True)]

    def verdict(self, verdict: Verdict, late: bool, decided_ms: int, life: Life, at_ms: int) -> list[Message]:
        """The record of the jsonl output, with its time and whether it is late."""
        return [self._message("verdict", record(verdict, late, decided_ms))]

    def hear(self, topic: str, payload: bytes, retained: bool) -> list[RemoteCommand]:
        """One command. A retained one is refused: nobody knows how old it is. Raises InspectError."""
        if retained:
            raise retained_command(topic)
        return [read_command(payload, topic)]

    def answer(self, answer: Answer, at_ms: int) -> list[Message]:
        """With the asker's id, where there was one."""
        return [self._message("reply", answer.as_json())]

    def death(self, at_ms: int) -> list[Message]:
        """As the last will, which is not sent after a proper goodbye."""
        return [self.will(at_ms)]

    def _message(self, topic: str, what: dict[str, Any], retain: bool = False) -> Message:
        return Message(f"{self._prefix}/{topic}", json.dumps(what, allow_nan=False).encode(), retain=retain)


def record(verdict: Verdict, late: bool, decided_ms: int) -> dict[str, Any]:
    """A verdict as it is told over MQTT, in JSON and in Sparkplug alike; docs/mqtt.md lists the keys."""
    return verdict_json(verdict) | {"late": late, "at_ms": decided_ms}


def status_json(life: Life, at_ms: int) -> dict[str, Any]:
    """What stands in PREFIX/status while the station runs."""
    return {
        "online": True,
        "healthy": life.healthy,
        "ready": life.ready,
        "heartbeat": life.heartbeat,
        "total": life.counters.total,
        "passed": life.counters.passed,
        "failed": life.counters.failed,
        "no_decision": life.counters.no_decision,
        "at_ms": at_ms,
    }


def retained_command(topic: str) -> InspectError:
    """A command that the broker kept, who knows since when, and gives to every new connection."""
    hint = "Publish it without retain; clear the old one with an empty retained message."
    return InspectError("retained commands are not carried out", topic, hint)
