"""Commands that come over a network which is not the PLC's: trigger, reset counters, rebirth. Pure.

Everybody who may publish on a broker can send them, so little is possible: nothing here can make a pass, stop
the station or change a recipe. Each gets exactly one answer; what is not understood is refused whole.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edge.errors import InspectError
from edge.plc.commands import Command
from edge.plc.handshake import Handshake, Mode
from edge.plc.registers import U32_MASK

LONGEST_COMMAND = 1000  # bytes
LONGEST_ID = 64  # characters
KEPT_ANSWERS = 100  # a command that comes twice within so many gets its first answer again


class Wish(Enum):
    """What somebody wants."""

    TRIGGER = "trigger"
    RESET_COUNTERS = "reset_counters"
    REBIRTH = "rebirth"  # say everything again; Sparkplug's hosts ask for it


@dataclass(frozen=True, slots=True)
class RemoteCommand:
    """`id` is the asker's own name for it: the same id twice is one command that was delivered twice."""

    wish: Wish
    part_id: int | None = None  # u32
    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`error` is "" where it was carried out."""

    error: str = ""
    command: str | None = None
    part_id: int | None = None
    id: str | int | None = None

    def as_json(self) -> dict[str, Any]:
        """What the asker reads; the keys are documented in docs/mqtt.md."""
        return {
            "ok": not self.error,
            "command": self.command,
            "part_id": self.part_id,
            "id": self.id,
            "error": self.error or None,
        }


class Desk:
    """Takes commands for one station, each once; outlives connections, as the PLC link does."""

    def __init__(self) -> None:
        self._answered: OrderedDict[str | int, tuple[RemoteCommand, Answer]] = OrderedDict()

    def take(self, command: RemoteCommand, hand: Handshake, now_ns: int) -> Answer:
        """Carry it out, or repeat what was said when it came first."""
        if command.id is None:
            return carry_out(command, hand, now_ns)
        first, answer = self._answered.get(command.id, (command, None))
        if first != command:
            return _answer(command, "this id was used for another command")
        if answer is None:
            answer = carry_out(command, hand, now_ns)
            self._answered[command.id] = (command, answer)
            while len(self._answered) > KEPT_ANSWERS:
                self._answered.popitem(last=False)
        return answer


def attend(hand: Handshake, now_ns: int) -> None:
    """Let time pass; who can be reached over a network may trigger, a PLC has to set ENABLE for that."""
    hand.tick(now_ns)
    hand.enabled = not hand.plc_lost


def carry_out(command: RemoteCommand, hand: Handshake, now_ns: int) -> Answer:
    """Do it now, or say why not. A rebirth is for the caller to do: what is said is not known here."""
    attend(hand, now_ns)
    match command.wish:
        case Wish.TRIGGER if hand.mode is Mode.FREE_RUN:
            return _answer(command, "the station runs by its camera; start it with handshake=ids")
        case Wish.TRIGGER:
            if not hand.trigger(command.part_id, now_ns) or hand.last_trigger is None:
                return _answer(
                    command,
                    "not taken: a part is being judged, this one has its result, or the camera is lost",
                )
            return Answer("", command.wish.value, hand.last_trigger.part_id, command.id)
        case Wish.RESET_COUNTERS if hand.command(Command.RESET_COUNTERS, 0, now_ns) is None:
            return _answer(command, "busy with another command")
    return _answer(command, "")


def read_command(payload: bytes, where: str) -> RemoteCommand:
    """`{"command": "trigger", "part_id": 4711, "id": "a1"}`; the last two may be missing.

    Raises InspectError.
    """
    hint = 'Send for example {"command": "trigger", "part_id": 4711, "id": "a1"}'
    try:
        if len(payload) > LONGEST_COMMAND:
            raise ValueError(f"{len(payload)} bytes, {LONGEST_COMMAND} are allowed")
        return _command(_json(payload))
    except ValueError as error:
        raise InspectError(f"this is no command: {error}", where, hint) from error


def part_id_of(value: object) -> int | None:
    """A part id from outside, None for none. Raises ValueError for what is not 0..4294967295."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= U32_MASK:
        raise ValueError(f"part_id is not a whole number from 0 to {U32_MASK}")
    return value


def _json(payload: bytes) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:  # a thousand brackets
        raise ValueError("not JSON") from error


def _command(raw: object) -> RemoteCommand:
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    if unknown := raw.keys() - {"command", "part_id", "id"}:
        raise ValueError(f"unknown key {min(unknown)!r}")
    known = [wish.value for wish in Wish]
    if raw.get("command") not in known:
        raise ValueError(f"unknown command; known are {', '.join(known)}")
    wish, part_id = Wish(raw["command"]), part_id_of(raw.get("part_id"))
    if part_id is not None and wish is not Wish.TRIGGER:
        raise ValueError(f"{wish.value} takes no part_id")
    return RemoteCommand(wish, part_id, _id(raw.get("id")))


def _id(value: object) -> str | int | None:
    if value is None or type(value) is int:
        return value
    if isinstance(value, str) and len(value) <= LONGEST_ID:
        return value
    raise ValueError(f"id is not a number or a text of up to {LONGEST_ID} characters")


def _answer(command: RemoteCommand, error: str) -> Answer:
    return Answer(error, command.wish.value, command.part_id, command.id)
