"""The register map of the PLC link as data, and how values are laid out in it. Pure; knows no library.

Addresses are 0-based. The PLC writes 0..27, the station 100..149. A register is 16 bits, its bytes go high
first as Modbus prescribes; `word_order` says which register of a 32-bit value comes first ("big": the high
one). docs/outputs.md shows this table and a test keeps the two equal: addresses are never renumbered.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Literal

WordOrder = Literal["big", "little"]

PLC_START, PLC_COUNT = 0, 28
STATION_START, STATION_COUNT = 100, 50
API_VERSION = 1
TEST_U16, TEST_F32 = 0x1234, 1.0
U16_MAX, U32_MASK = 0xFFFF, 0xFFFFFFFF
F32_MAX = 3.4028234663852886e38  # stands for "no score": never taken for a good one, and no NaN
WORDS = {"u16": 1, "bits": 1, "u32": 2, "f32": 2, "ascii": 16}


class VerdictCode(IntEnum):
    """Register VERDICT. Only 1 lets a part through."""

    NONE = 0
    PASS = 1
    FAIL = 2
    NO_DECISION = 3
    BYPASS = 4


class VisionState(IntEnum):
    """Register STATE, as OPC 40100-1 counts them; OPERATIONAL stands above the four behind it."""

    PREOPERATIONAL = 1
    HALTED = 2
    ERROR = 3
    OPERATIONAL = 4
    INITIALIZED = 5
    READY = 6
    SINGLE_EXECUTION = 7
    CONTINUOUS_EXECUTION = 8

    @property
    def outer(self) -> "VisionState":
        """The state of the outer state machine."""
        return VisionState.OPERATIONAL if self > VisionState.OPERATIONAL else self


class Control(IntFlag):
    """Register CONTROL, written by the PLC."""

    ENABLE = 1 << 0
    TRIGGER = 1 << 1
    RESULT_ACK = 1 << 2
    CLEAR_ERROR = 1 << 3
    EXEC_COMMAND = 1 << 4
    BUFFER_RESULTS = 1 << 5
    REJECT_CONFIRMED = 1 << 6
    HEARTBEAT = 1 << 15


class Status(IntFlag):
    """Register STATUS. PASS and FAIL are never both 1; both 0 means: not decided, not a pass."""

    ONLINE = 1 << 0
    READY = 1 << 1
    TRIGGER_ACK = 1 << 2
    BUSY = 1 << 3
    RESULT_VALID = 1 << 4
    PASS = 1 << 5
    FAIL = 1 << 6
    MISSED_TRIGGER = 1 << 7
    RESULT_OVERRUN = 1 << 8
    ERROR = 1 << 9
    WARNING = 1 << 10
    COMMAND_BUSY = 1 << 11
    COMMAND_DONE = 1 << 12
    COMMAND_FAILED = 1 << 13
    RESULT_TOGGLE = 1 << 14
    HEARTBEAT = 1 << 15


RESULT_BITS = Status.RESULT_VALID | Status.PASS | Status.FAIL
KEPT_CONTROL = Control.BUFFER_RESULTS  # bits that nobody looks at yet


class GateBits(IntFlag):
    """Register GATE. REJECT and LET_THROUGH are never both 1; both 0: no part is at the gate."""

    REJECT = 1 << 0
    LET_THROUGH = 1 << 1
    LINE_STOP = 1 << 2


@dataclass(frozen=True, slots=True)
class Register:
    """One entry of the map; `live` False: the place is kept, it reads 0 (or is not looked at) for now."""

    address: int
    name: str
    type: str  # a key of WORDS
    meaning: str
    live: bool = True

    @property
    def words(self) -> int:
        """Registers it takes."""
        return WORDS[self.type]


PLC_REGISTERS = (
    Register(0, "CONTROL", "bits", "control bits"),
    Register(1, "TRIGGER_ID", "u32", "part id of the trigger; 0 is no part in handshake B"),
    Register(3, "COMMAND", "u16", "1 load recipe, 2 challenge, 3 reset counters, 4 set lot, 5 teach"),
    Register(4, "COMMAND_ARG", "u32", "argument of the command"),
    Register(6, "PLC_HEARTBEAT", "u16", "counts up while the PLC lives"),
    Register(7, "ENCODER", "u32", "encoder count of the belt"),
    Register(10, "PART_SERIAL", "ascii", "serial number of the part, 32 characters", False),
    Register(26, "RESULT_ACK_ID", "u32", "id of the result that the PLC has taken"),
)
STATION_REGISTERS = (
    Register(100, "STATUS", "bits", "status bits"),
    Register(101, "VERDICT", "u16", "0 none, 1 pass, 2 fail, 3 no decision (treat as fail), 4 bypass"),
    Register(102, "RESULT_ID", "u32", "part id of this result (frame number where the part has none)"),
    Register(104, "SEQUENCE", "u16", "changes with every result: 1..65535, then 1 again; 0 = none yet"),
    Register(105, "REASON", "u16", "reason code of this result (docs/errors.md)"),
    Register(106, "SCORE", "u16", "score x 10000, held at 0 and 65535; 65535 where there is none"),
    Register(107, "THRESHOLD", "u16", "pass limit x 10000, held at 0 and 65535"),
    Register(108, "CYCLE_MS", "u16", "ms from picture to decision"),
    Register(109, "RECIPE_NUMBER", "u16", "recipe used for this result"),
    Register(110, "RECIPE_ACTIVE", "u16", "recipe loaded now"),
    Register(111, "ERROR_CODE", "u16", "reason code of the fault, 0 = none"),
    Register(112, "WARNING_CODE", "u16", "reason code of the warning, 0 = none"),
    Register(113, "QUEUE_FREE", "u16", "free places in the result queue"),
    Register(114, "MODEL_CHECKSUM16", "u16", "changes when model or settings change"),
    Register(
        115, "STATE", "u16", "1 offline, 2 halted, 3 error, 5 not ready, 6 ready, 7 judges, 8 runs by itself"
    ),
    Register(116, "HEARTBEAT", "u16", "counts up about four times a second while the station inspects"),
    Register(117, "API_VERSION", "u16", "version of this map: 1"),
    Register(118, "TEST_U16", "u16", "always 0x1234 (4660): addressing and byte order are right"),
    Register(120, "COUNT_TOTAL", "u32", "results published since start"),
    Register(122, "COUNT_PASS", "u32", "of these: pass"),
    Register(124, "COUNT_FAIL", "u32", "of these: fail"),
    Register(126, "COUNT_NO_DECISION", "u32", "of these: no decision"),
    Register(128, "COUNT_MISSED", "u32", "triggers while not READY"),
    Register(130, "COUNT_OVERRUN", "u32", "times the result queue was full"),
    Register(132, "SCORE_F32", "f32", "score; 3.4e38 where there is none"),
    Register(134, "TEST_F32", "f32", "always 1.0: word order is right"),
    Register(136, "GATE", "bits", "what the reject gate has to do now"),
    Register(140, "BOX_X", "u16", "defect box, left edge", False),
    Register(141, "BOX_Y", "u16", "defect box, upper edge", False),
    Register(142, "BOX_W", "u16", "defect box, width", False),
    Register(143, "BOX_H", "u16", "defect box, height", False),
    Register(144, "BOX_AREA", "u16", "defect area", False),
)
BY_NAME = {register.name: register for register in (*PLC_REGISTERS, *STATION_REGISTERS)}


def encode(values: Mapping[str, float], word_order: WordOrder = "big") -> list[int]:
    """Lay values out in the station's block; what is not named is 0."""
    block = [0] * STATION_COUNT
    for name, value in values.items():
        place(block, STATION_START, name, value, word_order)
    return block


def place(block: list[int], start: int, name: str, value: float, word_order: WordOrder = "big") -> None:
    """Write one value into a block that begins at register `start`."""
    register = BY_NAME[name]
    at = register.address - start
    block[at : at + register.words] = _to_words(register.type, value, word_order)


def decode(name: str, block: Sequence[int], word_order: WordOrder = "big") -> float:
    """Read one register of its block: the station's (50 values from 100 on) or the PLC's (28 from 0 on)."""
    register = BY_NAME[name]
    at = register.address - (STATION_START if register.address >= STATION_START else PLC_START)
    words = block[at : at + register.words]
    high_first = words if word_order == "big" else words[::-1]
    raw = b"".join(word.to_bytes(2, "big") for word in high_first)
    return float(struct.unpack(">f", raw)[0]) if register.type == "f32" else int.from_bytes(raw, "big")


def _to_words(kind: str, value: float, word_order: WordOrder) -> list[int]:
    if kind in ("u16", "bits"):
        return [_u16(value)]
    if kind == "f32":
        raw = struct.pack(">f", F32_MAX if math.isnan(value) else max(-F32_MAX, min(F32_MAX, value)))
    else:
        raw = (int(value) & U32_MASK).to_bytes(4, "big")
    high, low = struct.unpack(">HH", raw)
    return [high, low] if word_order == "big" else [low, high]


def _u16(value: float) -> int:
    """Held at 0 and 65535; what is not a number reads as the worst score."""
    if math.isnan(value):
        return U16_MAX
    return round(max(0.0, min(float(U16_MAX), value)))
