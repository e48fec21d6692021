"""Handshakes under any order of events: stale reads, verdicts late or never, stalls, lost links."""

import os
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from linebench import Bench, judged

from edge.plc.handshake import QUEUE, Mode
from edge.plc.line_events import Happened
from edge.plc.program import PlcProgram
from edge.plc.registers import Control, Status, decode
from edge.plc.station_image import verdict_code
from edge.verdict import Outcome, Verdict

COMMANDS = (1, 2, 4, 77)  # all but the reset of what is counted here
MODES = [Mode.BITS, Mode.IDS]
EXAMPLES = int(os.environ.get("HANDSHAKE_EXAMPLES", "100"))  # 5000 after a change of the handshake: minutes
IN_ONE_RUN = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
OUTCOMES = st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.REVIEW])


def number(bench: Bench, name: str) -> int:
    return int(decode(name, bench.hand.block()))


def check_block(bench: Bench) -> None:
    """What no PLC may ever see."""
    status, code = bench.status, number(bench, "VERDICT")
    assert not (status & Status.PASS and status & Status.FAIL)
    assert bool(status & Status.PASS) == (code == 1) and bool(status & Status.FAIL) == (code == 2)
    assert bool(status & Status.RESULT_VALID) == (code != 0)
    if status & Status.READY:
        assert status & Status.ONLINE and not status & (Status.BUSY | Status.RESULT_OVERRUN)
    assert 0 <= number(bench, "QUEUE_FREE") <= QUEUE
    assert number(bench, "COUNT_MISSED") == len(bench.told(Happened.MISSED))


def check_accounts(bench: Bench) -> None:
    """Every trigger that was taken ends once: its result taken or taken back, or it still waits."""
    begun = [e.request.number for e in bench.told(Happened.TRIGGERED) if e.request]
    assert len(begun) == len(set(begun))
    ended = Counter(
        (e.verdict.request if e.verdict else e.request.number if e.request else None)
        for e in bench.events if e.what in (Happened.TAKEN, Happened.WITHDRAWN)
    )  # fmt: skip
    assert set(ended) <= set(begun) and max(ended.values(), default=1) == 1
    places = QUEUE - number(bench, "QUEUE_FREE")
    assert len(begun) - len(ended) == places, "whatever has not ended stands in the queue"


class Line:
    """A PLC that runs the documented program on one side, a station that answers as it likes on the other."""

    def __init__(self, mode: Mode) -> None:
        self.mode, self.program = mode, PlcProgram(mode, patience=30)
        self.truth: dict[int, Outcome] = {}  # part -> what the station found
        self.gone: set[int] = set()  # parts of before a stall, a reconnect, a restart
        self.held: list[Verdict] = []
        self.parts = 0
        self.start()

    def start(self) -> None:
        """Switch the station on; it knows nothing of before."""
        self.bench = Bench(self.mode)
        self.read = self.bench.hand.block()
        self.held.clear()

    def void(self) -> None:
        """Nothing that was triggered so far may be shown from now on."""
        self.gone |= {e.request.part_id for e in self.bench.told(Happened.TRIGGERED) if e.request}  # type: ignore[misc]
        assert number(self.bench, "VERDICT") == 0

    def do(self, action: str, outcome: Outcome) -> None:
        bench = self.bench
        lost = len(bench.told(Happened.PLC_LOST))
        match action:
            case "part":
                self.parts += 1
                self.program.part_arrives(self.parts)
            case "read":
                self.read = bench.hand.block()
            case "write":
                self.scan()
            case "cycle":
                self.read = bench.hand.block()
                self.scan()
            case "judge" if bench.asked:
                self.truth[bench.asked[0].part_id] = outcome  # type: ignore[index]
                bench.judge(outcome)
            case "hold" if bench.asked:
                self.truth[bench.asked[0].part_id] = Outcome.PASS  # type: ignore[index]
                self.held.append(judged(bench.asked.popleft(), Outcome.PASS))
            case "late" if self.held:
                bench.publish(self.held.pop())
            case "short":
                bench.wait(50)
            case "long":
                bench.wait(600)
            case "silence":
                bench.wait(3100)
            case "stall":
                bench.beat(healthy=False)
                self.void()
            case "beat":
                bench.beat()
            case "reconnect":
                bench.reconnect()
                self.void()
            case "hang up":
                bench.hang_up()
                self.void()
            case "restart":
                self.void_all()
                self.start()
        if len(bench.told(Happened.PLC_LOST)) > lost:
            self.void()

    def scan(self) -> None:
        """The PLC acts on what it has read, which may be old by now."""
        bench = self.bench
        bench.plc = type(bench.plc).decode(self.program.scan(self.read))
        bench.write()

    def void_all(self) -> None:
        self.bench.reconnect()
        self.void()

    def check(self) -> None:
        check_block(self.bench)
        part, code = number(self.bench, "RESULT_ID"), number(self.bench, "VERDICT")
        if code:
            assert part not in self.gone
            self.check_pair(part, code)

    def check_pair(self, part: int, code: int) -> None:
        found = {Outcome.PASS: 1, Outcome.FAIL: 2}.get(self.truth.get(part, Outcome.REVIEW), 3)
        assert code in (found, 3), f"part {part} was told {code}, found was {found}"


ACTIONS = st.sampled_from(
    ["cycle"] * 8 + ["read", "write"] * 3 + ["part"] * 4 + ["judge"] * 5
    + ["hold", "late", "short", "short", "long", "silence", "stall", "beat", "beat", "reconnect", "hang up",
       "restart"]
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@IN_ONE_RUN
@given(steps=st.lists(st.tuples(ACTIONS, OUTCOMES), min_size=40, max_size=120))
def test_no_part_gets_a_verdict_that_is_not_its_own(mode: Mode, steps: list[tuple[str, Outcome]]) -> None:
    line = Line(mode)
    for action, outcome in steps:
        line.do(action, outcome)
        line.check()
    ids = [part for part, _, _ in line.program.taken]
    assert ids == sorted(set(ids)), "each once, in the order of the parts"
    for part, code, _ in line.program.taken:
        line.check_pair(part, code)
    assert not set(ids) & set(line.program.rejected)
    check_accounts(line.bench)


@pytest.mark.parametrize("mode", MODES)
@IN_ONE_RUN
@given(steps=st.lists(st.tuples(ACTIONS, OUTCOMES), min_size=40, max_size=120))
def test_what_the_station_holds_for_taken_was_taken(mode: Mode, steps: list[tuple[str, Outcome]]) -> None:
    """Nothing that was acknowledged is lost: the PLC has it, with the same verdict and SEQUENCE."""
    line = Line(mode)
    for action, outcome in steps:
        if action != "restart":
            line.do(action, outcome)
    known = {part: code for part, code, _ in line.program.taken}
    for event in line.bench.told(Happened.TAKEN):
        assert event.verdict is not None and event.verdict.part_id is not None
        assert known[event.verdict.part_id] == verdict_code(event.verdict)


def chaos() -> st.SearchStrategy[tuple[str, int, int, int, int]]:
    """(what, control bits, trigger id, acknowledge id, heartbeat): a PLC that keeps no rule at all."""
    what = st.sampled_from(
        ["write"] * 6 + ["judge"] * 3 + ["hold", "late", "long", "stall", "beat", "reconnect", "hang up"]
    )
    return st.tuples(what, st.integers(0, 0xFFFF), *[st.integers(0, 3)] * 2, st.integers(0, 1))


@pytest.mark.parametrize("mode", MODES)
@IN_ONE_RUN
@given(steps=st.lists(chaos(), min_size=40, max_size=120), outcome=OUTCOMES)
def test_a_plc_that_keeps_no_rule_gets_no_wrong_verdict(
    mode: Mode, steps: list[tuple[str, int, int, int, int]], outcome: Outcome
) -> None:
    bench, held, said = Bench(mode), list[Verdict](), dict[int | None, Verdict]()
    for what, bits, trigger_id, ack_id, heartbeat in steps:
        match what:
            case "write":
                bench.plc = replace(bench.plc, control=Control(bits) | Control.ENABLE)
                bench.write(
                    trigger_id=trigger_id,
                    result_ack_id=ack_id,
                    heartbeat=heartbeat,
                    command=COMMANDS[bits % 4],
                )
            case "judge" if bench.asked:
                verdict = judged(bench.asked.popleft(), outcome)
                said[verdict.request] = verdict
                bench.publish(verdict)
            case "hold" if bench.asked:
                held.append(judged(bench.asked.popleft(), Outcome.PASS))
            case "late" if held:
                said[held[-1].request] = held[-1]
                bench.publish(held.pop())
            case "long":
                bench.wait(600)
            case "stall":
                bench.beat(healthy=False)
            case "beat":
                bench.beat()
            case "reconnect":
                bench.reconnect()
            case "hang up":
                bench.hang_up()
        check_block(bench)
    shown = [event.verdict for event in bench.told(Happened.SHOWN)]
    begun = {e.request.number: e.request.part_id for e in bench.told(Happened.TRIGGERED) if e.request}
    assert len({v.request for v in shown if v}) == len(shown), "no verdict is shown twice"
    for verdict in shown:
        assert verdict is not None and verdict.part_id == begun[verdict.request]
        assert verdict is said.get(verdict.request) or verdict.score is None
    check_accounts(bench)
