"""What is handed to PLC programmers: the data block is the register map, and the programs do handshake B."""

import random
import re
from pathlib import Path

import pytest
from linebench import Bench
from structured_text import NAMES, StructuredText, published

from edge.plc.handshake import Mode
from edge.plc.line_events import Happened
from edge.plc.registers import PLC_REGISTERS, STATION_REGISTERS, STATION_START, Status, place
from edge.plc.source import S7_TYPES, data_block, table
from edge.verdict import Outcome

ROOT = Path(__file__).parents[1]
PLC = ROOT / "deploy" / "plc"
SIZES = {"Word": 2, "UInt": 2, "UDInt": 4, "Real": 4, "Char": 1, "Byte": 1}


def test_the_files_are_what_the_code_writes() -> None:
    assert (PLC / "edge_inspect.db").read_text("utf-8") == data_block()
    assert table() in (ROOT / "docs" / "plc.md").read_text("utf-8"), "python -m edge.plc.source --table"


def test_the_data_block_puts_every_register_at_twice_its_address() -> None:
    """Counted as a PLC counts without optimized access: one after the other, nothing aligned but to words."""
    at, found = 0, {}
    for name, array, kind in re.findall(r"^ +(\w+) : (?:Array\[0\.\.(\d+)\] of )?(\w+);", data_block(), re.M):
        found[name] = at
        at += SIZES[kind] * (int(array) + 1 if array else 1)
    assert at == 300
    registers = (*PLC_REGISTERS, *STATION_REGISTERS)
    assert {n: place for n, place in found.items() if not n.startswith("reserve")} == {
        r.name: 2 * r.address for r in registers
    }
    assert {r.type for r in registers} == set(S7_TYPES)


class Program:
    """A published program on the bench, with its own names for the same things."""

    def __init__(self, maker: str, bench: Bench) -> None:
        self.maker, self.bench = maker, bench
        (self.arrived, self.done, self.good, self.missed, self.alarm, self.clear, self.part, self.ack) = (
            NAMES[maker].split()
        )
        self.let_through: dict[int, bool] = {}  # parts that are done
        self.missed_parts = 0
        self.start({})

    def start(self, kept: dict[str, int]) -> None:
        """Switched on: only what is retained is still there."""
        self.text = StructuredText(published(self.maker), lambda: self.bench.now_ms, kept)

    @property
    def results(self) -> list[bool]:
        return list(self.let_through.values())

    def restart(self) -> None:
        self.start({name: self[name] for name in (self.part, self.ack)})

    def __getitem__(self, name: str) -> int:
        return int(self.text.values.get(name, 0))

    def scan(self, block: list[int]) -> list[int]:
        part = self[self.part]
        registers = self.text.scan(block)
        if self[self.done]:
            self.let_through[part] = bool(self[self.good])
        self.missed_parts += self[self.missed]
        return registers

    def run(self, ms: int, beats: bool = True) -> None:
        """Cycles of 10 ms with the station beside it."""
        for _ in range(ms // 10):
            self.bench.wait(10)
            if beats and self.bench.now_ms % 250 == 0:
                self.bench.beat()
            self.bench.scan(self)  # type: ignore[arg-type]

    def sensor(self, on: bool) -> None:
        self.text.values[self.arrived] = on


@pytest.fixture(params=NAMES)
def plc(request: pytest.FixtureRequest) -> Program:
    program = Program(request.param, Bench(Mode.IDS))
    program.run(1100)
    program.text.values[program.clear] = True
    program.run(20)
    program.text.values[program.clear] = False
    return program


def trigger(plc: Program) -> None:
    plc.sensor(True)
    plc.run(30)
    plc.sensor(False)
    plc.run(10)


OUTCOMES = [Outcome.PASS, Outcome.FAIL, Outcome.REVIEW, Outcome.PASS]


def test_only_a_pass_is_let_through(plc: Program) -> None:
    for outcome in OUTCOMES:
        trigger(plc)
        plc.bench.judge(outcome)
        plc.run(50)
    assert plc.results == [outcome is Outcome.PASS for outcome in OUTCOMES]
    assert (plc.missed_parts, plc[plc.alarm], plc[plc.part]) == (0, 0, 4)
    assert len(plc.bench.told(Happened.TAKEN)) == 4 and not plc.bench.status & Status.RESULT_VALID


def test_a_result_that_the_station_gives_up_is_a_reject(plc: Program) -> None:
    trigger(plc)
    plc.run(1000)
    assert plc.results == [False] and not plc[plc.alarm]
    trigger(plc)
    plc.bench.asked.popleft()
    plc.bench.judge()
    plc.run(50)
    assert plc.results == [False, True], "and the next part gets its own"


def test_a_station_that_stands_still_is_a_reject_and_an_alarm(plc: Program) -> None:
    trigger(plc)
    block = plc.bench.hand.block()
    for _ in range(230):
        plc.bench.now_ms += 10
        plc.scan(list(block))
    assert plc.results == [False] and plc[plc.alarm], "no result within 2 s"


def test_a_heartbeat_that_stands_still_is_an_alarm_before_a_part_comes(plc: Program) -> None:
    block = plc.bench.hand.block()
    assert block[0] & Status.READY
    for _ in range(120):
        plc.bench.now_ms += 10
        plc.scan(list(block))
    assert plc[plc.alarm], "no heartbeat for 1.2 s"
    plc.sensor(True)
    plc.scan(list(block))
    assert plc.missed_parts == 1 and plc[plc.part] == 0, "nothing is triggered"


def test_a_pass_of_another_part_lets_nobody_through(plc: Program) -> None:
    """The station shows none such; a program must not need to believe that."""
    trigger(plc)
    block = plc.bench.hand.block()
    for name, value in {"RESULT_ID": 77, "VERDICT": 1}.items():
        place(block, STATION_START, name, value)
    block[0] |= Status.RESULT_VALID | Status.PASS
    plc.scan(block)
    assert plc.results == [] and plc[plc.ack] == 77
    plc.bench.judge()
    plc.run(50)
    assert plc.results == [True]


def test_a_late_result_is_taken_away_and_used_for_nobody(plc: Program) -> None:
    trigger(plc)
    frozen = plc.bench.hand.block()
    for _ in range(230):  # the PLC hears nothing; the station judges meanwhile
        plc.bench.now_ms += 10
        plc.scan(list(frozen))
    plc.bench.beat()
    plc.run(100)
    assert plc.results == [False] and not plc.bench.status & Status.RESULT_VALID
    trigger(plc)
    plc.bench.asked.popleft()
    plc.bench.judge()
    plc.run(50)
    assert plc.results == [False, True]


def test_a_part_that_comes_too_soon_is_rejected(plc: Program) -> None:
    trigger(plc)
    trigger(plc)
    assert plc.missed_parts == 1 and plc[plc.alarm] and plc.results == []
    plc.bench.judge()
    plc.run(50)
    assert plc.results == [True], "the first one has its result"
    assert not plc.bench.told(Happened.MISSED), "the station was not asked"


def test_a_station_that_stalls_is_an_alarm(plc: Program) -> None:
    plc.bench.beat(healthy=False)
    plc.run(20, beats=False)
    trigger(plc)
    assert plc.missed_parts == 1 and plc[plc.alarm]


def test_a_plc_that_restarts_takes_no_old_result(plc: Program) -> None:
    """A pass stands there, its part unknown: it is acknowledged and let nobody through."""
    trigger(plc)
    plc.bench.judge()
    plc.restart()
    plc.run(100)
    assert plc.results == [] and not plc.bench.status & Status.RESULT_VALID
    trigger(plc)
    plc.bench.judge(Outcome.FAIL)
    plc.run(50)
    assert plc.results == [False] and plc[plc.part] == 2


def test_ids_go_round_without_zero(plc: Program) -> None:
    plc.text.values[plc.part] = 65_534
    for _ in range(3):
        trigger(plc)
        plc.bench.judge()
        plc.run(50)
    assert plc.results == [True] * 3 and plc[plc.part] == 2


def test_a_random_day(plc: Program) -> None:
    """Parts, judgements and stalls in any order: let through is only what was judged good itself."""
    dice, judged = random.Random(4), {}
    for _ in range(150):
        match dice.randrange(5):
            case 0 | 1:
                trigger(plc)
            case 2 | 3 if plc.bench.asked:
                part, outcome = plc.bench.asked[0].part_id, dice.choice(OUTCOMES)
                judged[part] = outcome
                plc.bench.judge(outcome)
            case 4 if dice.random() < 0.2:
                plc.bench.beat(healthy=False)
                plc.bench.beat()
        plc.run(dice.choice([10, 50, 300]))
    passed = [part for part, good in plc.let_through.items() if good]
    assert len(passed) > 5 and all(judged[part] is Outcome.PASS for part in passed)
    assert plc.results.count(False) > 5 and plc.missed_parts > 5
