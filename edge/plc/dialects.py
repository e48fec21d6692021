"""Dialects of sensors that a station may replace: which word triggers, which line answers. Data; no port.

    t1     T1\\r -> T1\\r, then RT,00001,OK\\r             gardasoft   Evt1,17 -> SN1,17,1\\r

A template has fields in braces, with formats as in Python ({id:05d}):

    id      the part's number, modulo `ids`              word      `passed`, `failed` or `nodec`
    code    reason code (docs/errors.md)                 score     four decimals, "-" where there is none
    ms      from picture to decision                     recipe    recipe number
    output  the setting of that name                     command   first word of the PLC (answers only)

No dialect has a checksum, and few a part id. What is checked here: no other line can be read as a pass.
"""

import re
from dataclasses import dataclass
from string import Formatter

from edge.plc.handshake import Handshake, Mode
from edge.plc.registers import VerdictCode
from edge.plc.station_image import result_id, verdict_code
from edge.verdict import Verdict

STX, ETX = "\x02", "\x03"
IN_LINE = ("id", "word", "code", "score", "ms", "recipe", "output")
IN_ANSWER = ("id", "command", "output")
NUMBERS = ("id", "code", "ms", "recipe")
PADDED = r" *-?\d+ *"  # how a number may look in a line


@dataclass(frozen=True, slots=True)
class Dialect:
    """One sensor's way of speaking. Raises ValueError where it could let a part through by mistake."""

    trigger: str  # of the PLC; {id} stands for the number that it gives the part
    line: str  # of the station, one a part
    accepted: str = ""  # answer to a trigger that is taken; "": none
    refused: str = ""  # to one that is not
    unknown: str = ""  # to any other line
    passed: str = "OK"
    failed: str = "NG"
    nodec: str = "NG"  # nobody could judge the part: a bad one for a PLC that knows two words
    output: str = "1"
    ids: int = 2**32  # so many part numbers; then 0 again
    start: str = ""
    end: str = "\r"
    ends: bytes = b"\r\n\x03"  # what ends a line of the PLC

    def __post_init__(self) -> None:
        _check(self)

    @property
    def acknowledges(self) -> bool:
        """No: a result that is written is taken."""
        return False

    def answer(self, line: str, hand: Handshake, now_ns: int) -> bytes:
        """To a trigger, or to a line that nobody knows; nothing to an empty one."""
        hand.tick(now_ns)
        hand.enabled = not hand.plc_lost
        text = line.rpartition(STX)[2].strip()
        asked = pattern_of(self.trigger, id=r"\d{1,10}").fullmatch(text)
        part_id = int(asked["id"]) if asked and "id" in asked.groupdict() else None
        if asked is None or (part_id or 0) >= self.ids:
            return self._answer(self.unknown, part_id, text) if text else b""
        taken = hand.mode is not Mode.FREE_RUN and hand.trigger(part_id, now_ns)
        waits = hand.last_trigger
        if taken and waits is not None:
            part_id = waits.part_id
        elif waits is not None and waits.part_id == part_id and "{id" in self.refused:
            hand.abort(now_ns)  # the refusal is the answer for this number: no verdict may follow it
        return self._answer(self.accepted if taken else self.refused, part_id, text)

    def result(self, verdict: Verdict, recipe_number: int) -> bytes:
        """Also for a part that nobody could judge: never with the word of a pass."""
        values = {
            "id": result_id(verdict) % self.ids, "word": self.word(verdict_code(verdict)),
            "code": int(verdict.reason), "score": "-" if verdict.score is None else f"{verdict.score:.4f}",
            "ms": round(verdict.total_ms), "recipe": recipe_number, "output": self.output,
        }  # fmt: skip
        return self._framed(self.line.format(**values))

    def word(self, code: VerdictCode) -> str:
        """What stands for it on the line."""
        return {VerdictCode.PASS: self.passed, VerdictCode.FAIL: self.failed}.get(code, self.nodec)

    def _answer(self, template: str, part_id: int | None, text: str) -> bytes:
        command = "".join(re.findall(r"^[A-Za-z0-9]{1,8}", text))
        filled = template.format(id=(part_id or 0) % self.ids, command=command, output=self.output)
        return self._framed(filled) if filled else b""

    def _framed(self, text: str) -> bytes:
        return f"{self.start}{text}{self.end}".encode("ascii")


def pattern_of(template: str, **of_fields: str) -> re.Pattern[str]:
    """What a line that was made by a template looks like; each field is a group of its name."""
    parts, seen = [], set[str]()
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(re.escape(literal))
        if name is not None:
            group = of_fields.get(name, PADDED if name in NUMBERS else r"[^\r\n]*?")
            parts.append(f"(?:{group})" if name in seen else f"(?P<{name}>{group})")
            seen.add(name)
    return re.compile("".join(parts), re.ASCII | re.IGNORECASE)


def _check(dialect: Dialect) -> None:
    words = {"pass": dialect.passed, "fail": dialect.failed, "nodec": dialect.nodec}
    for name, word in words.items():
        if not word.strip() or not word.isascii() or not word.isprintable():
            raise ValueError(f"{name}={word!r} is no word")
    for name in ("fail", "nodec"):
        if words[name].strip().casefold() == dialect.passed.strip().casefold():
            raise ValueError(f"{name}={words[name]} is the word of a pass")
    if "word" not in _fields("line", dialect.line, IN_LINE):
        raise ValueError("line= has no {word}: it would say the same of every part")
    _fields("trigger", dialect.trigger, ("id",))
    if not dialect.trigger or dialect.ids < 1:
        raise ValueError("trigger= is empty, or ids= is below 1")
    a_pass = pattern_of(dialect.line, word=re.escape(dialect.passed))
    for name in ("fail", "nodec"):
        if a_pass.fullmatch(_sample(dialect.line, IN_LINE, word=words[name])):
            raise ValueError(f"line={dialect.line} with {name}={words[name]} would be read as a pass")
    for name in ("accepted", "refused", "unknown"):
        template = getattr(dialect, name)
        _fields(name, template, IN_ANSWER)
        if a_pass.fullmatch(_sample(template, IN_ANSWER, output=dialect.output)):
            raise ValueError(f"{name}={template} would be read as a pass")


def _fields(name: str, template: str, known: tuple[str, ...]) -> set[str]:
    """The fields of a template that can be filled in, whatever the part. Raises ValueError."""
    if not template.isascii() or not all(c.isprintable() for c in template):
        raise ValueError(f"{name}={template!r} has characters that are not for a line")
    found = {each for _, each, _, _ in Formatter().parse(template) if each is not None}
    if found - set(known):
        raise ValueError(f"{name}= has unknown fields {sorted(found - set(known))}; known are {list(known)}")
    _sample(template, known)
    return found


def _sample(template: str, known: tuple[str, ...], **given: str) -> str:
    return template.format(**{each: 1 if each in NUMBERS else given.get(each, "x") for each in known})


KEYENCE = Dialect(
    trigger="T1", accepted="T1", refused="ER,{command},01", unknown="ER,{command},00",
    line="RT,{id:05d},{word}", ids=32_768,
)  # fmt: skip
DIALECTS = {
    "t1": KEYENCE,
    "trig": Dialect(
        trigger="TRIG", accepted="rTRIG 0", refused="rTRIG 1", unknown="r{command} 1",
        line="{id},{word}", start=STX, end=ETX,
    ),
    "gardasoft": Dialect(
        trigger="Evt1,{id}", refused="SN{output},{id},0", line="SN{output},{id},{word}",
        passed="1", failed="0", nodec="0", ids=256, ends=b"\r\n\x03;",
    ),
    "plain": Dialect(trigger="TRG", refused="BUSY", line="{word}"),
}  # fmt: skip
