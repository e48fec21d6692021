"""What a PLC says on a line of characters and how it reads the answers: own protocol, and dialects. Pure."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from edge.plc.dialects import Dialect, pattern_of
from edge.plc.line_protocol import WORDS, Language, checksum
from edge.plc.registers import VerdictCode
from edge.plcsim import Complaint, Mistake

UNANSWERED_NS = 3_000_000_000
ASK_NS = 100_000_000  # so often the PLC asks for the state
BEAT_NS = 1_000_000_000
CODES = {word: code for code, word in WORDS.items()} | {"NODEC": VerdictCode.NO_DECISION}


@dataclass(frozen=True, slots=True)
class Heard:
    """What one line means. `part_id` is None where this way of speaking gives none."""

    taken: bool = False  # the trigger
    refused: bool = False
    verdict: VerdictCode | None = None
    part_id: int | None = None
    complaints: tuple[Complaint, ...] = ()


class Phrases(Protocol):
    """One way of speaking; `ready` and `busy` are what is known of the station, None where nothing is."""

    ready: bool | None
    busy: bool | None
    alive: bool  # the station speaks
    ends: bytes  # what ends a line of the station

    def trigger(self, part_id: int, now_ns: int) -> bytes:
        """Ask for a picture of this part."""

    def wire_id(self, part_id: int) -> int:
        """The number as it comes back."""

    def acknowledge(self, part_id: int, now_ns: int) -> bytes:
        """Say that a result was taken."""

    def idle(self, now_ns: int) -> tuple[bytes, list[Complaint]]:
        """What a PLC says again and again, and what is wrong when no answer comes."""

    def hear(self, line: str, now_ns: int) -> Heard:
        """Read one line of the station."""


def phrases_of(language: Language) -> Phrases:
    """The PLC's half of what the station speaks."""
    return DialectPhrases(language) if isinstance(language, Dialect) else OwnPhrases()


@dataclass
class OwnPhrases:
    """The protocol of docs/outputs.md: every question gets one answer, in order; results come between."""

    ready: bool | None = False
    busy: bool | None = False
    alive: bool = False
    ends: bytes = b"\r"
    _open: deque[tuple[str, int]] = field(default_factory=deque)  # questions without an answer, and when
    _asked_ns: int = 0
    _beaten_ns: int = 0
    _idle_ns: int = 0
    _stalled_ns: int | None = None  # since when HB is answered "stalled"

    def trigger(self, part_id: int, now_ns: int) -> bytes:
        """With the part's number."""
        return self._ask(f"TRG,{part_id}", now_ns)

    def wire_id(self, part_id: int) -> int:
        """The very number."""
        return part_id

    def acknowledge(self, part_id: int, now_ns: int) -> bytes:
        """The next result waits for it."""
        return self._ask(f"ACK,{part_id}", now_ns)

    def idle(self, now_ns: int) -> tuple[bytes, list[Complaint]]:
        """HB once a second, ST more often; nothing while a question is open."""
        lost: list[Complaint] = []
        if now_ns - self._idle_ns > BEAT_NS:  # we stood still ourselves: the station has its time anew
            self._open = deque((question, now_ns) for question, _ in self._open)
        self._idle_ns = now_ns
        if self._open:
            question, since = self._open[0]
            if now_ns - since < (UNANSWERED_NS if self.alive else BEAT_NS):
                return b"", []
            if self.alive:
                lost.append(Complaint(Mistake.NO_HEARTBEAT, f"{question} got no answer within 3 s"))
            self.alive = self.ready = self.busy = False
            self._open.clear()  # answers have no number: only silence brings both back into step
        if now_ns - self._beaten_ns >= BEAT_NS:
            self._beaten_ns = now_ns
            return self._ask("HB", now_ns), lost
        if now_ns - self._asked_ns >= ASK_NS and self.alive:
            self._asked_ns = now_ns
            return self._ask("ST", now_ns), lost
        return b"", lost

    def hear(self, line: str, now_ns: int) -> Heard:
        """A result, or the answer to the oldest question."""
        self.alive = True
        text, star, given = line.partition("*")
        if not star or given != checksum(text):
            return _wrong(Mistake.CHECKSUM, f"{line!r} should end in *{checksum(text)}")
        if text.startswith("RES,"):
            return _result(text)
        if not self._open:
            return _wrong(Mistake.BAD_LINE, f"{text!r}, and nothing was asked")
        return self._answer(self._open.popleft()[0], text, now_ns)

    def _ask(self, text: str, now_ns: int) -> bytes:
        self._open.append((text, now_ns))
        return f"{text}*{checksum(text)}\r".encode()

    def _hear_stalled(self, now_ns: int) -> Heard:
        """A station that has just started says so, too; it is a mistake when it lasts."""
        if self._stalled_ns is None:
            self._stalled_ns = now_ns
        if now_ns - self._stalled_ns < UNANSWERED_NS:
            return Heard()
        self._stalled_ns = now_ns
        return _wrong(Mistake.NO_HEARTBEAT, "HB has been answered ER,04 for 3 s: the station has stalled")

    def _answer(self, question: str, text: str, now_ns: int) -> Heard:
        command, _, argument = question.partition(",")
        match command, text.split(","):
            case "TRG", ["OK", given] if given == argument:
                return Heard(taken=True)
            case "TRG", ["ER", "02"]:
                return Heard(refused=True)
            case "TRG", ["ER", "04"]:
                hint = "the station runs free: give it the URI with ?handshake=ids"
                return _wrong(Mistake.BAD_LINE, f"{question} was answered ER,04; {hint}")
            case "HB", ["OK"]:
                self._stalled_ns = None
                return Heard()
            case "ACK", ["OK"]:
                return Heard()
            case "HB", ["ER", "04"]:
                return self._hear_stalled(now_ns)
            case "ST", ["OK", "RUN" | "STOP", ("0" | "1") as ready, ("0" | "1") as busy, _]:
                self.ready, self.busy = ready == "1", busy == "1"
                return Heard()
        return _wrong(Mistake.BAD_LINE, f"{question} was answered {text!r}")


def _result(text: str) -> Heard:
    match text.split(","):
        case ["RES", part, word, score, recipe, ms] if part.isdecimal() and word in CODES:
            broken = word == "PASS" and not re.fullmatch(r"-?\d+\.\d+", score)
            if broken or not (recipe.isdecimal() and ms.isdecimal()):
                return _wrong(Mistake.CONTRADICTION, f"{text!r}: a pass without a score, or no numbers")
            return Heard(verdict=CODES[word], part_id=int(part))
    return _wrong(Mistake.BAD_LINE, f"{text!r} is no result")


class DialectPhrases:
    """A PLC that knows the dialect only: a trigger, and lines that say OK or not."""

    def __init__(self, dialect: Dialect) -> None:
        self.ready: bool | None = None
        self.busy: bool | None = None
        self.alive = True  # nobody knows
        self.ends = dialect.end[-1:].encode()
        self._dialect = dialect
        self._result = pattern_of(dialect.line)
        self._codes = {  # where two have one word, the worse one is meant
            dialect.passed: VerdictCode.PASS, dialect.nodec: VerdictCode.NO_DECISION,
            dialect.failed: VerdictCode.FAIL,
        }  # fmt: skip
        answers = {"taken": dialect.accepted, "refused": dialect.refused}
        self._answers = {name: pattern_of(text) for name, text in answers.items() if text}

    def trigger(self, part_id: int, now_ns: int) -> bytes:
        """Its number where the dialect has one."""
        return f"{self._dialect.trigger.format(id=self.wire_id(part_id))}\r".encode()

    def wire_id(self, part_id: int) -> int:
        """Numbers begin again."""
        return part_id % self._dialect.ids

    def acknowledge(self, part_id: int, now_ns: int) -> bytes:
        """Nobody does."""
        return b""

    def idle(self, now_ns: int) -> tuple[bytes, list[Complaint]]:
        """No dialect has a heartbeat."""
        return b"", []

    def hear(self, line: str, now_ns: int) -> Heard:
        """A result, or the answer to the trigger."""
        text = line.removeprefix(self._dialect.start)
        found = self._result.fullmatch(text)
        if found and found["word"] in self._codes:
            numbered = "id" in found.groupdict() and "{id" in self._dialect.trigger
            return Heard(verdict=self._codes[found["word"]], part_id=int(found["id"]) if numbered else None)
        for name, pattern in self._answers.items():
            if pattern.fullmatch(text):
                return Heard(taken=name == "taken", refused=name == "refused")
        return _wrong(Mistake.BAD_LINE, f"{text!r} is neither answer nor result")


def _wrong(what: Mistake, detail: str) -> Heard:
    return Heard(complaints=(Complaint(what, detail),))
