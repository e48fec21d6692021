"""The PLC asks for each picture: a whole station, real links, another library at the PLC's end."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import serial
from faults.test_station_faults import grey
from peers import a_verdict, free_port, null_modem, plc_client, plc_server, until
from toy import toy_pair

from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera, unplugged
from edge.errors import EndOfStream, InspectError
from edge.frame import Shot
from edge.outputs import handshake_of, output_opener
from edge.plc.handshake import Mode
from edge.plc.line_events import Happened
from edge.plc.line_protocol import answer
from edge.plc.link import PlcLink
from edge.plc.program import PlcProgram, Result
from edge.plc.registers import Status
from edge.recipe import load_pair
from edge.station.capture import Capture, Policy
from edge.station.compose import station_of
from edge.station.loop import Station
from edge.station.outbox import Outbox
from edge.station.running import RunOptions
from edge.station.worker import InferenceWorker
from edge.verdict import Reason

Exchange = Callable[[PlcProgram], list[int]]  # one cycle of the PLC; gives the station's block
PARTS = range(70_001, 70_007)
GOOD, BAD = 60, 220  # grey levels


def begun_now(shot: Shot) -> Shot:
    """As a camera gives it that runs free."""
    return replace(shot, begun_ns=time.monotonic_ns())


@contextmanager
def running(folder: Path, uri: str) -> Iterator[tuple[Station, ScriptedCamera, PlcLink]]:
    engine, recipe, artefact = load_pair(toy_pair(folder, deadline_ms=2000.0))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    camera, link = ScriptedCamera(live=True), PlcLink(handshake_of(uri), budget_ns=20_000_000_000)
    with Capture(lambda: camera, "script", read_timeout_s=0.05) as capture:
        station = Station(capture, worker, recipe)
        station.trigger = link
        station.outboxes = [
            Outbox(output_opener(uri, link=link), beat_s=0.05, max_age_s=60.0, is_healthy=station.is_healthy)
        ]
        loop = threading.Thread(target=station.run)
        loop.start()
        try:
            yield station, camera, link
        finally:
            station.stop()
            camera.put(EndOfStream("done"))
            loop.join()
            station.outboxes[0].close()
            worker.close()


@contextmanager
def as_client(uri: str, port: int) -> Iterator[Exchange]:
    """The PLC is the Modbus client."""
    with plc_client(port) as plc:

        def cycle(program: PlcProgram) -> list[int]:
            block = plc.read_holding_registers(100, 50)
            if block is None:  # the station is not there yet
                return [0] * 50
            assert plc.write_multiple_registers(0, program.scan(block))
            return [int(word) for word in block]

        yield cycle


@contextmanager
def as_server(uri: str, port: int) -> Iterator[Exchange]:
    """The PLC is the Modbus server; its program works on its own memory."""
    with plc_server(port) as plc:

        def cycle(program: PlcProgram) -> list[int]:
            block = [int(word) for word in plc.data_bank.get_holding_registers(100, 50)]
            plc.data_bank.set_holding_registers(0, program.scan(block))
            return block

        yield cycle


ROLES = {"modbus-tcp-server": as_client, "modbus-tcp": as_server}


@pytest.mark.parametrize("mode", [Mode.BITS, Mode.IDS])
@pytest.mark.parametrize("role", ROLES)
def test_every_part_gets_the_verdict_of_its_own_picture(tmp_path: Path, role: str, mode: Mode) -> None:
    """Before each trigger the camera, which runs free, has given a picture of the other kind: it must answer
    no part."""
    port, program = free_port(), PlcProgram(mode, patience=10**9)
    uri = f"{role}://127.0.0.1:{port}?handshake={mode.value}"
    with ROLES[role](uri, port) as cycle, running(tmp_path, uri) as (_, camera, link):
        for part in PARTS:
            mine, other = (GOOD, BAD) if part % 2 else (BAD, GOOD)
            camera.put(begun_now(grey(other + part % 7)))
            camera.join()
            program.part_arrives(part)
            assert until(lambda: bool(cycle(program)[0] & Status.BUSY))
            camera.put(begun_now(grey(mine + part % 7)))
            assert until(lambda n=part: cycle(program) and [r[0] for r in program.taken][-1:] == [n])  # type: ignore[misc]
        assert until(lambda: [event.what for event in link.events].count(Happened.TAKEN) == len(PARTS))
    expected: list[Result] = [(part, 1 if part % 2 else 2, n) for n, part in enumerate(PARTS, 1)]
    assert program.taken == expected and program.rejected == []
    told = [event.what for event in link.events]
    assert told.count(Happened.TAKEN) == len(PARTS) and Happened.LATE not in told


def test_a_camera_that_is_lost_takes_ready_away_and_costs_the_part_its_pass(tmp_path: Path) -> None:
    port, program = free_port(), PlcProgram(Mode.BITS, patience=10**9)
    uri = f"modbus-tcp-server://127.0.0.1:{port}?handshake=bits"
    with as_client(uri, port) as cycle, running(tmp_path, uri) as (_, camera, _link):
        assert until(lambda: bool(cycle(program)[0] & Status.READY))
        camera.put(begun_now(grey(GOOD)))
        camera.join()
        program.part_arrives(1)
        assert until(lambda: bool(cycle(program)[0] & Status.BUSY))
        assert until(lambda: cycle(program) and len(program.taken) == 1)
        assert program.taken == [(1, 3, 1)], "no picture came after the trigger"
        for _ in range(20):
            camera.put(unplugged())
        assert until(lambda: not cycle(program)[0] & (Status.READY | Status.ONLINE))


def test_a_serial_line_triggers_and_acknowledges(tmp_path: Path) -> None:
    with null_modem() as (far, near), serial.Serial(far, 115_200, timeout=5.0) as plc:

        def ask(line: str) -> str:
            plc.write(f"{line}\r".encode())
            return read()

        def read() -> str:
            return str(plc.read_until(b"\r").decode().removesuffix("\r"))

        with running(tmp_path, f"serial://{near}?handshake=ids") as (_, camera, link):
            # What came before the port was opened is thrown away with it: a question would get no answer.
            assert until(lambda: bool(link.block()[0] & Status.ONLINE))
            assert until(lambda: plc.write(b"ST\r") and read() == "OK,RUN,1,0,0")
            assert ask("TRG,4711") == "OK,4711"
            assert ask("TRG,4712") == "ER,02"
            assert ask("ST") == "OK,RUN,0,1,0"
            camera.put(grey(GOOD))
            assert read().startswith("RES,4711,PASS,")
            assert ask("TRG") == "OK,2", "the trigger's own number, where the PLC gives none"
            camera.put(grey(BAD))
            assert until(lambda: plc.write(b"ST\r") and read() == "OK,RUN,1,0,0")
            assert ask("ACK,99") == "ER,04"
            assert ask("ACK,4711") == "OK"
            assert read().startswith("RES,2,FAIL,"), "the next one comes when the last one was taken"
            assert [ask("ACK,2"), ask("ACK,2")] == ["OK", "ER,04"]
            assert [ask("CNT"), ask("RST"), ask("CNT")] == ["OK,2,1,1,0", "OK", "OK,0,0,0,0"]


def test_run_takes_its_trigger_from_the_output_with_a_handshake(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    port = free_port()
    asking, free = f"modbus-tcp-server://127.0.0.1:{port}?handshake=bits", f"jsonl:{tmp_path / 'out.jsonl'}"
    with station_of(RunOptions("conveyor:?fps=50", engine, [asking, free])) as running_station:
        station = running_station.station
        assert isinstance(station.trigger, PlcLink) and station.trigger.wait(0.0) is None
    with (
        pytest.raises(InspectError, match="two PLCs"),
        station_of(RunOptions("conveyor:?fps=50", engine, [asking, "serial:///dev/none?handshake=ids"])),
    ):
        pass


def test_ready_waits_for_the_loop(tmp_path: Path) -> None:
    """The story: a second camera's engine took seconds to start. The PLC was told READY before and triggered;
    the gate did not hear of that part, and the pulse that would have rejected it never came."""
    uri = f"modbus-tcp-server://127.0.0.1:{free_port()}?handshake=ids"
    with station_of(RunOptions("conveyor:?fps=50", toy_pair(tmp_path), [uri])) as running_station:
        station = running_station.station
        assert until(lambda: station.capture.connected, 20.0) and station.worker.ready
        assert not station.is_healthy(time.monotonic_ns())
        loop = threading.Thread(target=station.run)
        loop.start()
        healthy = until(lambda: station.is_healthy(time.monotonic_ns()), 20.0)
        station.stop()
        loop.join()
    assert healthy


def test_a_signal_on_a_busy_machine_does_not_keep_the_loop_waiting() -> None:
    """The story: SIGTERM came while the loop waited for a trigger, and its handler waited for other threads
    until the time was over: the queue then waited for ever, and the station did not end."""
    link, before = PlcLink(Mode.IDS), signal.getsignal(signal.SIGUSR1)
    link.beat(1, True)
    main = threading.get_ident()
    knock = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
    rescue = threading.Timer(20.0, lambda: [link.act(partial(answer, text)) for text in ("HB", "TRG,7")])
    signal.signal(signal.SIGUSR1, lambda number, frame: time.sleep(0.5))
    try:
        knock.start()
        rescue.start()
        assert link.wait(0.3) is None
    finally:
        rescue.cancel()
        knock.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_policy_that_a_trigger_overrules_is_told(tmp_path: Path) -> None:
    engine, said = toy_pair(tmp_path), list[str]()
    for handshake, told in (("", 0), ("?handshake=ids", 1)):
        uri = f"modbus-tcp-server://127.0.0.1:{free_port()}{handshake}"
        with station_of(RunOptions("conveyor:?fps=50", engine, [uri], policy=Policy.EVERY), say=said.append):
            assert [text.startswith("--policy every") for text in said] == [True] * told


@pytest.mark.parametrize("uri", ["modbus-tcp://plc?handshake=both", "serial:///dev/x?handshake=bits"])
def test_a_handshake_nobody_knows_is_refused(uri: str) -> None:
    with pytest.raises(InspectError, match="handshake="):
        output_opener(uri)


def test_a_driver_that_hangs_stops_the_heartbeat(tmp_path: Path) -> None:
    """The story: the loop turned on and beat, while the camera's driver had not come back for minutes."""
    gate = threading.Event()

    def stuck() -> object:
        gate.wait()
        raise EndOfStream("done")

    with ExitStack() as stack:
        stack.callback(gate.set)
        camera = ScriptedCamera([grey(GOOD), stuck], live=True)  # type: ignore[list-item]
        capture = stack.enter_context(Capture(lambda: camera, "script", read_timeout_s=0.05))
        frame = capture.next(5.0)
        assert not isinstance(frame, Reason)
        assert not capture.hangs(frame.captured_ns + 3_000_000_000)
        assert capture.hangs(frame.captured_ns + 3_100_000_000)
        gate.set()


def test_what_was_taken_back_is_not_written_any_more() -> None:
    """The story: the answer to ACK took long on a slow line, the station stalled, then came the next RES."""
    link = PlcLink(Mode.IDS)
    link.beat(1, True)
    answers = [link.act(partial(answer, line)) for line in ("HB", "TRG,7")]
    assert answers == [b"OK\r", b"OK,7\r"]
    request = link.wait(0.0)
    assert request is not None
    link.publish(replace(a_verdict(1), part_id=7, request=request.number))
    assert [event.what for event in link.events][-1] is Happened.SHOWN
    link.beat(1, False)
    assert link.take_shown() == []
