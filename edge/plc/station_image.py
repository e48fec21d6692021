"""What the station shows to the outside at this moment: the state behind every PLC output.

One image lives as long as the station and is handed from one connection to the next, so that SEQUENCE and
the counters go on after an outage. A handshake decides what it shows; a link sees to it that one thread at
a time does.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from edge.plc.registers import (
    API_VERSION,
    F32_MAX,
    TEST_F32,
    TEST_U16,
    U16_MAX,
    U32_MASK,
    GateBits,
    Status,
    VerdictCode,
    WordOrder,
    encode,
)
from edge.verdict import Outcome, Reason, Verdict


@dataclass(frozen=True, slots=True)
class Counters:
    """What was published since start; wraps at 2**32 in the registers."""

    total: int = 0
    passed: int = 0
    failed: int = 0
    no_decision: int = 0

    def counting(self, code: VerdictCode) -> Self:
        """The counters after one more result."""
        return replace(
            self,
            total=self.total + 1,
            passed=self.passed + (code is VerdictCode.PASS),
            failed=self.failed + (code is VerdictCode.FAIL),
            no_decision=self.no_decision + (code is VerdictCode.NO_DECISION),
        )


@dataclass(frozen=True, slots=True)
class LineState:
    """What a handshake shows beside the result; in free run little of it is not 0."""

    bits: int = 0  # of STATUS
    queue_free: int = 0
    missed: int = 0
    overrun: int = 0
    warning: int = 0  # reason code
    fault: int = 0  # reason code of what stops the line
    state: int = 0  # of VisionState


NO_LINE = LineState()


def verdict_code(verdict: Verdict | None) -> VerdictCode:
    """Pass and fail only where the part was judged; everything else that exists is "no decision"."""
    if verdict is None:
        return VerdictCode.NONE
    if verdict.outcome is Outcome.PASS:
        return VerdictCode.PASS
    judged_bad = verdict.outcome is Outcome.FAIL and verdict.reason is Reason.ANOMALY
    return VerdictCode.FAIL if judged_bad else VerdictCode.NO_DECISION


def result_id(verdict: Verdict) -> int:
    """The part's id, or the frame's where the part has none; u32."""
    return (verdict.frame_id if verdict.part_id is None else verdict.part_id) & U32_MASK


def next_sequence(sequence: int) -> int:
    """1..65535 and round again; 0 is left for "none yet"."""
    return sequence % U16_MAX + 1


def status_bits(verdict: Verdict | None, toggle: bool, heartbeat: int, online: bool, fault: int) -> Status:
    """The STATUS register but for the handshake's bits. `fault` is the station's own reason code."""
    code = verdict_code(verdict)
    reason = verdict.reason if verdict else None
    bits = {
        Status.ONLINE: online,
        Status.RESULT_VALID: verdict is not None,
        Status.PASS: code is VerdictCode.PASS,
        Status.FAIL: code is VerdictCode.FAIL,
        Status.ERROR: bool(fault) or (reason is not None and reason.is_fault),
        Status.WARNING: reason is Reason.BORDERLINE,
        Status.RESULT_TOGGLE: toggle,
        Status.HEARTBEAT: heartbeat & 1,
    }
    return Status(sum(bit for bit, on in bits.items() if on))


def result_block(
    verdict: Verdict | None,
    counters: Counters,
    sequence: int,
    heartbeat: int,
    *,
    online: bool = True,
    toggle: bool = False,
    fault: int = 0,
    line: LineState = NO_LINE,
    recipe_number: int = 1,
    gate: int = 0,
    word_order: WordOrder = "big",
) -> list[int]:
    """Registers 100..149 (50 values). Without a verdict every register of the result but SEQUENCE is 0."""
    values: dict[str, float] = {
        "STATUS": status_bits(verdict, toggle, heartbeat, online, fault) | line.bits,
        "VERDICT": verdict_code(verdict),
        "SEQUENCE": sequence,
        "RECIPE_ACTIVE": recipe_number,
        "ERROR_CODE": fault or line.fault,
        "WARNING_CODE": line.warning,
        "QUEUE_FREE": line.queue_free,
        "STATE": line.state,
        "HEARTBEAT": heartbeat & U16_MAX,
        "API_VERSION": API_VERSION,
        "TEST_U16": TEST_U16,
        "TEST_F32": TEST_F32,
        "COUNT_TOTAL": counters.total,
        "COUNT_PASS": counters.passed,
        "COUNT_FAIL": counters.failed,
        "COUNT_NO_DECISION": counters.no_decision,
        "COUNT_MISSED": line.missed,
        "COUNT_OVERRUN": line.overrun,
        "GATE": gate,
    }
    if verdict is not None:
        values |= _result_values(verdict, fault or line.fault, line.warning, recipe_number)
    return encode(values, word_order)


def _result_values(verdict: Verdict, fault: int, warning: int, recipe_number: int) -> dict[str, float]:
    score = verdict.score if verdict.score is not None and math.isfinite(verdict.score) else F32_MAX
    own_fault = int(verdict.reason) if verdict.reason.is_fault else 0
    return {
        "RESULT_ID": result_id(verdict),
        "REASON": verdict.reason,
        "SCORE": score * 10_000,
        "THRESHOLD": verdict.threshold * 10_000,
        "CYCLE_MS": verdict.total_ms,
        "RECIPE_NUMBER": verdict.recipe_number or recipe_number,
        "ERROR_CODE": fault or own_fault,
        "WARNING_CODE": warning or (verdict.reason if verdict.reason is Reason.BORDERLINE else 0),
        "MODEL_CHECKSUM16": checksum16(verdict.recipe),
        "SCORE_F32": score,
    }


def checksum16(recipe: str) -> int:
    """The first 16 bits of the digest in "name@digest"; 0 where there is none."""
    try:
        return int(recipe.rpartition("@")[2][:4], 16)
    except ValueError:
        return 0


class StationImage:
    """The verdict that is valid now, or none; the counters; whether the station is alive."""

    def __init__(self, recipe_number: int = 1) -> None:
        self.recipe_number = recipe_number  # the one that judges the next part
        self.gate = GateBits(0)
        self.verdict: Verdict | None = None
        self.counters = Counters()
        self.sequence = 0
        self.toggle = False
        self.heartbeat = 0
        self.online = False
        self.fault = 0  # reason code of the station itself, beside the verdict's own
        self._counted: int | None = None

    def publish(self, verdict: Verdict) -> None:
        """Make it the valid one. A verdict that is sent again after a broken link keeps its sequence."""
        if verdict.frame_id != self._counted:
            self.sequence = next_sequence(self.sequence)
            self.toggle = not self.toggle
            self.counters = self.counters.counting(verdict_code(verdict))
            self._counted = verdict.frame_id
        self.verdict, self.online, self.fault = verdict, True, 0

    def beat(self, counter: int, healthy: bool) -> None:
        """A stalled station stops counting and takes its verdict back: it cannot vouch for the next part."""
        if healthy:
            self.heartbeat, self.online, self.fault = counter, True, 0
        else:
            self.withdraw()
            self.fault = int(Reason.STATION_FAULT)

    def clear_result(self) -> None:
        """No verdict; the station stays online."""
        self.verdict = None

    def reset_counters(self) -> None:
        """From 0 again; SEQUENCE and RESULT_TOGGLE go on, because only a new result may change them."""
        self.counters = Counters()

    def withdraw(self) -> None:
        """No verdict, not online. SEQUENCE stays, because only a new result may change it."""
        self.verdict, self.online, self.fault = None, False, 0

    def block(self, word_order: WordOrder = "big", line: LineState = NO_LINE) -> list[int]:
        """Registers 100..149; `line` is what the handshake adds."""
        return result_block(
            self.verdict, self.counters, self.sequence, self.heartbeat,
            online=self.online, toggle=self.toggle, fault=self.fault,
            line=line, recipe_number=self.recipe_number, gate=self.gate, word_order=word_order,
        )  # fmt: skip
