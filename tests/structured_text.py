"""Runs the PLC programs of deploy/plc as they are written: the few words of structured text that they use.

Three dialects differ in how they name things, in bits (`x.%X4`, `x.4`) and in timers; the statements are the
same. What is not known here is an error, so a program cannot grow a word that no test runs.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from edge.plc.registers import PLC_COUNT, STATION_START, decode, place

COMMENT = re.compile(r"\(\*.*?\*\)|//[^\n]*", re.S)
TOKEN = re.compile(
    r"(?P<name>#?\"?[A-Za-z_][\w\"]*(?:\[\d+\]|\.%?\w+)*)|(?P<hex>16#[0-9A-F]+)|(?P<number>\d+)"
    r"|(?P<sign>:=|<>|<=|>=|[-+*/()=<>,])|(?P<space>\s+)"
)
WORDS = {"AND": "and", "OR": "or", "NOT": "not", "MOD": "%", "TRUE": "True", "FALSE": "False"}
SIGNS = {"<>": "!=", "=": "==", "/": "//"}
CONVERSIONS = ("WORD_TO_UDINT", "UDINT_TO_WORD")
STATEMENT = re.compile(r"\s*(IF\b.*?\bTHEN\b|ELSE\b|END_IF\b;?|[^;]+;)", re.S)
TIMES = re.compile(r"T#(\d+)S")

FOLDER = Path(__file__).parents[1] / "deploy" / "plc"
FILES = {
    "siemens": "edge_inspect.scl",
    "rockwell": "edge_inspect_logix.st",
    "beckhoff": "edge_inspect_twincat.st",
}
NAMES = {  # of arrived, done, good, missed, alarm, clear, part, acknowledged
    "siemens": "#partArrived #done #good #missed #alarm #clearAlarm #partId #ackId",
    "rockwell": "EI_PartArrived EI_Done EI_Good EI_Missed EI_Alarm EI_ClearAlarm EI_PartId EI_AckId",
    "beckhoff": "bPartArrived bDone bGood bMissed bAlarm bClearAlarm nPartId nAckId",
}


def published(maker: str) -> str:
    """The text of a program as it is given to PLC programmers."""
    return (FOLDER / FILES[maker]).read_text("utf-8")


class StructuredText:
    """One program in its PLC; `scan` is one cycle. `now_ms` tells the time."""

    def __init__(self, text: str, now_ms: Callable[[], int], kept: dict[str, Any] | None = None) -> None:
        body, self.declared = _body(text)
        self.values: dict[str, Any] = dict(kept or {})
        self._code, self._now_ms = _compiled(body), now_ms
        self._registers = [0] * 150
        self._timing: dict[str, int] = {}

    def scan(self, block: list[int]) -> list[int]:
        """One cycle over registers 100..149; gives registers 0..27."""
        self._registers[STATION_START:] = block
        exec(self._code, {"get": self._get, "put": self._put, "call": self._call})
        return self._registers[:PLC_COUNT]

    def _get(self, name: str) -> Any:
        if (bit := _bit(name)) is not None:
            return bool(self._get(bit[0]) >> bit[1] & 1)
        if (register := _register(name)) is not None:
            return self._registers[register]
        if name.startswith('"edge_inspect".STATION.'):
            return int(decode(name.rpartition(".")[2], self._registers[STATION_START:]))
        if name.endswith((".Q", ".DN")):
            return self._ran(name.rpartition(".")[0])
        self._known(name)
        return self.values.get(name, 0)

    def _put(self, name: str, value: Any) -> None:
        if (register := _register(name)) is not None:
            assert 0 <= value <= 0xFFFF
            self._registers[register] = value
        elif name.startswith('"edge_inspect".PLC.'):
            place(self._registers, 0, name.rpartition(".")[2], value)
        else:
            self._known(name.removesuffix(".PRE").removesuffix(".TimerEnable"))
            self.values[name] = value

    def _call(self, name: str, *words: Any, **settings: Any) -> None:
        if name == "TONR":
            (timer,) = words
            self._time(timer, self.values[f"{timer}.TimerEnable"], self.values[f"{timer}.PRE"])
        elif name in ("COP", "CPS"):
            self._copy(*words)
        else:
            self._known(name)
            self._time(name, settings["IN"], settings["PT"])

    def _time(self, timer: str, runs: bool, preset_ms: int) -> None:
        self.values[f"{timer} preset"] = preset_ms
        if not runs:
            self._timing.pop(timer, None)
        else:
            self._timing.setdefault(timer, self._now_ms())

    def _ran(self, timer: str) -> bool:
        started = self._timing.get(timer)
        return started is not None and self._now_ms() - started >= self.values[f"{timer} preset"]

    def _copy(self, source: str, target: str, count: int) -> None:
        """Bytes as they lie in a Logix controller: the low word of a DINT comes first."""
        if "[" not in source:
            values = [self._get(source) >> 16 & 0xFFFF, self._get(source) & 0xFFFF][::-1]
        else:
            values = [self._get(_element(source, n)) for n in range(count if "[" in target else 2)]
        if "[" not in target:
            self._put(target, values[0] | values[1] << 16)
            return
        for n, value in enumerate(values):
            self._put(_element(target, n), value)

    def _known(self, name: str) -> None:
        plain = name.partition("[")[0].removeprefix("#")
        assert plain in self.declared, f"{name} is not declared"


def _body(text: str) -> tuple[str, set[str]]:
    """Statements, and the names that are declared (in a Logix routine: in the comment at its head)."""
    if "END_VAR" not in text:
        return COMMENT.sub("", text), set(re.findall(r"\bEI_\w+", text.partition("*)")[0]))
    heads, _, rest = text.rpartition("END_VAR")
    declared = set(re.findall(r"^\s*(\w+) : [\w]+;", COMMENT.sub("", heads), re.M))
    rest = COMMENT.sub("", rest).replace("BEGIN", "").replace("END_FUNCTION_BLOCK", "")
    return rest, declared


def _compiled(body: str) -> CodeType:
    lines, depth = [], 0
    for statement in STATEMENT.findall(body):
        if statement.startswith("END_IF"):
            depth -= 1
            continue
        if statement == "ELSE":
            lines.append("    " * (depth - 1) + "else:")
            continue
        lines.append("    " * depth + _statement(statement))
        depth += statement.startswith("IF")
    assert depth == 0, "an IF without END_IF"
    return compile("\n".join(lines), "structured text", "exec")


def _statement(text: str) -> str:
    if text.startswith("IF"):
        return f"if {_expression(text[2:].rpartition('THEN')[0])}:"
    if call := re.fullmatch(r"(#?\w+)\((.*)\);", text, re.S):
        return f"call({call[1]!r}, {', '.join(_argument(call[1], a) for a in call[2].split(','))})"
    target, _, value = text.removesuffix(";").partition(":=")
    return f"put({target.strip()!r}, {_expression(value)})"


def _argument(name: str, text: str) -> str:
    if name in ("TONR", "COP", "CPS"):
        return text.strip() if text.strip().isdigit() else repr(text.strip())
    setting, _, value = text.partition(":=")
    if seconds := TIMES.fullmatch(value.strip()):
        return f"{setting.strip()}={int(seconds[1]) * 1000}"
    return f"{setting.strip()}={_expression(value)}"


def _expression(text: str) -> str:
    words, at = [], 0
    while at < len(text):
        token = TOKEN.match(text, at)
        assert token is not None, f"unknown: {text[at:]}"
        at = token.end()
        words.append(_word(token))
    return "".join(words).strip()


def _word(token: re.Match[str]) -> str:
    text = token.group()
    match token.lastgroup:
        case "name" if text in CONVERSIONS:
            return ""
        case "name":
            return WORDS.get(text) or f"get({text!r})"
        case "hex":
            return str(int(text[3:], 16))
        case "sign":
            return SIGNS.get(text, text)
        case _:
            return text


@cache
def _bit(name: str) -> tuple[str, int] | None:
    """A word and the number of its bit."""
    bit = re.fullmatch(r"(.+)\.(?:%X)?(\d+)", name)
    return (bit[1], int(bit[2])) if bit else None


@cache
def _register(name: str) -> int | None:
    """Where an element of the PLC's own arrays stands in the map."""
    element = re.fullmatch(r"(GVL\.mb_Output_Registers|EdgeInspect|EdgeInspect_Plc)\[(\d+)\]", name)
    if element is None:
        return None
    return int(element[2]) + STATION_START * (element[1] == "EdgeInspect")


@cache
def _element(name: str, further: int) -> str:
    array, _, index = name.removesuffix("]").partition("[")
    return f"{array}[{int(index) + further}]"
