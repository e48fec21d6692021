"""What stops a line until somebody sets CLEAR_ERROR, in the words of docs/errors.md. Pure.

A station that stops the line does what it is there for: told, and no mistake of its own.
"""

from collections.abc import Sequence

from edge.plc.registers import GateBits, Status, WordOrder, decode
from edge.verdict import Reason

WHY = {
    Reason.CHALLENGE_FAILED: "master pictures were not judged as they must be",
    Reason.GATE_NOT_CONFIRMED: "a rejected part was not seen leaving",
    Reason.GATE_PASSED_UNSEEN: "a part to reject went by between two looks",
    Reason.GATE_POSITION_LOST: "the encoder fell back",
    Reason.REJECTS_IN_A_ROW: "too many rejects",
}


def stop_code(block: Sequence[int], word_order: WordOrder = "big") -> int:
    """ERROR_CODE of registers 100..149 while the line has to stop, else 0: a part's own fault stops none."""
    code = int(decode("ERROR_CODE", block, word_order))
    stops = int(decode("GATE", block, word_order)) & GateBits.LINE_STOP or code == Reason.CHALLENGE_FAILED
    return code if stops and block[0] & Status.ERROR else 0


def stop_words(code: int) -> str:
    """For a person: why, and what takes it back."""
    reason = Reason(code) if code in tuple(Reason) else None
    name = f" {reason.name}" if reason else ""
    why = f", {WHY[reason]}" if reason in WHY else ""
    back = "CLEAR_ERROR takes it back (over the register block: the next plc-sim with --command clear)"
    return f"the station has stopped the line: ERROR_CODE {code}{name}{why}; {back}"
