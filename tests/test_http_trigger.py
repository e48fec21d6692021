"""HTTP triggers: one question, one part, one verdict; real sockets, another library at the other end."""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peers import a_verdict, free_port, plc_client, until
from rich.console import Console
from test_orders import BAD, GOOD, write
from toy import toy_pair

from edge.engines.choice import Choice
from edge.errors import InspectError
from edge.plc.registers import PLC_COUNT, Control, GateBits
from edge.station.compose import station_of
from edge.station.dry_run import dry_run
from edge.station.http_trigger import CLIENTS, LONGEST_BODY, HttpTrigger
from edge.station.line import LineOptions
from edge.station.live import summary_table
from edge.station.running import RunOptions
from edge.verdict import Reason

JSON = {"Content-Type": "application/json"}
PATIENCE = 30.0


def send(port: int, body: object = None, path: str = "/trigger", **headers: str) -> tuple[int, Any]:
    """One POST; status and what came with it."""
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, data, {**JSON, **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@contextmanager
def listening(healthy: bool = True, budget_s: float = PATIENCE) -> Iterator[HttpTrigger]:
    trigger = HttpTrigger("http://127.0.0.1:0", lambda now_ns: healthy, int(budget_s * 1e9))
    try:
        yield trigger
    finally:
        trigger.close()
        trigger.close()


@contextmanager
def in_background(what: Callable[[], tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    answers: list[tuple[int, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(what()))
    thread.start()
    yield answers
    thread.join()


@pytest.mark.parametrize(
    ("shots", "outcomes"), [(1, ["pass", "fail", "pass"]), (2, ["fail", "fail", "pass"])]
)
def test_run_answers_each_question_with_its_own_part_s_verdict(
    tmp_path: Path, shots: int, outcomes: list[str]
) -> None:
    """A folder gives the pictures in turn; with two shots a part, one bad one of them fails it."""
    pictures = write(tmp_path / "line", *((GOOD, BAD, 61) if shots == 1 else (GOOD, BAD, BAD, 61, 62, 63)))
    options = LineOptions("http://127.0.0.1:0", shots)
    with station_of(
        RunOptions(str(pictures), toy_pair(tmp_path), (), "onnxruntime", line=options)
    ) as running:
        trigger = running.station.trigger
        assert isinstance(trigger, HttpTrigger)
        loop = threading.Thread(target=running.station.run, args=(3,))
        loop.start()
        assert until(lambda: running.station.is_healthy(time.monotonic_ns()), PATIENCE)
        answers = [send(trigger.port, {"part_id": part}) for part in (70_001, 70_002)]
        answers.append(send(trigger.port))
        loop.join()
    assert [status for status, _ in answers] == [200] * 3
    assert [answer["outcome"] for _, answer in answers] == outcomes
    assert [answer["part_id"] for _, answer in answers] == [70_001, 70_002, 70_003], (
        "without a number: the next one, which nobody has had"
    )


def test_a_dry_run_finds_that_the_port_is_taken(tmp_path: Path) -> None:
    """The story: the dry run said ok, and the run refused to start."""
    with listening() as other:
        line = LineOptions(f"http://127.0.0.1:{other.port}")
        options = RunOptions("conveyor:", toy_pair(tmp_path), (), "onnxruntime", line=line)
        taken = [check for check in dry_run(options) if check.error]
    assert [check.what for check in taken] == ["line"] and "cannot listen" in taken[0].detail
    assert [check.what for check in dry_run(options) if check.error] == []


def test_pictures_that_nobody_asked_for_are_no_loss(tmp_path: Path) -> None:
    """The story: with a handshake the summary said "dropped 254", and nothing was lost."""
    for trigger, word in (("http://127.0.0.1:0", "not asked for"), ("", "dropped")):
        line = LineOptions(trigger)
        options = RunOptions("conveyor:?fps=50", toy_pair(tmp_path), (), "onnxruntime", line=line)
        with station_of(options) as running:
            capture = running.station.capture
            assert until(lambda capture=capture: capture.counters.dropped > 2, PATIENCE)
            screen = Console(file=io.StringIO(), width=200)
            screen.print(summary_table(running))
        shown = screen.file.getvalue()  # type: ignore[attr-defined]
        assert word in shown and ("dropped" in shown) == (word == "dropped")


def test_two_cameras_look_at_one_part_and_each_has_its_own_engine(tmp_path: Path) -> None:
    """The side's engine stops what the top's passes; its heat maps lie in a folder of their own."""
    top, side = write(tmp_path / "top", 60, 61, BAD), write(tmp_path / "side", 62, 100, 63)
    strict = Choice(toy_pair(tmp_path, "strict", review=0.8, fail=0.9), "onnxruntime")
    line = LineOptions("http://127.0.0.1:0", views=[(str(side), strict)])
    options = RunOptions(str(top), toy_pair(tmp_path), (), "onnxruntime", save=tmp_path / "heat", line=line)
    with station_of(options) as running:
        trigger = running.station.trigger
        assert isinstance(trigger, HttpTrigger)
        loop = threading.Thread(target=running.station.run, args=(3,))
        loop.start()
        assert until(lambda: running.station.is_healthy(time.monotonic_ns()), PATIENCE)
        answers = [send(trigger.port)[1] for _ in range(3)]
        loop.join()
    assert [(a["outcome"], a["recipe"].partition("@")[0]) for a in answers] == [
        ("pass", "strict"), ("fail", "strict"), ("fail", "toy"),
    ]  # fmt: skip
    assert [a["threshold"] for a in answers] == [0.8, 0.8, 1.5]
    assert len(list((tmp_path / "heat" / "camera-2").glob("*.jpg"))) == 1
    assert [check.what for check in dry_run(options) if check.error] == []


def test_a_line_that_has_to_stop_takes_no_part_until_somebody_has_looked(tmp_path: Path) -> None:
    """The story: LINE_STOP stood in register GATE, and by HTTP the station went on judging."""
    port, pictures = free_port(), write(tmp_path / "line", BAD)
    line = LineOptions("http://127.0.0.1:0", gate="distance=100ms,tolerance=20ms,rejects=2")
    outputs = [f"modbus-tcp-server://127.0.0.1:{port}"]
    run = RunOptions(f"{pictures}?loop=1", toy_pair(tmp_path), outputs, "onnxruntime", line=line)
    with station_of(run) as running, plc_client(port) as plc:
        trigger = running.station.trigger
        assert isinstance(trigger, HttpTrigger)
        loop = threading.Thread(target=running.station.run)
        loop.start()
        try:
            assert until(lambda: trigger.health()[0] == 200, PATIENCE), "the camera is there"
            assert until(lambda: send(trigger.port)[0] == 503, PATIENCE), "rejects in a row"
            assert until(lambda: plc.read_holding_registers(136) == [GateBits.LINE_STOP])
            assert plc.read_holding_registers(111) == [Reason.REJECTS_IN_A_ROW]
            assert (send(trigger.port)[0], trigger.health()[0]) == (503, 503)
            assert plc.write_multiple_registers(0, [0] * PLC_COUNT)
            assert plc.write_single_register(0, Control.CLEAR_ERROR)
            assert until(lambda: trigger.health()[0] == 200), "the gate is looked at every few ms"
            assert send(trigger.port)[0] == 200
        finally:
            running.station.stop()
            loop.join()


def test_a_second_question_is_refused_until_the_first_has_its_verdict() -> None:
    with listening() as trigger, in_background(lambda: send(trigger.port, {"part_id": 7})) as answers:
        request = trigger.wait(PATIENCE)
        assert request is not None and request.part_id == 7
        assert send(trigger.port, {"part_id": 8})[0] == 409
        trigger.put(replace(a_verdict(1), request=99))  # of another one
        assert trigger.wait(0.0) is None and answers == []
        trigger.put(replace(a_verdict(1), part_id=7, request=request.number))
        assert until(lambda: bool(answers), PATIENCE)
        assert (answers[0][0], answers[0][1]["part_id"]) == (200, 7)


def test_no_verdict_in_time_is_told_and_a_late_one_answers_nobody() -> None:
    with listening(budget_s=0.05) as trigger:
        assert send(trigger.port)[0] == 504
        assert trigger.wait(0.0) is None, "nobody waits for it any more"
        trigger.put(replace(a_verdict(1), request=1))
        assert send(trigger.port)[0] == 504


def test_a_station_that_cannot_judge_says_so_and_triggers_nothing() -> None:
    with listening(healthy=False) as trigger:
        assert send(trigger.port)[0] == 503
        assert trigger.wait(0.0) is None
        connection = http.client.HTTPConnection("127.0.0.1", trigger.port, timeout=PATIENCE)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (503, {"ready": False})
        connection.close()


def test_a_browser_that_opens_the_trigger_is_told_how_it_is_asked() -> None:
    with listening() as trigger:
        connection = http.client.HTTPConnection("127.0.0.1", trigger.port, timeout=PATIENCE)
        connection.request("GET", "/trigger")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Allow")) == (405, "POST")
        assert json.loads(answer.read()) == {"error": "POST /trigger"}
        connection.close()
        assert trigger.wait(0.0) is None


@pytest.mark.parametrize(("body", "headers", "status"), [
    (b"", {"Content-Type": "text/plain"}, 415), (b"", {"Content-Length": "x"}, 411),
    (b"", {"Content-Length": "-1"}, 411), (b"", {"Content-Length": str(LONGEST_BODY + 1)}, 413),
    (b"", {"Content-Length": "9" * 30}, 413), (b"{", {}, 400), (b"[" * 1000, {}, 400), (b"7", {}, 400),
    (b"\xff\xfe", {}, 400), (b'{"part": 7}', {}, 400), (b'{"part_id": -1}', {}, 400),
    (b'{"part_id": 4294967296}', {}, 400), (b'{"part_id": 1.5}', {}, 400), (b'{"part_id": true}', {}, 400),
])  # fmt: skip
def test_what_cannot_be_understood_is_refused_and_triggers_nothing(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    with listening() as trigger:
        assert send(trigger.port, body, **headers)[0] == status
        assert send(trigger.port, path="/")[0] == 404
        assert trigger.wait(0.0) is None


def test_clients_that_say_nothing_are_counted_and_hung_up_on() -> None:
    """The story: a port scanner kept connections open, and no part could be triggered any more."""
    with listening() as trigger:
        trigger.allow(-4_900_000_000)  # together with the time to read: 0.1 s
        silent = [socket.create_connection(("127.0.0.1", trigger.port), PATIENCE) for _ in range(CLIENTS)]
        for each in silent:
            with suppress(ConnectionResetError):
                assert each.recv(1) == b"", "hung up on"
            each.close()
        trigger.allow(int(PATIENCE * 1e9))
        with in_background(lambda: send(trigger.port)) as answers:
            request = trigger.wait(PATIENCE)
            assert request is not None
            trigger.put(replace(a_verdict(1), request=request.number))
            assert until(lambda: bool(answers), PATIENCE) and answers[0][0] == 200


def test_more_clients_than_there_is_room_for_are_sent_away() -> None:
    with listening() as trigger:
        held = [socket.create_connection(("127.0.0.1", trigger.port), PATIENCE) for _ in range(CLIENTS)]
        with socket.create_connection(("127.0.0.1", trigger.port), PATIENCE) as one_more:
            assert one_more.recv(100).startswith(b"HTTP/1.1 429 ")
        for each in held:
            each.close()


def test_without_a_host_it_listens_on_this_machine_alone() -> None:
    trigger = HttpTrigger("http://:0", lambda now_ns: True, 10**9)
    try:
        assert trigger._server.server_address[0] == "127.0.0.1"
        with pytest.raises(InspectError, match="cannot listen"):
            HttpTrigger(f"http://127.0.0.1:{trigger.port}", lambda now_ns: True, 10**9)
    finally:
        trigger.close()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:x", "http://127.0.0.1:80/path", "http://a:b@127.0.0.1"])
def test_an_address_that_cannot_be_read_is_refused(uri: str) -> None:
    with pytest.raises(InspectError, match="cannot be read"):
        HttpTrigger(uri, lambda now_ns: True, 10**9)
