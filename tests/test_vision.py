"""Jobs, states and results of OPC 40100-1 over a real handshake: pure, no server."""

from dataclasses import replace
from datetime import UTC, datetime

from peers import a_verdict

from edge.plc.handshake import Handshake, Mode
from edge.plc.line_events import Happened
from edge.plc.registers import Status, VisionState, decode
from edge.plc.station_image import StationImage
from edge.plc.vision import KEPT_RESULTS, Job, Refusal, VisionLine, part_number
from edge.verdict import Outcome, Reason

MS = 1_000_000
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def a_line(mode: Mode = Mode.IDS) -> tuple[VisionLine, Handshake]:
    hand, line = Handshake(StationImage(), mode, budget_ns=1000 * MS), VisionLine()
    hand.beat(1, True, 0)
    hand.enabled, line.recipe = True, "widget@abcd"
    return line, hand


def judge(line: VisionLine, hand: Handshake, now_ns: int, outcome: Outcome = Outcome.PASS) -> None:
    assert hand.last_trigger is not None
    verdict = replace(
        a_verdict(now_ns, outcome), request=hand.last_trigger.number, part_id=hand.last_trigger.part_id
    )
    hand.publish(verdict, now_ns)
    line.keep(verdict, 1, now_ns, NOW)
    line.go_on(hand, now_ns)


def test_the_state_is_what_the_station_does() -> None:
    line, hand = a_line()
    assert line.state(hand) is VisionState.READY
    assert decode("STATE", hand.block()) == VisionState.READY
    hand.commands.begin(2, 0)  # a challenge needs the camera for itself
    assert line.state(hand) is VisionState.INITIALIZED
    hand.commands.end(1, True)
    line.start_single(hand, Job("", part_id="7"), 1)
    assert line.state(hand) is VisionState.SINGLE_EXECUTION
    assert decode("STATE", hand.block()) == VisionState.SINGLE_EXECUTION
    hand.beat(2, False, 2)
    assert line.state(hand) is VisionState.ERROR
    hand.withdraw(3)
    assert line.state(hand) is VisionState.PREOPERATIONAL
    assert {state.outer for state in VisionState if state > VisionState.OPERATIONAL} == {
        VisionState.OPERATIONAL
    }


def test_a_station_that_runs_by_itself_is_in_continuous_execution() -> None:
    line, hand = a_line(Mode.FREE_RUN)
    assert line.state(hand) is VisionState.CONTINUOUS_EXECUTION
    assert decode("STATE", hand.block()) == VisionState.CONTINUOUS_EXECUTION
    assert line.start_single(hand, Job(""), 1) == (None, Refusal.NOT_SUPPORTED)
    assert hand.missed == 0, "nobody was promised a trigger"
    assert line.halt(hand, 1) is Refusal.NOT_SUPPORTED


def test_a_part_id_that_is_no_number_goes_with_the_job_alone() -> None:
    assert [part_number(text) for text in ("7", "4294967295", "4294967296", "", "7a", "-1", "²")] == [
        7, 4294967295, None, None, None, None, None,
    ]  # fmt: skip
    line, hand = a_line()
    line.start_single(hand, Job("", part_id="left door"), 1)
    judge(line, hand, 2)
    [result] = line.select({"PartId": "left door"})
    assert result.part_id == "left door" and result.verdict.part_id == 1


def test_while_a_trigger_waits_the_next_one_is_counted_and_refused() -> None:
    line, hand = a_line()
    first, _ = line.start_single(hand, Job("", part_id="1"), 1)
    assert line.start_single(hand, Job("", part_id="2"), 2) == (None, Refusal.WRONG_STATE)
    assert hand.missed == 1 and hand.line.bits & Status.MISSED_TRIGGER
    judge(line, hand, 3)
    [result] = line.select({"JobId": first.job_id if first else ""})
    assert result.part_id == "1"


def test_the_next_job_takes_the_result_of_the_last_one() -> None:
    line, hand = a_line()
    for number in range(1, 30):
        job, refusal = line.start_single(hand, Job("", part_id=str(number)), number * 10)
        assert refusal is Refusal.NONE and job is not None and hand.image.verdict is None
        judge(line, hand, number * 10 + 1)
        assert hand.shown is not None and hand.shown.part_id == number
    assert hand.overrun == 0 and len(line.select({})) == 29


def test_stop_lets_the_part_end_and_abort_does_not() -> None:
    line, hand = a_line()
    assert line.stop(hand) is line.abort(hand, 0) is Refusal.WRONG_STATE
    line.start_single(hand, Job(""), 1)
    assert line.stop(hand) is Refusal.NONE and hand.last_trigger is not None
    waited = hand.last_trigger
    assert line.abort(hand, 2) is Refusal.NONE and hand.last_trigger is None
    hand.publish(replace(a_verdict(9), request=waited.number), 3)
    told = [event.what for event in hand.take_events()]
    assert told == [Happened.TRIGGERED, Happened.WITHDRAWN, Happened.LATE] and hand.shown is None


def test_continuous_execution_triggers_by_itself_and_shows_the_newest() -> None:
    line, hand = a_line()
    job, _ = line.start_continuous(hand, Job("", meas_id="m"), 1)
    assert job is not None
    for now in range(2, 20):
        judge(line, hand, now)
        assert line.state(hand) is VisionState.CONTINUOUS_EXECUTION
        assert hand.shown is not None and hand.shown.frame_id in (now, now - 1)
        assert hand.waiting <= 1 and hand.last_trigger is not None
    assert line.stop(hand) is Refusal.NONE
    assert line.state(hand) is VisionState.CONTINUOUS_EXECUTION, "until the last part has its verdict"
    judge(line, hand, 20)
    assert line.state(hand) is VisionState.READY and hand.last_trigger is None
    assert {result.job.job_id for result in line.select({"MeasId": "m"})} == {job.job_id}


def test_a_verdict_that_is_overdue_does_not_end_continuous_execution() -> None:
    line, hand = a_line()
    line.start_continuous(hand, Job(""), 0)
    hand.tick(1001 * MS)
    line.go_on(hand, 1001 * MS)
    assert hand.shown is not None and hand.shown.reason is Reason.DEADLINE_MISSED
    assert hand.last_trigger is not None and hand.last_trigger.number == 2


def test_halted_means_no_trigger_and_nothing_shown() -> None:
    line, hand = a_line()
    line.start_single(hand, Job(""), 1)
    judge(line, hand, 2)
    assert line.halt(hand, 3) is Refusal.NONE and hand.shown is None
    assert line.halt(hand, 3) is Refusal.WRONG_STATE
    assert line.start_single(hand, Job(""), 4) == (None, Refusal.WRONG_STATE)
    assert line.reset(hand, 5) is Refusal.NONE
    assert line.state(hand) is VisionState.PREOPERATIONAL
    assert line.reset(hand, 6) is Refusal.WRONG_STATE
    hand.beat(2, True, 7)
    hand.enabled = True
    assert line.state(hand) is VisionState.READY


def test_the_recipe_must_be_the_one_that_is_loaded() -> None:
    line, hand = a_line()
    assert line.start_single(hand, Job("", recipe_id="gadget"), 1) == (None, Refusal.UNKNOWN_ID)
    assert line.start_single(hand, Job("", product_id="p"), 1) == (None, Refusal.NOT_SUPPORTED)
    assert all(line.knows_recipe(text) for text in ("", "widget", "widget@abcd"))
    line.recipe = ""
    assert not line.knows_recipe("widget")


def test_the_oldest_results_go_first() -> None:
    line, _ = a_line(Mode.FREE_RUN)
    kept = [line.keep(a_verdict(number), number, 0, NOW) for number in range(KEPT_RESULTS + 3)]
    assert [line.find(each.result_id) is not None for each in kept] == [False] * 3 + [True] * KEPT_RESULTS
    assert [each.result_id for each in line.select({"PartId": ""})] == [each.result_id for each in kept[3:]]


def test_times_are_those_of_the_picture_and_of_the_decision() -> None:
    line, _ = a_line()
    verdict = replace(a_verdict(1), captured_ns=10 * MS, decided_ns=48 * MS)
    result = line.keep(verdict, 1, 50 * MS, NOW)
    assert [(NOW - at).total_seconds() for at in (result.started, result.ended)] == [0.040, 0.002]
