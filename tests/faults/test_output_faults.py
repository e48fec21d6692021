"""Wires that break: PLC off and on again, TCP cut in the middle of a frame, serial port gone, disk full."""

import gc
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from peers import LineReader, Wire, a_verdict, plc_client, serial_pair, until

from edge.outputs import output_opener
from edge.outputs.modbus import ModbusServer
from edge.outputs.modbus_settings import server_settings
from edge.outputs.plc_sim import SimulatedPlc
from edge.plc.line_protocol import checksum
from edge.plc.link import PlcLink
from edge.station.outbox import Outbox
from edge.verdict import Outcome


def test_a_plc_that_is_switched_off_and_on_again() -> None:
    """Results go on with the next SEQUENCE; the PLC's memory is cleared before the first new one."""
    plc = SimulatedPlc()
    outbox = Outbox(output_opener(plc.start()), beat_s=0.05, max_age_s=60.0)
    outbox.put(a_verdict(1))
    assert plc.wait_for(1, timeout_s=5)
    plc.close()
    assert until(lambda: outbox.alarm), "the beat notices, although no part comes"
    outbox.put(a_verdict(2, Outcome.FAIL))
    assert not outbox.counters.sent > 1
    plc.start()
    assert plc.wait_for(2, timeout_s=10)
    assert plc.results() == [(1, 1, 1), (2, 2, 2)]
    assert until(lambda: not outbox.alarm)
    outbox.close()
    assert outbox.counters.losses == 1
    plc.close()


# A verdict is three writes: 15 bytes status, 111 bytes data, 15 bytes status. Cut within them, and where a
# whole frame has arrived but its reply is lost (15, 126, 141).
@pytest.mark.parametrize("count", [0, 1, 7, 14, 15, 16, 80, 125, 126, 127, 140, 141])
def test_tcp_cut_at_any_byte_of_a_verdict(count: int) -> None:
    """Cut before, in and after each frame: the part arrives once, and never with another part's verdict."""
    plc = SimulatedPlc()
    uri = plc.start()
    with Wire(int(uri.rpartition(":")[2])) as wire:
        outbox = Outbox(output_opener(f"modbus-tcp://127.0.0.1:{wire.port}"), beat_s=60.0, max_age_s=60.0)
        outbox.put(a_verdict(1))
        assert plc.wait_for(1, timeout_s=5)
        assert until(lambda: outbox.counters.sent == 1)
        wire.cut_after(count)
        outbox.put(a_verdict(2, Outcome.FAIL))
        outbox.put(a_verdict(3))
        assert plc.wait_for(3, timeout_s=10)
        assert plc.results() == [(1, 1, 1), (2, 2, 2), (3, 1, 3)]
        assert plc.register("COUNT_TOTAL") == 3, "what is sent again is not counted again"
        outbox.close()
        assert outbox.counters.losses == 1
    plc.close()


RES = len("RES,1,PASS,0.1234,1,38*HH\r")


@pytest.mark.parametrize("count", [0, 1, 4, 12, RES - 4, RES - 1, RES])
def test_a_line_over_tcp_that_is_cut_at_any_byte(count: int) -> None:
    """The torn line and the first one of the next connection run together: no checksum fits, so no pass."""
    with LineReader() as plc, Wire(plc.port) as wire:
        outbox = Outbox(output_opener(f"tcp://127.0.0.1:{wire.port}"), beat_s=0.05, max_age_s=60.0)
        outbox.put(a_verdict(1))
        assert until(lambda: len(plc.lines) == 1)
        wire.cut_after(count)
        outbox.put(a_verdict(2, Outcome.FAIL))
        assert until(lambda: outbox.counters.losses == 1)
        numbers = iter(range(3, 100))

        def arrived() -> bool:
            outbox.put(a_verdict(next(numbers), Outcome.FAIL))
            return len(whole(plc.lines)) >= 3

        assert until(arrived)
        outbox.close()
        words = {line.split(",")[1]: line.split(",")[2] for line in whole(plc.lines)}
        assert words.pop("1") == "PASS" and set(words.values()) == {"FAIL"}


def whole(lines: list[str]) -> list[str]:
    """Those with the right checksum."""
    parts = [line.rpartition("*") for line in lines]
    return [text for text, _, given in parts if checksum(text) == given]


STRANGE = [b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x01\x00\x00\x00\x06\x01", b"\xff" * 500]


@pytest.mark.parametrize("garbage", STRANGE)
def test_a_stranger_on_the_server_port_disturbs_nobody(garbage: bytes) -> None:
    """A port scanner, a browser, half a frame: the PLC beside it reads on."""
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0"), PlcLink())
    output.send(a_verdict(5))
    with plc_client(output.port) as plc, socket.create_connection(("127.0.0.1", output.port)) as stranger:
        stranger.sendall(garbage)
        assert plc.read_holding_registers(101, 3) == [1, 0, 5]
        stranger.close()
        assert plc.read_holding_registers(101, 3) == [1, 0, 5]
    output.close()


def test_a_pulled_cable_takes_the_verdict_back() -> None:
    """Nothing arrives any more, not even a goodbye: the connection itself is watched, in seconds."""
    alone = ["unshare", "--net"]  # a network of its own, whose cable may be pulled
    if not (shutil.which("unshare") and shutil.which("ip")) or subprocess.run(
        [*alone, "ip", "link", "set", "lo", "up"], check=False, capture_output=True
    ).returncode:  # fmt: skip
        pytest.skip("needs root, unshare (util-linux) and ip (iproute2)")
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    script = [*alone, sys.executable, str(Path(__file__).parent / "cable_pulled.py")]
    ran = subprocess.run(
        script, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert ran.stdout.split()[:2] == ["ready", "cleared"], ran.stderr


def test_a_serial_port_that_is_pulled_out() -> None:
    with serial_pair() as (plc, port):
        outbox = Outbox(output_opener(f"serial://{port}"), beat_s=0.05)
        outbox.put(a_verdict(1))
        assert until(lambda: outbox.counters.sent == 1)
        assert os.read(plc, 4) == b"RES,"
        os.close(plc)
        assert until(lambda: outbox.alarm)
        assert "Check cable" in outbox.last_error
        assert until(lambda: outbox.counters.retries >= 1)
        outbox.close()
        assert outbox.counters.losses == 1


def test_a_plc_that_does_not_read_its_serial_port() -> None:
    """The buffer of the line fills up: the write's time-out ends in an alarm, not in a thread that hangs."""
    with serial_pair() as (_, port):
        outbox = Outbox(output_opener(f"serial://{port}"), capacity=2000)
        for number in range(1500):
            outbox.put(a_verdict(number))
        assert until(lambda: outbox.alarm, timeout_s=10)
        outbox.close(timeout_s=0.1)
        assert outbox.counters.sent + outbox.counters.dropped + outbox.counters.expired == 1500


def test_a_full_disk_is_an_alarm() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    outbox = Outbox(output_opener("jsonl:/dev/full"))
    outbox.put(a_verdict(1))
    assert until(lambda: outbox.alarm)
    assert "space" in outbox.last_error
    outbox.close(timeout_s=0.1)
    assert (outbox.counters.sent, outbox.counters.dropped) == (0, 1)


def test_no_thread_survives_a_broken_output() -> None:
    before = threading.active_count()
    plc = SimulatedPlc()
    outbox = Outbox(output_opener(plc.start()), beat_s=0.05)
    plc.close()
    assert until(lambda: outbox.alarm)
    outbox.close()
    assert until(lambda: threading.active_count() <= before)


def test_a_server_that_ends_while_somebody_connects_frees_every_socket() -> None:
    """pymodbus forgot the connection that was just being made; its socket stayed open until collected."""
    for _ in range(50):
        output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0"), PlcLink())
        with socket.create_connection(("127.0.0.1", output.port), timeout=5.0) as plc:
            output.close()
            with suppress(ConnectionResetError):
                assert plc.recv(1) == b"", "hung up on"
    gc.collect()
