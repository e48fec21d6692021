"""What plc-sim finds wrong with a station that speaks MQTT: message by message, without a broker."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import a_verdict

from edge.plc.handshake import Mode
from edge.plc.mqtt_words import Life, record, status_json
from edge.plc.registers import VerdictCode
from edge.plc.station_image import Counters
from edge.plcsim import Mistake, Scan
from edge.plcsim.mqtt_talk import MqttTalk
from edge.verdict import Outcome

MS = 1_000_000
PASS, FAIL = record(a_verdict(1), False, 0), record(a_verdict(2, Outcome.FAIL), False, 0)


class Bench:
    """A station that is typed by hand, and time that passes when it is told to."""

    def __init__(self, mode: Mode = Mode.IDS) -> None:
        self.talk, self.now_ns = MqttTalk(mode), 10_000 * MS
        self.asked: list[dict[str, Any]] = []
        self.mistakes: list[Mistake] = []
        self.taken: list[tuple[int, VerdictCode]] = []
        self.rejected: list[int] = []

    def say(self, topic: str, **message: object) -> None:
        self.talk.hear(topic, json.dumps(message).encode(), self.now_ns)

    def alive(self, beat: int, ready: bool = True, healthy: bool = True) -> None:
        self.say("status", **status_json(Life(healthy, ready, beat, Counters()), 0))

    def turn(self, ms: int = 10) -> Scan:
        self.now_ns += ms * MS
        scan, command = self.talk.turn(self.now_ns)
        self.asked += [json.loads(command)] if command else []
        self.mistakes += [each.what for each in scan.complaints]
        self.taken += [(each.part_id, each.verdict) for each in scan.taken]
        self.rejected += scan.rejected
        return scan

    def triggered(self, part: int) -> None:
        self.alive(1)
        self.talk.part_arrives(part)
        assert self.turn().triggered == (part,) and self.asked[-1]["part_id"] == part

    def reply(self, ok: bool) -> None:
        self.say("reply", ok=ok, command="trigger", part_id=None, id=self.asked[-1]["id"], error=None)


def test_a_verdict_is_taken_once_and_only_for_the_part_that_waits() -> None:
    bench = Bench()
    bench.triggered(7)
    bench.reply(True)
    for _ in range(2):
        bench.say("verdict", **PASS | {"part_id": 7})
        bench.turn()
    assert bench.taken == [(7, VerdictCode.PASS)] and not bench.mistakes, "the second one is a repetition"
    bench.say("verdict", **FAIL | {"part_id": 8})
    bench.turn()
    assert bench.mistakes == [Mistake.OTHER_PART]


def test_a_trigger_that_was_refused_is_sent_again_under_a_new_name() -> None:
    bench = Bench()
    bench.triggered(7)
    bench.reply(False)
    assert bench.turn(50).triggered == () and bench.turn(60).triggered == (7,)
    assert len({each["id"] for each in bench.asked}) == 2
    for _ in range(11):
        bench.alive(bench.now_ns)
        bench.turn(1000)
    assert bench.rejected == [7]


def test_a_late_verdict_is_none() -> None:
    bench = Bench()
    bench.triggered(7)
    bench.say("verdict", **PASS | {"part_id": 7, "late": True})
    bench.turn()
    assert (bench.taken, bench.rejected, bench.mistakes) == ([], [7], [])


@pytest.mark.parametrize("wrong", [{"score": None}, {"reason_code": 11}])
def test_a_pass_that_is_none_is_not_taken(wrong: dict[str, object]) -> None:
    bench = Bench()
    bench.triggered(7)
    bench.say("verdict", **PASS | {"part_id": 7} | wrong)
    bench.turn()
    assert (bench.taken, bench.mistakes) == ([], [Mistake.CONTRADICTION])


def test_what_must_not_last_is_told_when_it_lasts() -> None:
    bench = Bench()
    bench.triggered(7)
    for _ in range(35):
        bench.turn(100)
    assert sorted(each.name for each in bench.mistakes) == ["NO_HEARTBEAT", "NO_TRIGGER_ACK"]
    deaf = Bench()
    for beat in range(60):
        deaf.alive(beat, ready=False)
        deaf.turn(100)
    assert deaf.mistakes == [Mistake.NOT_READY], "the station runs by its camera"
    deaf.alive(99, ready=True, healthy=False)
    deaf.turn()
    assert deaf.mistakes[1:] == [Mistake.READY_OFFLINE]


def test_a_station_that_goes_rejects_its_parts_and_free_run_is_only_watched() -> None:
    bench = Bench()
    bench.triggered(7)
    bench.talk.part_arrives(8)
    bench.say("status", online=False)
    assert not bench.turn().connected and bench.rejected == [7, 8]
    free = Bench(Mode.FREE_RUN)
    free.alive(1, ready=False)
    free.say("verdict", **FAIL)
    free.turn()
    assert free.taken == [(2, VerdictCode.FAIL)] and not free.asked and not free.mistakes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(PASS)), inner),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(topic=st.sampled_from(["verdict", "status", "reply", "x"]), what=JSON | st.binary(max_size=20))
def test_whatever_is_said_is_read_and_is_no_pass(topic: str, what: object) -> None:
    bench = Bench()
    bench.triggered(7)
    changed = PASS | what if isinstance(what, dict) else what
    payload = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    bench.talk.hear(topic, payload, bench.now_ns)
    bench.turn()
    real = isinstance(changed, dict) and changed["outcome"] == "pass" and changed["reason_code"] == 0
    assert real or not [code for _, code in bench.taken if code is VerdictCode.PASS]
