"""The ASCII line protocol between station and PLC: pure bytes in, lines and answers out; no port, no clock.

    PLC -> station   VER\\r                 station -> PLC   OK,edge-inspect,1.0\\r
    PLC -> station   ACK,4711*52\\r         station -> PLC   OK*04\\r
    station -> PLC   RES,4711,PASS,0.1234,1,38*HH\\r         (unsolicited, one per part)

CR ends a line, LF is ignored, ESC clears what was received so far. `*HH` is the XOR of all characters before
the star, two hexadecimal digits: always there on RES, on an answer where the command had one.
"""

import re
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Protocol

from edge.plc.commands import Command
from edge.plc.handshake import Handshake, Mode
from edge.plc.registers import U32_MASK, Status, VerdictCode
from edge.plc.station_image import StationImage, result_id, verdict_code
from edge.verdict import Verdict

PROTOCOL = "edge-inspect,1.0"
INCOMPLETE_NS = 10_000_000_000  # an unfinished line older than this is dropped
LONGEST_LINE = 120
LF, ESC = b"\n", b"\x1b"

UNKNOWN, BUSY, WRONG_ARGUMENT, WRONG_STATE = "ER,01", "ER,02", "ER,03", "ER,04"
NO_RECIPE, CAMERA_FAULT, TIME_OUT, BAD_CHECKSUM = "ER,05", "ER,06", "ER,07", "ER,08"
ORDERS = {"RCP": Command.LOAD_RECIPE, "LOT": Command.SET_LOT}
ENDED = {Status.COMMAND_BUSY: "BUSY", Status.COMMAND_DONE: "DONE", Status.COMMAND_FAILED: "FAILED"}
WORDS = {VerdictCode.PASS: "PASS", VerdictCode.FAIL: "FAIL"}


class Language(Protocol):
    """What is said on a line of characters. Pure: bytes and lines, no port."""

    @property
    def ends(self) -> bytes:
        """Characters that end a line of the PLC."""

    @property
    def acknowledges(self) -> bool:
        """Whether the PLC says that it has taken a result; if not, a result that is written is taken."""

    def answer(self, line: str, hand: Handshake, now_ns: int) -> bytes:
        """What the station says to one line; nothing where the language has no answer to it."""

    def result(self, verdict: Verdict, recipe_number: int) -> bytes:
        """What the station says of one part."""


class OwnLanguage:
    """The protocol of this file; every line gets exactly one answer."""

    ends, acknowledges = b"\r", True

    def answer(self, line: str, hand: Handshake, now_ns: int) -> bytes:
        """As `answer`."""
        return answer(line, hand, now_ns)

    def result(self, verdict: Verdict, recipe_number: int) -> bytes:
        """As `result_line`."""
        return result_line(verdict, recipe_number)


@dataclass(frozen=True, slots=True)
class Received:
    """Characters of a line that has not ended yet, and when its first one came (monotonic ns)."""

    data: bytes = b""
    since_ns: int = 0
    overrun: bool = False  # longer than any command: swallowed up to its CR


def receive(before: Received, data: bytes, now_ns: int, ends: bytes = b"\r") -> tuple[Received, list[str]]:
    """Add what arrived; give the lines that are complete now ("" for one that was too long)."""
    state = before if now_ns - before.since_ns <= INCOMPLETE_NS else Received()
    lines: list[str] = []
    at, stop = 0, re.compile(b"[" + re.escape(ends + ESC) + b"]")
    while found := stop.search(data, at):
        state = _with(state, data[at : found.start()], now_ns)
        if found.group() != ESC:
            lines.append("" if state.overrun else state.data.decode("ascii", "replace"))
        state, at = Received(), found.end()
    return _with(state, data[at:], now_ns), lines


def _with(state: Received, data: bytes, now_ns: int) -> Received:
    """A line that goes on; what is too long is not kept."""
    data = data.replace(LF, b"")
    if not data:
        return state
    room = LONGEST_LINE - len(state.data)
    since_ns = state.since_ns if state.data else now_ns
    return Received(state.data + data[:room], since_ns, state.overrun or len(data) > room)


def checksum(text: str) -> str:
    """XOR of the characters, as two hexadecimal digits."""
    return f"{reduce(xor, text.encode('ascii', 'replace'), 0):02X}"


def result_line(verdict: Verdict, recipe_number: int) -> bytes:
    """`RES,<id>,<PASS|FAIL|NODEC>,<score>,<recipe>,<ms>*HH\\r`; the score is `-` where there is none."""
    word = WORDS.get(verdict_code(verdict), "NODEC")
    score = "-" if verdict.score is None else f"{verdict.score:.4f}"
    number = verdict.recipe_number or recipe_number
    return _line(f"RES,{result_id(verdict)},{word},{score},{number},{verdict.total_ms:.0f}", True)


def answer(line: str, hand: Handshake, now_ns: int) -> bytes:
    """What the station says to one line; every line gets exactly one answer. A PLC that talks may trigger."""
    text, star, given = line.partition("*")
    if star and given.upper() != checksum(text):
        return _line(BAD_CHECKSUM, True)
    hand.tick(now_ns)
    hand.enabled = not hand.plc_lost
    return _line(_answer(text.strip(), hand, now_ns), bool(star))


def _answer(text: str, hand: Handshake, now_ns: int) -> str:
    command, *arguments = text.split(",")
    image = hand.image
    match command.upper(), arguments:
        case "VER", []:
            return f"OK,{PROTOCOL}"
        case "ST", []:
            return _state(hand)
        case "HB", []:
            hand.plc_beats(now_ns)
            return "OK" if image.online else WRONG_STATE
        case "CNT", []:
            c = image.counters
            return f"OK,{c.total},{c.passed},{c.failed},{c.no_decision}"
        case "ACK", [part_id] if (number := _u32(part_id)) is not None:
            return "OK" if hand.acknowledge(number, now_ns) else WRONG_STATE
        case "TRG", [] | [_] if hand.mode is Mode.FREE_RUN:
            return WRONG_STATE
        case "TRG", []:
            return _trigger(None, hand, now_ns)
        case "TRG", [part_id] if (number := _u32(part_id)) is not None:
            return _trigger(number, hand, now_ns)
        case "RST", []:
            return "OK" if hand.command(Command.RESET_COUNTERS, 0, now_ns) else BUSY
        case "RCP", []:
            return f"OK,{image.recipe_number}"
        case "CMD", []:
            return f"OK,{ENDED.get(hand.commands.bits, '-')}"
        case (("RCP" | "LOT") as order, [text]) if (number := _u32(text)) is not None:
            return "OK" if hand.command(ORDERS[order], number, now_ns) else BUSY
        case "CHL", []:
            return "OK" if hand.command(Command.CHALLENGE, 0, now_ns) else BUSY
        case (("VER" | "ST" | "HB" | "CNT" | "ACK" | "TRG" | "RST" | "RCP" | "LOT" | "CHL" | "CMD"), _):
            return WRONG_ARGUMENT
    return UNKNOWN


def _state(hand: Handshake) -> str:
    bits = hand.line.bits
    ready, busy = (int(bool(bits & bit)) for bit in (Status.READY, Status.BUSY))
    return f"OK,{'RUN' if hand.image.online else 'STOP'},{ready},{busy},{_error(hand.image)}"


def _trigger(part_id: int | None, hand: Handshake, now_ns: int) -> str:
    if not hand.trigger(part_id, now_ns) or hand.last_trigger is None:
        return BUSY
    return f"OK,{hand.last_trigger.part_id}"


def _u32(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= U32_MASK else None


def _error(image: StationImage) -> int:
    """Reason code of the fault that stands now, 0 for none."""
    verdict = image.verdict
    return image.fault or (int(verdict.reason) if verdict and verdict.reason.is_fault else 0)


def _line(text: str, with_checksum: bool) -> bytes:
    return f"{text}*{checksum(text)}\r".encode("ascii") if with_checksum else f"{text}\r".encode("ascii")
