"""What plc-sim finds wrong with a station: every mistake once, and nothing with one that is right."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linebench import Bench
from rich.console import Console

from edge.plc.dialects import DIALECTS
from edge.plc.handshake import Mode
from edge.plc.line_protocol import OwnLanguage, checksum
from edge.plc.program import PlcProgram
from edge.plc.registers import PLC_COUNT, STATION_START, Control, GateBits, Status, VerdictCode, place
from edge.plc.timing_chart import record, sample
from edge.plcsim import Complaint, Mistake, Scan, Taken
from edge.plcsim.blocks import BlockPlc
from edge.plcsim.judge import BlockJudge
from edge.plcsim.phrases import phrases_of
from edge.plcsim.screen import Screen
from edge.plcsim.stops import WHY
from edge.plcsim.tally import Tally
from edge.verdict import Outcome, Reason

DOCS = (Path(__file__).parents[1] / "docs" / "plc-sim.md").read_text("utf-8")
ERRORS = (Path(__file__).parents[1] / "docs" / "errors.md").read_text("utf-8")
IDLE = [0] * PLC_COUNT
MS = 1_000_000


def shown(**values: int) -> list[int]:
    """A block of a healthy station, with what is given instead."""
    block = Bench(Mode.BITS).hand.block()
    for name, value in values.items():
        place(block, STATION_START, name, value)
    return block


READY = Status.ONLINE | Status.READY
GOOD = {"STATUS": READY | Status.RESULT_VALID | Status.PASS, "VERDICT": 1, "RESULT_ID": 7, "SEQUENCE": 1}


def judged(
    *blocks: Sequence[int], mode: Mode = Mode.BITS, plc: Sequence[int] = IDLE, every_ms: int = 10
) -> list[Mistake]:
    """What is told of these blocks, one after the other; part 7 waits for a result."""
    judge, found = BlockJudge(mode), list[Complaint]()
    for n, block in enumerate(blocks):
        found += judge.look(block, plc, (7,), n * every_ms * MS)
    return [each.what for each in found]


def with_bits(bits: Control) -> list[int]:
    return [int(bits), *IDLE[1:]]


START, START_1 = shown(STATUS=READY), shown(STATUS=READY, SEQUENCE=1)
BAD = {"STATUS": READY | Status.RESULT_VALID | Status.FAIL, "VERDICT": 2}
WRONG = {
    "another part": (Mistake.OTHER_PART, START, shown(**GOOD | {"RESULT_ID": 6})),
    "valid, verdict missing": (
        Mistake.EARLY, START, shown(**GOOD | {"STATUS": READY | Status.RESULT_VALID, "VERDICT": 0}),
    ),
    "valid, old sequence": (Mistake.EARLY, START_1, shown(**GOOD)),
    "verdict turns": (
        Mistake.CHANGED, START, shown(**GOOD | BAD), shown(**GOOD),
    ),
    "a result was missed": (Mistake.SKIPPED, START_1, shown(**GOOD | {"SEQUENCE": 3})),
    "pass bit of a fail": (Mistake.CONTRADICTION, START, shown(**GOOD | {"VERDICT": 2})),
    "both bits": (Mistake.CONTRADICTION, START, shown(**GOOD | {"STATUS": GOOD["STATUS"] | Status.FAIL})),
    "pass bit beside no result": (Mistake.CONTRADICTION, START, shown(STATUS=READY | Status.PASS)),
    "pass with a fault": (Mistake.CONTRADICTION, START, shown(**GOOD | {"REASON": 11})),
    "verdict 7": (Mistake.CONTRADICTION, START, shown(STATUS=READY, VERDICT=7)),
    "ready offline": (Mistake.READY_OFFLINE, START, shown(STATUS=Status.READY)),
    "bytes swapped": (Mistake.LAYOUT, shown(TEST_U16=0x3412)),
    "addresses off": (Mistake.LAYOUT, [*START[1:], 0]),
    "words swapped": (Mistake.LAYOUT, shown(TEST_F32=0)),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_told_once(case: str) -> None:
    what, *blocks = WRONG[case]
    found = judged(*blocks, blocks[-1], blocks[-1])
    assert found.count(what) == 1, found


def test_the_right_block_is_no_mistake() -> None:
    assert judged(START, shown(**GOOD), shown(**GOOD), shown(STATUS=READY, SEQUENCE=1)) == []
    assert judged(IDLE_STATION, IDLE_STATION) == [], "it has not written anything yet"


IDLE_STATION = [0] * 50


def test_what_must_not_last_is_told_when_it_lasts() -> None:
    valid = [START, *[shown(**GOOD)] * 150]
    ack = with_bits(Control.RESULT_ACK)
    assert judged(*valid, plc=ack) == [Mistake.NOT_CLEARED], "1.5 s after the acknowledge"
    assert judged(*valid[:90], plc=ack) == []
    trigger = with_bits(Control.TRIGGER)
    assert judged(*[START] * 150, plc=trigger) == [Mistake.NO_TRIGGER_ACK]
    ids = list(IDLE)
    place(ids, 0, "TRIGGER_ID", 7)
    assert judged(*[START] * 150, plc=ids, mode=Mode.IDS) == [Mistake.NO_TRIGGER_ACK]
    free = [shown(STATUS=Status.ONLINE, HEARTBEAT=n // 100) for n in range(600)]
    assert judged(*free, plc=with_bits(Control.ENABLE)) == [Mistake.NOT_READY], "it runs free"
    assert judged(*free) == []
    assert judged(*[START] * 290) == []
    assert judged(*[START] * 900) == [Mistake.NO_HEARTBEAT], "once for each standstill"
    assert judged(*[START] * 9, every_ms=1500) == [], "that was we ourselves who stood still"
    beats = [shown(STATUS=READY, HEARTBEAT=n // 400) for n in range(900)]
    assert judged(*beats) == [Mistake.NO_HEARTBEAT] * 2


def test_a_station_that_has_stopped_the_line_is_not_at_fault_for_taking_no_part() -> None:
    """The story: the gate had stopped the line, and plc-sim asked whether the handshakes were the same."""

    def idle(**values: int) -> list[Mistake]:
        error = Status.ONLINE | Status.ERROR
        blocks = [shown(STATUS=error, HEARTBEAT=n // 100, **values) for n in range(600)]
        return judged(*blocks, plc=with_bits(Control.ENABLE))

    assert idle(ERROR_CODE=77, GATE=GateBits.LINE_STOP | GateBits.REJECT) == []
    assert idle(ERROR_CODE=42) == [], "a challenge has failed"
    assert idle(ERROR_CODE=11) == [Mistake.NOT_READY], "a part's own fault stops no line: it runs free"


def test_a_line_that_is_stopped_is_told_once_and_so_is_its_going_on() -> None:
    tally, said = Tally(Mode.BITS), list[str]()
    for scan in (Scan(True, {}, stopped=71), Scan(True, {}, stopped=71), Scan(True, {}), Scan(False, {})):
        said += tally.add(scan, 0)
    assert said[1].startswith(
        "the station has stopped the line: ERROR_CODE 71 GATE_NOT_CONFIRMED, a rejected"
    )
    assert said[2:] == ["the line may run again", "the station is gone"]
    assert tally.summary()["stops"] == [71] and not tally.mistakes


def test_why_a_line_stops_is_said_as_in_the_docs() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| yes \| (ERROR_CODE, .+?) \|", ERRORS, re.M)
    assert [int(code) for code, *_ in rows] == [int(reason) for reason in WHY]
    assert all(WHY[Reason(int(code))] in meaning for code, _, meaning in rows), rows


@pytest.mark.parametrize("mode", [Mode.BITS, Mode.IDS])
def test_a_station_as_it_is_makes_no_mistake(mode: Mode) -> None:
    """Good, bad and overdue parts, a lost connection, one cycle at a time."""
    bench, program, judge = Bench(mode), PlcProgram(mode), BlockJudge(mode)
    found: list[Complaint] = []
    for part in range(70_001, 70_021):
        program.part_arrives(part)
    for cycle in range(1500):
        block = bench.hand.block()
        found += judge.look(block, bench_plc(bench), program.open_parts, bench.now_ms * MS)
        bench.scan(program)
        if cycle % 7 == 3 and bench.asked and part_of(bench) % 6:
            bench.judge(Outcome.FAIL if cycle % 2 else Outcome.PASS)
        if cycle % 50 == 0:
            bench.beat()
        bench.wait(10)
        if not bench.hand.last_trigger:
            bench.asked.clear()  # it was overdue
    assert found == []
    assert len(program.taken) >= 15


def part_of(bench: Bench) -> int:
    return bench.asked[0].part_id or 0


def bench_plc(bench: Bench) -> list[int]:
    block = list(IDLE)
    place(block, 0, "CONTROL", bench.plc.control)
    place(block, 0, "RESULT_ACK_ID", bench.plc.result_ack_id)
    return block


class CutBeforeTheAnswer:
    """A wire that shows a result and is gone before it can be acknowledged."""

    station = "modbus-tcp-server://127.0.0.1:5020"

    def __init__(self) -> None:
        self.block = shown(STATUS=READY)

    def read(self) -> list[list[int]]:
        return [self.block]

    def show(self, plc: list[int]) -> None:
        if self.block[101 - STATION_START]:
            raise ConnectionError

    def close(self) -> None:
        pass


def test_a_result_that_came_with_the_last_breath_is_counted() -> None:
    wire = CutBeforeTheAnswer()
    plc = BlockPlc(wire, Mode.IDS)
    plc.part_arrives(7)
    assert plc.scan(MS).triggered == (7,)
    wire.block = shown(**GOOD)
    last = plc.scan(2 * MS)
    assert not last.connected and [each.part_id for each in last.taken] == [7] and last.rejected == ()


WORD = st.integers(0, 0xFFFF)


@settings(max_examples=40, deadline=None)
@given(blocks=st.lists(st.lists(WORD, min_size=50, max_size=50), max_size=5), mode=st.sampled_from(Mode))
def test_whatever_stands_in_the_registers_is_judged_and_drawn(blocks: list[list[int]], mode: Mode) -> None:
    judge, program = BlockJudge(mode), PlcProgram(mode)
    for now_ns, block in enumerate(blocks):
        judge.look(block, program.scan(block), program.open_parts, now_ns)
        assert sample(mode, IDLE, block)


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text(max_size=30), max_size=5), name=st.sampled_from([None, *DIALECTS]))
def test_whatever_a_line_says_is_read(lines: list[str], name: str | None) -> None:
    phrases = phrases_of(DIALECTS[name] if name else OwnLanguage())
    phrases.trigger(7, 0)
    for line in [*lines, *(f"{line}*{checksum(line)}" for line in lines)]:
        heard = phrases.hear(line, 0)
        assert heard.complaints or heard.taken or heard.refused or heard.verdict is not None


def test_every_mistake_is_in_the_docs() -> None:
    told = re.findall(r"^\| ([^|-]+?) \| [^|]+ \|$", DOCS.partition("## What it finds wrong")[2], re.M)
    assert told[1:] == [each.value for each in Mistake]


def test_a_verdict_nobody_knows_is_drawn_as_its_number() -> None:
    assert sample(Mode.BITS, IDLE, shown(VERDICT=7))["VERDICT"] == "7"


class Nobody:
    """A peer that is only drawn."""

    station = "modbus-tcp://127.0.0.1:5020"


def test_the_documented_screen_is_drawn_by_the_code() -> None:
    tally, program = Tally(Mode.BITS), record(Mode.BITS)
    for each in program:
        list(tally.add(Scan(True, each), 0))
    for part, code in ((7, VerdictCode.PASS), (8, VerdictCode.FAIL)):
        taken = Taken(part, code, "as in docs/outputs.md")
        list(tally.add(Scan(True, {}, triggered=(part,), taken=(taken,)), 0))
    with io.StringIO() as screen:
        Console(width=90, file=screen).print(Screen(Nobody(), tally))  # type: ignore[arg-type]
        drawn = "\n".join(line.rstrip() for line in screen.getvalue().splitlines()[:14])
    assert f"```text\n{drawn}\n```" in DOCS, drawn
