"""Both handshakes step by step: what the PLC writes, what the station does, what stands in the block then."""

import pytest
from linebench import BUDGET_MS, Bench, judged

from edge.plc.commands import Command
from edge.plc.handshake import PLC_SILENT_NS, QUEUE, Mode
from edge.plc.line_events import Happened
from edge.plc.program import PlcProgram
from edge.plc.registers import Control, Status, decode
from edge.trigger import Request
from edge.verdict import Outcome, Reason

ENABLE, TRIGGER, ACK, EXEC = Control.ENABLE, Control.TRIGGER, Control.RESULT_ACK, Control.EXEC_COMMAND
LETTERS = {
    "r": Status.READY, "t": Status.TRIGGER_ACK, "b": Status.BUSY, "V": Status.RESULT_VALID, "P": Status.PASS,
    "F": Status.FAIL, "m": Status.MISSED_TRIGGER, "o": Status.RESULT_OVERRUN, "w": Status.WARNING,
    "E": Status.ERROR,
}  # fmt: skip


def letters(bench: Bench) -> str:
    return "".join(letter for letter, bit in LETTERS.items() if bench.status & bit)


def value(bench: Bench, name: str) -> int:
    return int(decode(name, bench.hand.block()))


@pytest.fixture
def bits() -> Bench:
    bench = Bench(Mode.BITS)
    bench.write(on=ENABLE)
    return bench


@pytest.fixture
def ids() -> Bench:
    bench = Bench(Mode.IDS)
    bench.write(on=ENABLE)
    return bench


STEPS = {
    "one part": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("judge PASS", "rVP"), ("on RESULT_ACK", "r"),
        ("off RESULT_ACK", "r"),
    ],
    "the verdict comes while TRIGGER still stands": [
        ("on TRIGGER 7", "tb"), ("judge FAIL", "tVF"), ("off TRIGGER", "rVF"), ("on RESULT_ACK", "r"),
    ],
    "a borderline part sets neither bit": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("judge REVIEW", "rVw"),
    ],
    "a second trigger while busy is flagged until it is cleared": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("on TRIGGER 8", "bm"), ("judge PASS", "VPm"),
        ("off TRIGGER", "rVPm"), ("on CLEAR_ERROR", "rVP"),
    ],
    "the next result waits until the acknowledge is taken back": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("judge PASS", "rVP"), ("on TRIGGER 8", "tbVP"),
        ("off TRIGGER", "bVP"), ("judge FAIL", "rVP"), ("on RESULT_ACK", "r"), ("off RESULT_ACK", "rVF"),
    ],
    "an acknowledge that stands before the result takes nothing": [
        ("on RESULT_ACK", "r"), ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("judge PASS", "r"),
        ("off RESULT_ACK", "rVP"),
    ],
    "without ENABLE nothing is triggered": [
        ("off ENABLE", ""), ("on TRIGGER 7", "m"), ("off TRIGGER", "m"), ("on ENABLE", "rm"),
    ],
    "a trigger that stands when ENABLE comes is where it starts from": [
        ("off ENABLE", ""), ("on ENABLE|TRIGGER 7", ""), ("off TRIGGER", "r"), ("on TRIGGER 7", "tb"),
    ],
    "a stalled station takes everything back": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("judge PASS", "rVP"), ("stall", "E"), ("beat", "r"),
    ],
    "a stalled station forgets the trigger": [
        ("on TRIGGER 7", "tb"), ("stall", "E"), ("beat", ""), ("off TRIGGER", "r"), ("judge PASS", "r"),
    ],
    "no verdict in time is no decision": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("wait", "rVE"), ("judge PASS", "rVE"),
    ],
    "the connection comes back": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("judge PASS", "rVP"), ("reconnect", ""), ("beat", ""),
        ("same", "r"),
    ],
    "the PLC hangs up and comes back with the bits of before": [
        ("on TRIGGER 7", "tb"), ("off TRIGGER", "b"), ("judge PASS", "rVP"), ("on TRIGGER 8", "tbVP"),
        ("hang up", ""), ("judge FAIL", ""), ("same", ""), ("off TRIGGER", "r"), ("on TRIGGER 9", "tb"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
def test_handshake_a(bits: Bench, steps: list[tuple[str, str]]) -> None:
    for step, expected in steps:
        do(bits, step)
        assert letters(bits) == expected, step


def do(bench: Bench, step: str) -> None:
    """`on TRIGGER 7`: the PLC sets the bit, with TRIGGER_ID 7; `judge PASS`: the station answers; ..."""
    match step.split():
        case ["on", names, *part]:
            changed = {"trigger_id": int(part[0])} if part else {}
            bench.write(on=control(names), **changed)
        case ["off", names]:
            bench.write(off=control(names))
        case ["judge", outcome]:
            bench.judge(Outcome[outcome])
        case ["stall"]:
            bench.beat(healthy=False)
        case ["beat"]:
            bench.beat()
        case ["wait"]:
            bench.wait(BUDGET_MS + 1)
        case ["reconnect"]:
            bench.reconnect()
        case ["hang", "up"]:
            bench.hang_up()
        case _:
            bench.write()


def control(names: str) -> Control:
    return Control(sum(Control[name] for name in names.split("|")))


def test_verdict_id_sequence_and_reason_stand_in_one_block(bits: Bench) -> None:
    bits.write(on=TRIGGER, trigger_id=70_001)
    bits.write(off=TRIGGER)
    bits.judge(Outcome.FAIL)
    names = ("VERDICT", "RESULT_ID", "SEQUENCE", "REASON", "QUEUE_FREE")
    assert [value(bits, name) for name in names] == [2, 70_001, 1, Reason.ANOMALY, QUEUE - 1]
    bits.write(on=ACK)
    assert [value(bits, name) for name in names] == [0, 0, 1, 0, QUEUE]


def test_the_queue_fills_up_and_keeps_ready_low_until_the_plc_takes_one(bits: Bench) -> None:
    """Nothing is dropped: a PLC that does not acknowledge triggers no more and gets all it asked for."""
    for part in range(1, QUEUE + 1):
        assert letters(bits)[:1] == "r"
        bits.write(on=TRIGGER, trigger_id=part)
        bits.write(off=TRIGGER)
        bits.judge(Outcome.PASS if part % 2 else Outcome.FAIL)
    assert letters(bits) == "VPo" and value(bits, "COUNT_OVERRUN") == 1 and value(bits, "QUEUE_FREE") == 0
    bits.write(on=TRIGGER, trigger_id=99)
    bits.write(off=TRIGGER)
    assert letters(bits) == "VPmo" and value(bits, "COUNT_MISSED") == 1
    seen = []
    while bits.status & Status.RESULT_VALID:
        seen.append((value(bits, "RESULT_ID"), value(bits, "VERDICT"), value(bits, "SEQUENCE")))
        bits.write(on=ACK)
        bits.write(off=ACK)
    assert seen == [(part, 1 if part % 2 else 2, part) for part in range(1, QUEUE + 1)]
    assert letters(bits) == "rm"


def test_a_late_verdict_is_told_and_never_shown(bits: Bench) -> None:
    """The story: part 5 timed out, came again as part 5, and the first one's late PASS was taken for it."""
    bits.write(on=TRIGGER, trigger_id=5)
    bits.write(off=TRIGGER)
    late = judged(bits.asked.popleft(), Outcome.PASS)
    bits.wait(BUDGET_MS + 1)
    assert (value(bits, "VERDICT"), value(bits, "RESULT_ID")) == (3, 5)
    assert value(bits, "REASON") == Reason.DEADLINE_MISSED
    bits.write(on=ACK)
    bits.write(off=ACK)
    bits.write(on=TRIGGER, trigger_id=5)
    bits.publish(late)
    assert letters(bits) == "tb"
    assert [event.verdict for event in bits.told(Happened.LATE)] == [late]
    bits.judge(Outcome.FAIL)
    assert (value(bits, "VERDICT"), value(bits, "RESULT_ID")) == (2, 5)


def test_a_verdict_that_nobody_asked_for_is_not_shown(bits: Bench) -> None:
    bits.publish(judged(Request(None, None, 0)))
    assert letters(bits) == "r" and len(bits.told(Happened.LATE)) == 1


def test_a_silent_plc_loses_ready_and_its_results(bits: Bench) -> None:
    bits.write(heartbeat=1)
    bits.write(on=TRIGGER, trigger_id=7)
    bits.write(off=TRIGGER)
    bits.judge(Outcome.PASS)
    bits.wait(PLC_SILENT_NS // 1_000_000)
    assert letters(bits) == "rVP"
    bits.wait(1)
    assert letters(bits) == "w" and value(bits, "WARNING_CODE") == Reason.OUTPUT_LOST
    bits.write()
    assert letters(bits) == "w", "a write without a beat is no life"
    bits.write(on=TRIGGER, heartbeat=2)
    assert letters(bits) == "", "a trigger that stands when it comes back is where it starts from"
    bits.write(off=TRIGGER)
    assert letters(bits) == "r" and value(bits, "WARNING_CODE") == 0
    assert [e.what for e in bits.events if e.what in (Happened.PLC_LOST, Happened.PLC_BACK)] == [
        Happened.PLC_LOST, Happened.PLC_BACK,
    ]  # fmt: skip


def test_the_heartbeat_bit_is_as_good_as_the_counter(bits: Bench) -> None:
    bits.write(on=Control.HEARTBEAT)
    bits.wait(2000)
    bits.write(off=Control.HEARTBEAT)
    bits.wait(2000)
    assert letters(bits) == "r"


def test_a_plc_that_never_beats_is_not_watched(bits: Bench) -> None:
    bits.wait(3_600_000)
    assert letters(bits) == "r"


def test_handshake_b(ids: Bench) -> None:
    ids.write(trigger_id=7)
    assert letters(ids) == "tb"
    ids.write()
    assert len(ids.asked) == 1, "the same id again is no new part"
    ids.judge(Outcome.PASS)
    assert letters(ids) == "rtVP" and value(ids, "RESULT_ID") == 7
    ids.write(trigger_id=8)
    ids.judge(Outcome.FAIL)
    ids.write(result_ack_id=99)
    assert value(ids, "RESULT_ID") == 7, "an acknowledge of another part takes nothing"
    ids.write(result_ack_id=7)
    assert (letters(ids), value(ids, "RESULT_ID")) == ("rtVF", 8)
    ids.write(result_ack_id=8)
    assert (letters(ids), value(ids, "VERDICT")) == ("rt", 0)


def test_in_b_ids_that_stand_at_enable_or_are_0_trigger_nothing() -> None:
    bench = Bench(Mode.IDS)
    bench.write(trigger_id=41)
    assert letters(bench) == "m", "READY was 0"
    bench.write(on=ENABLE, trigger_id=42)
    bench.write(trigger_id=0)
    assert letters(bench) == "rm" and not bench.asked
    bench.write(trigger_id=42)
    assert [request.part_id for request in bench.asked] == [42]


@pytest.mark.parametrize("taken", [False, True])
def test_in_b_a_part_that_has_its_result_is_not_inspected_again(ids: Bench, taken: bool) -> None:
    """The story: a trigger bounced; bad part 7 had gone, the good one behind it was judged as 7: a pass."""
    ids.write(trigger_id=7)
    ids.judge(Outcome.FAIL)
    if taken:
        ids.write(result_ack_id=7)
    ids.write(trigger_id=0)
    ids.write(trigger_id=7)
    assert not ids.asked and value(ids, "COUNT_MISSED") == 1
    ids.write(trigger_id=9)
    assert [request.part_id for request in ids.asked] == [9]


@pytest.mark.parametrize("mode", [Mode.BITS, Mode.IDS])
@pytest.mark.parametrize("queued", [False, True])
def test_a_plc_program_that_starts_again_finds_no_verdict_of_before(mode: Mode, queued: bool) -> None:
    """The story: a PLC's program was loaded anew while good part 1 stood judged, the connection stayed. It
    counted its parts from 1 again, and took the old pass for the part that lay under the camera now.
    """
    bench = Bench(mode)
    bench.write(on=ENABLE)
    for part in (1, 2) if queued else (1,):
        bench.write(on=Control.TRIGGER, trigger_id=part)
        bench.write(off=Control.TRIGGER)
        bench.judge(Outcome.PASS)
    assert "VP" in letters(bench)
    bench.write(off=ENABLE, trigger_id=0)
    assert "VP" in letters(bench), "a PLC that wants no further parts may still take the last results"
    bench.write(on=ENABLE)
    assert (value(bench, "VERDICT"), value(bench, "RESULT_ID"), value(bench, "QUEUE_FREE")) == (0, 0, 8)
    bench.write(on=Control.TRIGGER, trigger_id=1)
    assert value(bench, "VERDICT") == 0 and len(bench.asked) == 1


def test_in_free_run_every_verdict_is_shown_and_the_plcs_bits_are_not_looked_at() -> None:
    bench = Bench(Mode.FREE_RUN)
    bench.write(on=ENABLE | TRIGGER | EXEC, trigger_id=7, command=Command.RESET_COUNTERS)
    assert letters(bench) == "" and not bench.asked
    for number, outcome in enumerate((Outcome.PASS, Outcome.FAIL), 1):
        bench.publish(judged(Request(number, number, 0), outcome))
        assert (value(bench, "RESULT_ID"), value(bench, "SEQUENCE")) == (number, number)
    assert letters(bench) == "VF" and value(bench, "QUEUE_FREE") == 0
    assert bench.hand.acknowledge(2, 0) and not bench.hand.acknowledge(1, 0)
    assert not bench.hand.trigger(5, 0)


# Commands


def command_bits(bench: Bench) -> str:
    bits = {"b": Status.COMMAND_BUSY, "d": Status.COMMAND_DONE, "f": Status.COMMAND_FAILED}
    return "".join(letter for letter, bit in bits.items() if bench.status & bit)


@pytest.mark.parametrize("ok", [True, False])
def test_a_command_is_busy_then_done_or_failed_until_exec_is_taken_back(bits: Bench, ok: bool) -> None:
    bits.write(on=EXEC, command=Command.LOAD_RECIPE, command_arg=70_000)
    assert command_bits(bits) == "b" and letters(bits) == "r", "the old engine inspects on"
    order = bits.told(Happened.ORDERED)[0].order
    assert order is not None and (order.command, order.argument) == (Command.LOAD_RECIPE, 70_000)
    bits.hand.end_command(order, ok, 0)
    assert command_bits(bits) == ("d" if ok else "f")
    bits.write(off=EXEC)
    assert command_bits(bits) == ""
    bits.hand.end_command(order, not ok, 0)
    assert command_bits(bits) == "", "it has ended already"


def test_the_end_of_a_long_command_stands_until_the_next_one(bits: Bench) -> None:
    bits.write(on=EXEC, command=Command.SET_LOT, command_arg=5)
    bits.write(off=EXEC)
    bits.write(on=EXEC, command=Command.CHALLENGE)
    (event,) = bits.told(Happened.ORDERED)
    assert command_bits(bits) == "b" and event.order is not None, "one at a time"
    bits.hand.end_command(event.order, True, 0)
    assert command_bits(bits) == "d"
    bits.write(off=EXEC)
    bits.write(on=EXEC)
    assert command_bits(bits) == "b" and letters(bits) == "", "no part is judged during a challenge"


def test_a_challenge_that_is_passed_takes_back_its_own_failure_alone(bits: Bench) -> None:
    """The story: the gate had stopped the line. A challenge failed, a second one was passed, and READY was
    back though nobody had looked at the gate; a warning was gone, too."""
    bits.hand.stop(Reason.GATE_NOT_CONFIRMED)
    bits.hand.warn(Reason.GATE_NO_VERDICT)
    for say in (bits.hand.stop, bits.hand.warn):
        say(Reason.CHALLENGE_FAILED)
    assert (value(bits, "ERROR_CODE"), value(bits, "WARNING_CODE")) == (42, 42)
    bits.hand.proven()
    assert (value(bits, "ERROR_CODE"), value(bits, "WARNING_CODE")) == (71, 70)
    assert not bits.hand.ready
    bits.write(on=Control.CLEAR_ERROR)
    assert (value(bits, "ERROR_CODE"), value(bits, "WARNING_CODE"), bits.hand.ready) == (0, 0, True)


def test_an_unknown_command_fails_at_once(bits: Bench) -> None:
    bits.write(on=EXEC, command=77)
    assert command_bits(bits) == "f" and not bits.told(Happened.ORDERED)


def test_reset_counters(bits: Bench) -> None:
    bits.write(on=TRIGGER, trigger_id=1)
    bits.write(off=TRIGGER)
    bits.write(on=TRIGGER, trigger_id=2)
    bits.judge()
    toggle = bits.status & Status.RESULT_TOGGLE
    bits.write(on=EXEC, command=Command.RESET_COUNTERS)
    assert command_bits(bits) == "d"
    assert [value(bits, n) for n in ("COUNT_TOTAL", "COUNT_PASS", "COUNT_MISSED", "SEQUENCE")] == [0, 0, 0, 1]
    assert bits.status & Status.RESULT_TOGGLE == toggle, "only a new result flips it"


@pytest.mark.parametrize("mode", [Mode.BITS, Mode.IDS])
def test_the_documented_plc_program_gets_every_part(mode: Mode) -> None:
    bench, program = Bench(mode), PlcProgram(mode)
    for part in range(1, 31):
        program.part_arrives(part)
    for cycle in range(300):
        bench.scan(program)
        if cycle % 3 == 0 and bench.asked:
            bench.judge(Outcome.PASS if bench.asked[0].part_id % 3 else Outcome.FAIL)  # type: ignore[operator]
    assert program.taken == [(part, 1 if part % 3 else 2, part) for part in range(1, 31)]
    assert program.rejected == [] and bench.hand.missed == 0
