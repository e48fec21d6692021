"""The outbox against real outputs: it never blocks the loop, counts what is lost, publishes nothing late."""

import json
import socket
import statistics
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from peers import a_verdict, free_port, silent_peer, until

from edge.backoff import backoff_s
from edge.outputs import open_output, output_opener
from edge.outputs.plc_sim import SimulatedPlc
from edge.plc.registers import Status
from edge.station.outbox import Outbox, OutboxCounters, has_expired
from edge.verdict import Verdict


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff_s(n) for n in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert backoff_s(-1) == 0.1
    assert backoff_s(10**9) == 5.0
    assert backoff_s(1, first_s=2.0, limit_s=3.0) == 3.0


def test_expiry_counts_from_the_picture() -> None:
    verdict = replace(a_verdict(1), captured_ns=1_000_000_000)
    assert not has_expired(verdict, 3_000_000_000, max_age_s=2.0)
    assert has_expired(verdict, 3_000_000_001, max_age_s=2.0)
    assert not has_expired(verdict, 10**18, max_age_s=float("inf"))


def test_everything_that_was_put_is_published_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    outbox = Outbox(output_opener(f"jsonl:{path}"), capacity=1000)
    for number in range(500):
        outbox.put(a_verdict(number))
    outbox.close()
    outbox.close()
    assert [json.loads(line)["frame_id"] for line in path.read_text().splitlines()] == list(range(500))
    assert outbox.counters == OutboxCounters(sent=500)
    assert not outbox.alarm


def test_put_takes_microseconds_while_the_output_blocks() -> None:
    """The peer takes the connection and never answers: the output's thread sits in its time-out all along."""
    with silent_peer() as port:
        outbox = Outbox(output_opener(f"modbus-tcp://127.0.0.1:{port}?timeout_ms=500"), capacity=50)
        verdict, took = a_verdict(1), []
        for _ in range(2000):
            begin = time.perf_counter_ns()
            outbox.put(verdict)
            took.append(time.perf_counter_ns() - begin)
        assert statistics.median(took) < 50_000, "ns"
        assert outbox.counters.dropped == 1950
        outbox.close(timeout_s=0.1)
        assert outbox.counters == OutboxCounters(dropped=2000)
        assert "stopped answering" in outbox.last_error


def test_a_plc_that_comes_late_gets_only_fresh_verdicts() -> None:
    port = free_port()
    outbox = Outbox(output_opener(f"modbus-tcp://127.0.0.1:{port}"), max_age_s=60.0)
    assert until(lambda: outbox.alarm)
    assert "ping 127.0.0.1" in outbox.last_error
    old = replace(a_verdict(1), captured_ns=time.monotonic_ns() - 61_000_000_000)
    for verdict in (old, a_verdict(2), a_verdict(3)):
        outbox.put(verdict)
    plc = SimulatedPlc(port=port)
    plc.start()
    assert plc.wait_for(2, timeout_s=10)
    assert [part for part, _, _ in plc.results()] == [2, 3]
    assert until(lambda: not outbox.alarm)
    assert outbox.last_error == ""
    outbox.close()
    assert outbox.counters.expired == 1
    assert outbox.counters.sent == 2
    assert outbox.counters.losses == 0
    assert outbox.counters.retries >= 1
    plc.close()


def test_the_oldest_are_dropped_when_the_buffer_is_full() -> None:
    port = free_port()
    outbox = Outbox(output_opener(f"modbus-tcp://127.0.0.1:{port}"), capacity=3, max_age_s=60.0)
    assert until(lambda: outbox.alarm)
    for number in range(10):
        outbox.put(a_verdict(number))
    plc = SimulatedPlc(port=port)
    plc.start()
    assert plc.wait_for(3, timeout_s=10)
    outbox.close()
    assert [part for part, _, _ in plc.results()] == [7, 8, 9]
    assert outbox.counters.dropped == 7
    plc.close()


def test_the_heart_beats_only_while_the_station_is_healthy() -> None:
    plc, healthy = SimulatedPlc(), threading.Event()
    healthy.set()
    outbox = Outbox(output_opener(plc.start()), beat_s=0.02, is_healthy=lambda now_ns: healthy.is_set())
    outbox.put(a_verdict(1))
    assert plc.wait_for(1, timeout_s=5)
    assert until(lambda: plc.register("HEARTBEAT") >= 3)
    assert plc.register("VERDICT") == 1
    healthy.clear()
    assert until(lambda: plc.register("VERDICT") == 0)
    assert not int(plc.register("STATUS")) & Status.ONLINE
    stopped = plc.register("HEARTBEAT")
    healthy.set()
    assert until(lambda: bool(int(plc.register("STATUS")) & Status.ONLINE))
    assert plc.register("HEARTBEAT") == stopped + 1
    assert plc.register("VERDICT") == 0
    outbox.close()
    assert not int(plc.register("STATUS")) & Status.ONLINE
    plc.close()


def test_closing_withdraws_the_last_verdict() -> None:
    plc = SimulatedPlc()
    outbox = Outbox(output_opener(plc.start()))
    outbox.put(a_verdict(1))
    outbox.close()
    assert plc.results() == [(1, 1, 1)]
    assert plc.register("VERDICT") == 0
    outbox.put(a_verdict(2))
    assert outbox.counters == OutboxCounters(sent=1, dropped=1)
    plc.close()


def test_closing_is_bounded_while_nobody_is_there() -> None:
    outbox = Outbox(output_opener(f"modbus-tcp://127.0.0.1:{free_port()}"))
    outbox.put(a_verdict(1))
    begin = time.monotonic()
    outbox.close(timeout_s=0.2)
    assert time.monotonic() - begin < 1.5
    assert outbox.counters.dropped == 1


@pytest.mark.parametrize("error", [ValueError("a bug"), socket.gaierror("no such name")])
def test_an_output_that_breaks_its_promise_is_an_alarm_not_a_dead_thread(
    error: Exception, tmp_path: Path
) -> None:
    attempts = iter([error])

    def opening_fails_once():  # type: ignore[no-untyped-def]
        for failure in attempts:
            raise failure
        return open_output(f"jsonl:{tmp_path / 'out.jsonl'}")

    outbox = Outbox(opening_fails_once)
    assert until(lambda: outbox.alarm)
    outbox.put(a_verdict(1))
    assert until(lambda: outbox.counters.sent == 1)
    assert not outbox.alarm
    outbox.close()


def test_fifty_parts_per_second_reach_the_plc_without_a_gap() -> None:
    """The demo's promise, at the speed of a fast line; SEQUENCE would show a result that was lost."""
    plc, pace = SimulatedPlc(), threading.Event()
    outbox = Outbox(output_opener(plc.start()))
    for number in range(100):
        outbox.put(a_verdict(number))
        pace.wait(0.02)
    assert plc.wait_for(100, timeout_s=5)
    outbox.close()
    assert [sequence for _, _, sequence in plc.results()] == list(range(1, 101))
    assert outbox.counters == OutboxCounters(sent=100)
    plc.close()


def test_a_slow_plc_is_not_left_with_a_pass_of_a_part_that_has_gone() -> None:
    """The story: writing to the PLC takes longer than a part; an old PASS would stand there for the next."""

    class Slow:
        """An output that answers later than the limit and remembers what it shows."""

        uri = "slow:"

        def __init__(self) -> None:
            self.shown: list[int] = []
            self.sent = 0

        def send(self, verdict: Verdict) -> None:
            time.sleep(0.15)
            self.sent += 1
            self.shown = [verdict.frame_id]

        def beat(self, counter: int, healthy: bool) -> None:
            if not healthy:
                self.shown = []

        def close(self) -> None:
            self.shown = []

    slow = Slow()
    outbox = Outbox(lambda: slow, max_age_s=0.1)
    outbox.put(a_verdict(1))
    assert until(lambda: outbox.counters.expired == 1)
    assert slow.sent == 1 and outbox.alarm and "too late" in outbox.last_error
    assert until(lambda: slow.shown == [])
    outbox.close()


def test_a_peer_that_takes_every_connection_and_hangs_up_is_called_less_and_less_often() -> None:
    """The story: two stations with one client id on a broker. Each new connection ended the other's, each had
    its first beat and counted as well, and both came back every 0.1 s for ever.
    """
    calls: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        outbox = Outbox(output_opener(uri), beat_s=0.01)
        for losses in range(5):
            caller, _ = listener.accept()
            calls.append(time.monotonic())
            assert until(lambda: not outbox.alarm), "it beats"
            caller.close()
            assert until(lambda seen=losses: outbox.counters.losses > seen)  # type: ignore[misc]
        outbox.close()
    pauses = [after - before for before, after in pairwise(calls)]
    assert all(pause >= backoff_s(attempt) for attempt, pause in enumerate(pauses)), pauses
