"""Parts on their way to the gate: only a part that is known to be good gets through."""

from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge.station.tracking import ENCODER, Alarm, Gate, PartTracker

GATE = Gate(distance=1000, tolerance=50)
WITH_SENSOR = replace(GATE, confirm_within=100)


def alarms(tracker: PartTracker, position: int) -> list[tuple[Alarm, int]]:
    return [(event.alarm, event.part_id) for event in tracker.advance(position % ENCODER)]


@pytest.mark.parametrize("start", [0, ENCODER - 1, ENCODER - 1000, ENCODER - 1500])
def test_a_bad_part_is_rejected_in_its_window_and_nowhere_else(start: int) -> None:
    """Also where the encoder begins again between camera and gate."""
    tracker = PartTracker(GATE)
    tracker.triggered(1, start, 1)
    tracker.judged(1, False)
    for moved, expected in ((0, False), (949, False), (950, True), (1050, True), (1051, False)):
        assert alarms(tracker, start + moved) == []
        assert tracker.rejecting == expected, moved


def test_several_parts_are_in_flight_and_verdicts_come_in_any_order() -> None:
    tracker = PartTracker(GATE)
    for part in range(1, 6):
        tracker.triggered(part, part * 200, part)
    for part, passed in ((3, True), (1, True), (5, True), (4, False), (2, True)):
        assert tracker.judged(part, passed)
    rejected = []
    for position in range(1000, 2200, 10):
        assert alarms(tracker, position) == []
        rejected += [position] * tracker.rejecting
    assert (min(rejected), max(rejected)) == (1750, 1850)


def test_no_verdict_in_time_is_a_reject_with_an_alarm_and_a_late_pass_changes_nothing() -> None:
    tracker = PartTracker(GATE)
    tracker.triggered(9, 0, 9)
    assert alarms(tracker, 949) == []
    assert alarms(tracker, 950) == [(Alarm.NO_VERDICT, 9)] and tracker.rejecting
    assert not tracker.judged(9, True)
    assert alarms(tracker, 1000) == [] and tracker.rejecting
    assert not tracker.stopped


def test_where_windows_overlap_reject_wins() -> None:
    tracker = PartTracker(GATE)
    for part, position, passed in ((1, 0, False), (2, 60, True)):
        tracker.triggered(part, position, part)
        tracker.judged(part, passed)
    tracker.advance(1045)
    assert tracker.rejecting
    tracker.advance(1060)
    assert not tracker.rejecting


def test_a_reject_that_nobody_saw_stops_the_line() -> None:
    tracker = PartTracker(WITH_SENSOR)
    tracker.triggered(1, 0, 1)
    tracker.judged(1, False)
    tracker.advance(1000)
    assert alarms(tracker, 1150) == []
    assert alarms(tracker, 1151) == [(Alarm.NOT_CONFIRMED, 1)] and tracker.stopped
    tracker.restart()
    assert not tracker.stopped


def test_a_confirmed_reject_is_quiet_and_a_good_part_in_the_bin_is_not() -> None:
    tracker = PartTracker(WITH_SENSOR)
    for part, passed in ((1, False), (2, True)):
        tracker.triggered(part, part * 300, part)
        tracker.judged(part, passed)
    tracker.advance(1300)
    tracker.confirmed()
    assert alarms(tracker, 1500) == []
    tracker.confirmed()
    assert alarms(tracker, 1600) == [(Alarm.UNEXPECTED_REJECT, 2)] and not tracker.stopped


def test_rejects_in_a_row_stop_the_line_and_a_good_part_begins_the_count_anew() -> None:
    tracker, told = PartTracker(replace(GATE, most_rejects=3)), []
    for part, passed in enumerate((False, False, True, False, False, False), 1):
        tracker.triggered(part, part * 200, part)
        tracker.judged(part, passed)
    for position in range(0, 2500, 25):
        told += alarms(tracker, position)
        assert tracker.stopped == bool(told)
    assert told == [(Alarm.REJECTS_IN_A_ROW, 6)]


def test_ids_tell_lost_and_extra_parts_also_where_they_wrap() -> None:
    tracker = PartTracker(GATE)
    for place, part in enumerate((ENCODER - 2, ENCODER - 1, 0, 4, 4, 5)):
        tracker.triggered(part, place * 200, place)
        tracker.judged(place, True)
    events = tracker.advance(1000)
    assert [(e.alarm, e.part_id, e.count) for e in events] == [
        (Alarm.LOST_PARTS, 4, 3), (Alarm.EXTRA_PART, 4, 1),
    ]  # fmt: skip
    tracker.advance(4 * 200 + 1000)
    assert tracker.rejecting, "of two parts with one id the second is not known to be good"


def test_ids_that_begin_again_are_no_alarm_and_lose_no_part() -> None:
    """The story: all shipped PLC programs count to 65535 and then from 1. The gate took part 1 for one that
    had been there before, and every part after it: all were rejected, and no CLEAR_ERROR helped."""
    tracker = PartTracker(GATE)
    for number, part in enumerate((65534, 65535, 1, 2, 40, 1, 2)):  # at the end the program was loaded anew
        tracker.triggered(part, number * 2000, number)
        assert tracker.judged(number, True)
        told = [(Alarm.LOST_PARTS, 40)] if part == 40 else []
        assert alarms(tracker, number * 2000 + 1000) == told and tracker.letting, part
        assert alarms(tracker, number * 2000 + 1900) == []


def test_an_id_is_one_too_many_while_the_first_part_is_on_its_way_or_right_behind_it() -> None:
    tracker = PartTracker(GATE)
    for number, (part, position) in enumerate(((5, 0), (6, 200), (5, 400), (7, 600), (7, 3000))):
        tracker.advance(position)
        tracker.triggered(part, position, number)
        extra = number in (2, 4)
        assert tracker.judged(number, True) == (not extra)
        assert alarms(tracker, position) == [(Alarm.EXTRA_PART, part)] * extra


def test_after_a_person_has_looked_any_id_may_come() -> None:
    tracker = PartTracker(GATE)
    for number, part in enumerate((7, 7, 20)):
        tracker.triggered(part, number * 2000, number)
        assert tracker.judged(number, True), part
        assert alarms(tracker, number * 2000 + 1900) == []
        tracker.restart()


def test_a_part_to_reject_that_went_by_between_two_looks_stops_the_line() -> None:
    tracker = PartTracker(GATE)
    tracker.triggered(1, 0, 1)
    tracker.judged(1, False)
    tracker.advance(900)
    assert alarms(tracker, 1100) == [(Alarm.PASSED_UNSEEN, 1)] and tracker.stopped


def test_an_encoder_that_was_reset_loses_the_parts_in_flight_and_nothing_else() -> None:
    tracker = PartTracker(GATE)
    tracker.advance(500_000)
    assert alarms(tracker, 0) == [], "no part was there"
    for part in (1, 2):
        tracker.triggered(part, 40, part)
    assert alarms(tracker, 600) == []
    assert alarms(tracker, 100) == [(Alarm.POSITION_LOST, 1)] and tracker.stopped
    assert alarms(tracker, 1100) == [] and not tracker.rejecting


def test_only_good_parts_in_the_window_are_let_through() -> None:
    tracker = PartTracker(GATE)
    for part, position, passed in ((1, 0, True), (2, 60, False)):
        tracker.triggered(part, position, part)
        tracker.judged(part, passed)
    for moved, letting in ((940, False), (960, True), (1020, False), (1200, False)):
        tracker.advance(moved)
        assert tracker.letting == letting, moved


def test_a_belt_that_swings_back_moves_nothing() -> None:
    tracker = PartTracker(GATE)
    tracker.triggered(1, 0, 1)
    tracker.judged(1, False)
    tracker.advance(960)
    tracker.advance(930)
    assert tracker.rejecting


@settings(max_examples=150, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    gaps=st.lists(st.integers(10, 400), min_size=1, max_size=12),
    answers=st.lists(st.sampled_from([True, False, None]), min_size=12, max_size=12),
    delays=st.lists(st.integers(0, 1200), min_size=12, max_size=12),
    step=st.integers(1, 60),
    start=st.integers(0, ENCODER - 1),
)
def test_whatever_comes_only_a_part_that_was_passed_in_time_gets_through(
    gaps: list[int], answers: list[bool | None], delays: list[int], step: int, start: int
) -> None:
    """Seen from the belt: at the moment a part is in the middle of the gate, is it let through?"""
    tracker, at, parts = PartTracker(replace(GATE, most_rejects=99)), 0, {}
    for part, gap in enumerate(gaps):
        at += gap
        parts[part] = at
    passed: set[int] = set()
    for moved in range(0, at + 1200, step):
        for part, begun in parts.items():
            if moved - step < begun <= moved:
                tracker.triggered(part, (start + begun) % ENCODER, part)
            answer, due = answers[part], begun + delays[part]
            if begun <= moved and moved - step < due <= moved and answer is not None:
                passed |= {part} if tracker.judged(part, answer) and answer else set()
        tracker.advance((start + moved) % ENCODER)
        for part, begun in parts.items():
            if abs(moved - begun - 1000) <= GATE.tolerance and part not in passed:
                assert tracker.rejecting, f"part {part} got through at {moved}"
