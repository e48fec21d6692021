"""Brokers that die, hang and come back, a station that is killed: what is kept, what is marked late."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pysparkplug as other
import pytest
from faults.test_station_faults import grey
from mqtt_broker import Broker, Listener
from peers import a_verdict, until
from test_triggered import BAD, GOOD, running
from toy import toy_pair

from edge.errors import OutputLost
from edge.outputs import Output, open_output, output_opener
from edge.plc.line_events import Happened
from edge.plc.registers import Status
from edge.station.capture import Policy
from edge.station.compose import station_of
from edge.station.outbox import Outbox
from edge.station.running import RunOptions

PATIENT = "timeout_ms=20000"  # a loaded test machine
INSPECT = [sys.executable, "-c", "from edge.cli import main; main()"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as started:
        yield started


class Station:
    """An outbox as a station has it, which looks for the broker only while `may_open` is set."""

    def __init__(self, uri: str, capacity: int = 1000) -> None:
        self.may_open = threading.Event()
        self.may_open.set()
        opener = output_opener(uri)

        def open_when_allowed() -> Output:
            self.may_open.wait()
            return opener()

        self.box = Outbox(open_when_allowed, capacity, max_age_s=float("inf"), beat_s=0.05)

    def sent(self, number: int) -> bool:
        return until(lambda: self.box.counters.sent == number, 30)

    def loses(self, broker: Broker, parts: range) -> None:
        """The broker dies; parts go on, and all of them are late when it comes back."""
        self.may_open.clear()
        broker.kill()
        assert until(lambda: self.box.alarm), "the beat notices, although no part comes"
        for number in parts:
            self.box.put(a_verdict(number))
        last = time.monotonic()
        assert until(lambda: time.monotonic() > last + 0.6)
        broker.start()


def test_verdicts_of_an_outage_come_later_in_order_and_marked_late(broker: Broker) -> None:
    """The dashboard must not show the pass of an hour ago beside the part that lies there now."""
    station = Station(f"mqtt://127.0.0.1:{broker.port}/s?{PATIENT}")
    station.box.put(a_verdict(1))
    assert station.sent(1)
    station.loses(broker, range(2, 200))
    numbers = count(200)
    with Listener(broker.port) as somebody:
        station.may_open.set()
        assert station.sent(199) and until(lambda: not station.box.alarm)

        def live() -> bool:
            """On a loaded machine one or the other may be late as well."""
            number = next(numbers)
            station.box.put(a_verdict(number))
            assert until(lambda: somebody.json_on("s/verdict")[-1]["frame_id"] == number, 30)
            return not somebody.json_on("s/verdict")[-1]["late"]

        assert until(live, 30)
        rows = somebody.json_on("s/verdict")
    station.box.close()
    assert [row["frame_id"] for row in rows] == list(range(2, len(rows) + 2)), "in order, without a gap"
    assert all(row["late"] for row in rows[:198])
    assert rows[0]["at_ms"] <= rows[-1]["at_ms"] - 500, "each has its own time, not that of its sending"
    assert station.box.counters.dropped == station.box.counters.expired == 0


def test_sparkplug_marks_the_verdicts_of_an_outage_historical(broker: Broker) -> None:
    station = Station(f"mqtt://127.0.0.1:{broker.port}/plant/line3/cam?format=sparkplug&{PATIENT}")
    station.box.put(a_verdict(1))
    assert station.sent(1)
    station.loses(broker, range(2, 50))
    with Listener(broker.port, "spBv1.0/#") as host:
        station.may_open.set()
        assert station.sent(49)
        station.box.close()
        assert until(lambda: bool(host.on("spBv1.0/plant/NDEATH/line3")))
        data = [other.DData.decode(payload) for payload in host.on("spBv1.0/plant/DDATA/line3/cam")]
        (birth,), (death,) = (host.on(f"spBv1.0/plant/{kind}/line3") for kind in ("NBIRTH", "NDEATH"))
    parts = [{m.name: m for m in payload.metrics} for payload in data]
    told = [part for part in parts if "Verdict/Frame ID" in part]
    assert [part["Verdict/Frame ID"].value for part in told] == list(range(2, 50))
    assert all(part["Verdict/Outcome"].is_historical and part["Verdict/Late"].value for part in told)
    bd_seq = {m.name: m.value for m in other.NBirth.decode(birth).metrics}["bdSeq"]
    assert other.NDeath.decode(death).bd_seq_metric.value == bd_seq == 1, "every connection has its own"


def test_what_does_not_fit_any_more_is_dropped_oldest_first_and_counted(broker: Broker) -> None:
    station = Station(f"mqtt://127.0.0.1:{broker.port}/s?{PATIENT}", capacity=10)
    station.box.put(a_verdict(1))
    assert station.sent(1)
    station.loses(broker, range(2, 102))
    with Listener(broker.port) as somebody:
        station.may_open.set()
        assert station.sent(11)
        assert until(lambda: len(somebody.on("s/verdict")) == 10)
        assert [row["frame_id"] for row in somebody.json_on("s/verdict")] == list(range(92, 102))
    station.box.close()
    assert station.box.counters.dropped == 90


def test_a_broker_that_hangs_is_noticed_by_the_next_verdict(broker: Broker) -> None:
    output = open_output(f"mqtt://127.0.0.1:{broker.port}/s?timeout_ms=300")
    output.send(a_verdict(1))
    broker.freeze()
    with pytest.raises(OutputLost, match="no answer in time"):
        output.send(a_verdict(2))
    output.close()
    quiet = "mqtt://127.0.0.1:{}/a/b/c?format=sparkplug&timeout_ms=300"
    with pytest.raises(OutputLost):
        open_output(quiet.format(broker.port))


def test_a_sparkplug_verdict_counts_as_sent_when_the_broker_has_it(broker: Broker) -> None:
    """Quality of service 0 is not acknowledged: a verdict put into the socket of a dead broker was lost."""
    output = open_output(f"mqtt://127.0.0.1:{broker.port}/a/b/c?format=sparkplug&timeout_ms=300")
    output.send(a_verdict(1))
    broker.freeze()
    with pytest.raises(OutputLost):
        output.send(a_verdict(2))
    output.close()


@pytest.mark.parametrize("query", ["", "?format=sparkplug"])
def test_a_station_that_is_killed_leaves_its_last_will(broker: Broker, tmp_path: Path, query: str) -> None:
    topic = "spBv1.0/a/NDEATH/b" if query else "a/b/c/status"
    words = ["--camera", "conveyor:?fps=20", "--engine", str(toy_pair(tmp_path)), "--backend", "onnxruntime"]
    uri = f"mqtt://127.0.0.1:{broker.port}/a/b/c{query}"
    with Listener(broker.port) as somebody:
        command = [*INSPECT, "run", *words, "--plc", uri, "--json"]
        station = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            data = "spBv1.0/a/DDATA/b/c" if query else "a/b/c/verdict"
            assert until(lambda: len(somebody.on(data)) > 3, 60)
            deaths = len(somebody.on("spBv1.0/a/NDEATH/b"))
            station.send_signal(signal.SIGKILL)
        finally:
            station.kill()
            station.wait()
        if not query:
            assert until(lambda: somebody.json_on(topic)[-1] == {"online": False})
            return
        assert deaths == 0 and until(lambda: len(somebody.on(topic)) == 1)
        birth = {m.name: m.value for m in other.NBirth.decode(somebody.on("spBv1.0/a/NBIRTH/b")[-1]).metrics}
        assert other.NDeath.decode(somebody.on(topic)[0]).bd_seq_metric.value == birth["bdSeq"]


def test_a_part_that_is_triggered_over_mqtt_gets_the_verdict_of_its_own_picture(
    broker: Broker, tmp_path: Path
) -> None:
    uri = f"mqtt://127.0.0.1:{broker.port}/s?handshake=ids&{PATIENT}"
    with Listener(broker.port) as somebody, running(tmp_path, uri) as (_, camera, link):
        assert until(
            lambda: somebody.json_on("s/status")[-1:] != [] and somebody.json_on("s/status")[-1]["ready"]
        )
        for n, (part, value) in enumerate([(4711, GOOD), (4712, BAD), (4711, BAD)], 1):
            somebody.say("s/cmd", json.dumps({"command": "trigger", "part_id": part}))
            assert until(lambda n=n: len(somebody.on("s/reply")) == 2 * n - 1)  # type: ignore[misc]
            assert somebody.json_on("s/reply")[-1]["ok"]
            somebody.say("s/cmd", json.dumps({"command": "trigger", "part_id": 9}))
            assert until(lambda n=n: len(somebody.on("s/reply")) == 2 * n)  # type: ignore[misc]
            assert "not taken" in somebody.json_on("s/reply")[-1]["error"]
            camera.put(grey(value + n))
            assert until(lambda n=n: len(somebody.on("s/verdict")) == n)  # type: ignore[misc]
        rows = somebody.json_on("s/verdict")
        assert not link.block()[0] & Status.RESULT_VALID or until(
            lambda: not link.block()[0] & Status.RESULT_VALID
        )
    assert [(row["part_id"], row["outcome"], row["late"]) for row in rows] == [
        (4711, "pass", False), (4712, "fail", False), (4711, "fail", False)
    ]  # fmt: skip
    assert [event.what for event in link.events].count(Happened.TAKEN) == 3


def test_a_verdict_that_no_trigger_waits_for_any_more_is_told_as_late(broker: Broker) -> None:
    """The trigger's connection was lost in between: information is kept, but it answers no part."""
    output = open_output(f"mqtt://127.0.0.1:{broker.port}/s?handshake=ids&{PATIENT}")
    with Listener(broker.port) as somebody:
        output.beat(1, healthy=True)
        output.send(a_verdict(5))
        assert until(lambda: bool(somebody.on("s/verdict")))
        assert somebody.json_on("s/verdict")[0]["late"] is True
        output.close()


def test_a_whole_station_keeps_its_verdicts_until_the_broker_is_there(broker: Broker, tmp_path: Path) -> None:
    """More of them than a PLC's buffer holds, and longer than a PLC would be told."""
    broker.kill()
    uri = f"mqtt://127.0.0.1:{broker.port}/s"
    options = RunOptions(
        "conveyor:?fps=200&count=150", toy_pair(tmp_path), [uri], "onnxruntime", Policy.EVERY
    )
    with station_of(options) as running_station:
        running_station.station.run()
        box, parts = running_station.outboxes[uri], running_station.station.counters.total
        assert parts >= 150 and box.alarm
        broker.start()
        assert until(lambda: box.counters.sent == parts, 30)
        assert box.counters.dropped == box.counters.expired == 0
