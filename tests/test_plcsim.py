"""plc-sim against real stations, right ones and wrong ones, over every wire it knows."""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from mqtt_broker import Broker
from peers import JUDGED, TcpPlc, free_port, null_modem, plc_client, tcp_plc, until
from rich.console import Console

from edge.demo.show import ENGINE
from edge.errors import InspectError
from edge.outputs import handshake_of, output_opener
from edge.plc.line_protocol import checksum
from edge.plc.link import PlcLink
from edge.plc.registers import Status, VerdictCode
from edge.plcsim import Mistake, Peer, peer_opener
from edge.plcsim.screen import Screen
from edge.plcsim.tally import Tally
from edge.station.outbox import Outbox
from edge.trigger import Request
from edge.verdict import Outcome, Verdict

INSPECT = [sys.executable, "-c", "from edge.cli import main; main()"]
PARTS = range(70_001, 70_007)


class Watch:
    """A peer that is scanned by hand."""

    def __init__(self, uri: str) -> None:
        self.peer: Peer = peer_opener(uri, handshake_of(uri))()
        self.tally, self.said = Tally(handshake_of(uri)), list[str]()
        self.ahead_s = 0.0  # of the clock: seconds that a test need not wait

    def scan(self) -> Tally:
        now_ns = time.monotonic_ns() + int(self.ahead_s * 1e9)
        self.said += self.tally.add(self.peer.scan(now_ns), now_ns)
        return self.tally

    def until(self, condition: Callable[[Tally], object], timeout_s: float = 60.0) -> None:
        assert until(lambda: bool(condition(self.scan())), timeout_s), self.said

    def close(self) -> None:
        self.peer.close()


def judged(request: Request, frame: int) -> Verdict:
    """Odd parts are good."""
    outcome = Outcome.PASS if (request.part_id or 0) % 2 else Outcome.FAIL
    reason, score = JUDGED[outcome]
    now = time.monotonic_ns()
    return Verdict(
        frame, request.part_id, outcome, reason, score, 0.5, "widget@abcd12345678", now, now,
        request=request.number,
    )  # fmt: skip


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Outbox, output and handshake of a station, with a camera and a model that take no time."""
    link, ends = PlcLink(handshake_of(uri)), threading.Event()
    outbox = Outbox(output_opener(uri, link=link), beat_s=0.05)

    def judge() -> None:
        frame = 0
        while not ends.is_set():
            if request := link.wait(0.05):
                frame += 1
                outbox.put(judged(request, frame))

    loop = threading.Thread(target=judge)
    loop.start()
    try:
        begun = until(lambda: outbox.alarm or bool(link.block()[0] & Status.ONLINE), 60)
        assert begun, "it has beaten once"
        yield
    finally:
        ends.set()
        loop.join()
        outbox.close()


WIRES = [
    "modbus-tcp://127.0.0.1:{port}?handshake=bits",
    "modbus-tcp://127.0.0.1:{port}?handshake=ids&word_order=little",
    "modbus-tcp-server://127.0.0.1:{port}?handshake=bits",
    "modbus-tcp-server://0.0.0.0:{port}?handshake=ids",
    "modbus-tcp://127.0.0.1:{port}?handshake=ids&byte_order=little",
    "modbus-tcp-io://127.0.0.1:{port}?ready=0&ok=1&ng=2&fault=3&trigger=16&pulse_ms=20",
    "s7://127.0.0.1:{port}?handshake=bits",
    "s7://127.0.0.1:{port}?db=7&start=40&handshake=ids",
    "serial:pty?handshake=ids",
    "serial:pty?handshake=ids&dialect=trig",
    "tcp://127.0.0.1:{port}?handshake=ids",
    "tcp://127.0.0.1:{port}?handshake=ids&dialect=plain",
    "tcp-server://0.0.0.0:{port}?handshake=ids",
    "tcp-server://127.0.0.1:{port}?handshake=ids&dialect=gardasoft",
    "mqtt://127.0.0.1:{broker}/plant/line3?handshake=ids",
    "opc-ua://0.0.0.0:{port}?security=none&handshake=ids",
]


@contextmanager
def filled(wire: str, folder: Path) -> Iterator[str]:
    """With what it needs beside the station: a free port, a password, a broker."""
    secret = folder / "password"
    secret.write_text("blue parrot\n")
    secret.chmod(0o600)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(folder)).port if "{broker}" in wire else 0
        yield wire.format(port=free_port(), broker=broker, folder=folder)


@pytest.mark.parametrize("wire", WIRES)
def test_a_right_station_gets_every_part_judged_without_a_mistake(wire: str, tmp_path: Path) -> None:
    with (
        filled(wire, tmp_path) as uri,
        closing(Watch(uri)) as plc,
        answering(plc.peer.station),
    ):
        plc.until(lambda tally: tally.connected)
        for part in PARTS:
            plc.peer.part_arrives(part)
        plc.until(lambda tally: tally.done == len(PARTS))
    tally = plc.tally
    assert tally.ok and tally.triggers == len(PARTS), plc.said
    got = {taken.part_id: taken.verdict for taken, _ in tally.results}
    assert list(got) == list(PARTS), "numbers that come back shortened are the PLC's own"
    if "dialect" not in wire or "gardasoft" in wire:  # the others give their parts numbers of their own
        assert got == {n: VerdictCode.PASS if n % 2 else VerdictCode.FAIL for n in PARTS}


def test_free_run_is_watched_too() -> None:
    """Without a handshake nothing is triggered; every step of SEQUENCE is a result."""
    with closing(Watch("modbus-tcp://127.0.0.1:0")) as plc:
        outbox = Outbox(output_opener(plc.peer.station), beat_s=0.05)
        plc.until(lambda tally: tally.connected)
        for number in range(1, 6):
            outbox.put(judged(Request(part_id=number), number))
        plc.until(lambda tally: tally.done == 5)
        outbox.close()
    assert plc.tally.ok and not plc.tally.triggers


def test_a_station_that_goes_costs_its_parts_and_may_come_back() -> None:
    uri = f"tcp-server://127.0.0.1:{free_port()}?handshake=ids"
    with closing(Watch(uri)) as plc:
        for _ in range(2):
            with answering(uri):
                plc.until(lambda tally: tally.connected)
            plc.until(lambda tally: not tally.connected)
        assert plc.tally.connections == 2
        assert plc.said == ["the station is there", "the station is gone"] * 2


@pytest.mark.parametrize("scheme", ["tcp", "tcp-server", "modbus-tcp", "modbus-tcp-server"])
def test_a_station_that_runs_free_is_named_as_the_first_mistake(scheme: str) -> None:
    """The story: hundreds of verdicts for another part, no trigger, and the cause was never said."""
    uri = f"{scheme}://127.0.0.1:{free_port()}"
    with closing(Watch(f"{uri}?handshake=ids")) as watch:
        outbox, count = Outbox(output_opener(uri), beat_s=0.05), itertools.count(1)
        watch.until(lambda tally: tally.connected)
        watch.peer.part_arrives(PARTS[0])

        def found(tally: Tally) -> bool:
            outbox.put(judged(Request(part_id=None), next(count)))
            return bool(tally.mistakes)

        watch.until(found)
        outbox.close()
    assert watch.tally.mistakes.keys() == {Mistake.UNASKED} and not watch.tally.triggers, watch.said
    assert any("start the station with handshake=" in line for line in watch.said)


@pytest.mark.parametrize(("station", "plc"), [("ids", Mistake.NOT_CLEARED), ("bits", Mistake.NO_TRIGGER_ACK)])
def test_a_station_with_the_other_handshake_is_found_out(station: str, plc: Mistake) -> None:
    """The story: bits here, ids there, and all was well; a real PLC waited for ever."""
    uri = f"modbus-tcp-server://127.0.0.1:{free_port()}?handshake="
    other = {"ids": "bits", "bits": "ids"}[station]
    with closing(Watch(uri + other)) as watch, answering(uri + station):
        watch.until(lambda tally: tally.connected)
        watch.peer.part_arrives(PARTS[0])
        watch.until(lambda tally: tally.mistakes[plc])
    assert any("handshake=" in line for line in watch.said if "MISTAKE" in line), watch.said


def test_a_wrong_station_over_modbus_is_found_out() -> None:
    """Another library writes what no station should: the valid bit first, then another part's pass."""
    port = free_port()
    plc = Watch(f"modbus-tcp://127.0.0.1:{port}?handshake=bits")
    with closing(plc), plc_client(port) as station:
        assert station.write_multiple_registers(117, [1, 0x1234])
        assert station.write_multiple_registers(134, [0x3F80, 0])
        assert station.write_single_register(100, 0b0_0011)
        plc.peer.part_arrives(70_001)
        plc.until(lambda tally: tally.triggers == 1)
        assert station.read_holding_registers(0, 3) == [0b11, 1, 70_001 - 65_536], "ENABLE and TRIGGER"
        assert station.write_single_register(100, 0b1_0101)
        assert station.write_multiple_registers(101, [1, 1, 70_002 - 65_536, 1])
        assert station.write_single_register(100, 0b11_0001)
        plc.until(lambda tally: tally.done)
    assert {Mistake.EARLY, Mistake.OTHER_PART} <= set(plc.tally.mistakes), plc.said
    assert plc.tally.missed == 1 and not plc.tally.ok, "part 70001 never got a result"
    assert any("70002" in line and "70001" in line for line in plc.said)


def test_a_wrong_station_on_four_wires_is_found_out() -> None:
    """Another library switches coils as no station should: both pulses at once, and a pulse for nobody."""
    port, ready, ok, ng, fault = free_port(), 0, 1, 2, 3
    uri = f"modbus-tcp-io://127.0.0.1:{port}?ready=0&ok=1&ng=2&fault=3&trigger=16"
    with closing(Watch(uri)) as plc, plc_client(port) as station:
        assert station.write_single_coil(fault, True) and station.write_single_coil(ready, True)
        plc.peer.part_arrives(70_001)
        plc.until(lambda tally: tally.triggers == 1)
        assert station.read_discrete_inputs(16) == [True], "the trigger stands until READY falls"
        assert station.write_single_coil(ready, False)
        plc.until(lambda tally: station.read_discrete_inputs(16) == [False])
        assert station.write_single_coil(ng, True) and station.write_single_coil(ok, True)
        plc.until(lambda tally: tally.mistakes[Mistake.OTHER_PART])
        assert station.write_multiple_coils(ok, [False, False, False])
        assert station.write_single_coil(ok, True)
        plc.until(lambda tally: tally.mistakes[Mistake.CONTRADICTION] == 2)
        plc.ahead_s = 4.0
        plc.until(lambda tally: not tally.connected)
    assert plc.tally.verdicts == {VerdictCode.FAIL: 2, VerdictCode.NO_DECISION: 1}, plc.said


def test_over_opc_ua_a_wrong_password_is_said_at_once_and_the_right_one_works(tmp_path: Path) -> None:
    wire = "opc-ua://127.0.0.1:{port}?password_file={folder}/password&certificates={folder}&handshake=ids"
    other = tmp_path / "other"
    other.write_text("red parrot\n")
    other.chmod(0o600)
    with filled(wire, tmp_path) as uri, answering(uri):
        wrong = Watch(uri.replace("/password&", "/other&"))
        with closing(wrong), pytest.raises(InspectError, match="refuses user or password"):
            wrong.until(lambda tally: False)
        with closing(Watch(uri)) as plc:
            plc.until(lambda tally: tally.connected)
            plc.peer.part_arrives(70_001)
            plc.until(lambda tally: tally.done)
        assert plc.tally.ok, plc.said


def test_a_broker_that_goes_costs_the_parts_and_may_come_back(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, closing(Watch(f"mqtt://127.0.0.1:{broker.port}/s?handshake=ids")) as plc:
        with answering(plc.peer.station):
            plc.until(lambda tally: tally.connected)
            broker.kill()
            plc.until(lambda tally: not tally.connected)
            broker.start()
            plc.until(lambda tally: tally.connected)
            plc.peer.part_arrives(70_001)
            plc.until(lambda tally: tally.done == 1)
        plc.until(lambda tally: not tally.connected)
        assert plc.tally.ok and plc.tally.connections == 2, plc.said


@contextmanager
def by_hand(handshake: str = "ids") -> Iterator[tuple[Watch, TcpPlc]]:
    """A station that is typed by hand, one line after the other."""
    port = free_port()
    with closing(Watch(f"tcp://127.0.0.1:{port}?handshake={handshake}")) as plc, tcp_plc(port) as station:
        answer(plc, station, "ST")
        plc.until(lambda tally: tally.connected)
        yield plc, station


def answer(plc: Watch, station: TcpPlc, question: str, *lines: str) -> None:
    """Wait for it, answering HB and ST meanwhile; then say the lines, with their checksums."""
    heard: list[str] = []

    def came() -> bool:
        plc.scan()
        line = station.line(0.0)
        if line is None:
            return False
        heard.append(line.partition("*")[0])
        if heard[-1] in ("HB", "ST"):
            said = "OK,RUN,1,0,0" if heard[-1] == "ST" else "OK"
            station.say(f"{said}*{checksum(said)}")
        return heard[-1] == question

    assert until(came), (heard, plc.said)
    for line in lines:
        station.say(f"{line}*{checksum(line)}")


def test_a_wrong_station_on_a_line_is_found_out() -> None:
    with by_hand() as (plc, station):
        plc.peer.part_arrives(7)
        answer(plc, station, "TRG,7", "OK,7", "RES,8,PASS,0.1000,1,12")
        plc.until(lambda tally: tally.mistakes[Mistake.OTHER_PART])
        answer(plc, station, "ACK,8", "ER,04", "RES,7,PASS,-,1,12")
        plc.until(lambda tally: tally.mistakes[Mistake.CONTRADICTION])
        station.say("RES,7,PASS,0.1000,1,12*00")
        plc.until(lambda tally: tally.mistakes[Mistake.CHECKSUM])
        station.say(f"NONSENSE*{checksum('NONSENSE')}")
        plc.until(lambda tally: tally.mistakes[Mistake.BAD_LINE] == 2)
        assert plc.tally.verdicts == {VerdictCode.PASS: 1}, "of part 8, which is wrong; none of part 7"
        assert "'RES,8,PASS,0.1000,1,12*" in next(line for line in plc.said if "another part" in line)


def test_a_station_that_does_not_know_of_the_handshake_is_told_apart() -> None:
    with by_hand() as (plc, station):
        plc.peer.part_arrives(7)
        answer(plc, station, "TRG,7", "ER,04")
        plc.until(lambda tally: tally.mistakes[Mistake.BAD_LINE])
        assert "runs free" in plc.said[-1]


def test_a_station_that_falls_silent_is_told_of_and_its_part_rejected() -> None:
    with by_hand() as (plc, station):
        plc.peer.part_arrives(7)
        answer(plc, station, "TRG,7", "OK,7")
        plc.until(lambda tally: station.line(0.0))
        for _ in range(31):
            plc.ahead_s += 0.1
            plc.scan()
        plc.until(lambda tally: tally.mistakes[Mistake.NO_HEARTBEAT])
        assert plc.tally.missed == 1 and not plc.tally.connected


def test_the_screen_shows_signals_results_and_mistakes() -> None:
    with by_hand() as (plc, station):
        plc.peer.part_arrives(7)
        answer(plc, station, "TRG,7", "OK,7", "RES,8,PASS,0.1000,1,12")
        plc.until(lambda tally: tally.mistakes)
        console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
        console.print(Screen(plc.peer, plc.tally))
        text = console.export_text()
        console.file.close()
    assert re.search(r"TRIGGER_ID +\|0 +\|7", text)
    assert re.search(r"│ 8 +│ PASS", text)
    assert "1 x verdict for another part" in text
    assert all(len(line) <= 100 for line in text.splitlines())


# The command, as typed


def simulate(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*INSPECT, "plc-sim", *map(str, words)], capture_output=True, text=True, timeout=100
    )


@pytest.mark.parametrize(
    "uri",
    [
        "modbus-tcp-server://127.0.0.1:{port}?handshake=bits",
        "tcp://127.0.0.1:{port}?handshake=ids",
        "mqtt://127.0.0.1:{broker}/plant/line3?handshake=ids",
    ],
)
def test_the_command_against_a_whole_station(uri: str, tmp_path: Path) -> None:
    """Two processes on loopback: camera, model, verdicts here; the PLC there."""
    words = ["--camera", "conveyor:?fps=20&defects=0.3", "--engine", ENGINE, "--backend", "onnxruntime"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    with (
        filled(uri, tmp_path) as both,
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [*INSPECT, "run", *map(str, words), "--plc", both], stdout=log, stderr=log, env=environment
        ) as station,
    ):
        ended = simulate(both, "--parts", 5, "--rate", 20, "--json")
        station.terminate()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["triggers"], summary["verdicts"], summary["missed"]) == (5, 5, 0)
    assert (summary["mismatched"], summary["mistakes"], summary["ok"]) == (0, {}, True)
    assert summary["pass"] + summary["fail"] + summary["no_decision"] == 5


def test_the_command_says_what_is_wrong() -> None:
    port = free_port()
    nobody = simulate(f"modbus-tcp://127.0.0.1:{port}", "--handshake", "bits", "--wait", 0.1)
    assert nobody.returncode == 5
    assert f"no station came within 0.1 s (modbus-tcp://127.0.0.1:{port})" in nobody.stderr
    assert f"start the station with --plc 'modbus-tcp://127.0.0.1:{port}?handshake=bits'" in nobody.stderr
    twice = simulate(f"modbus-tcp://127.0.0.1:{port}?handshake=ids", "--handshake", "bits")
    assert twice.returncode == 2 and "Say it once" in twice.stderr


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("jsonl:-", "does not speak"),
        ("modbus-tcp://127.0.0.1:0?offset=5", "keeps the blocks"),
        ("modbus-tcp://192.0.2.1:5020", "cannot listen"),
        ("tcp://192.0.2.1:2115", "cannot listen"),
        ("s7://192.0.2.1:1102", "cannot listen"),
        ("serial:///dev/no-such-port", "cannot open"),
        ("tcp://127.0.0.1:0?handshake=bits", "handshake=bits"),
        ("modbus-rtu:///dev/no-such-port", "cannot listen"),
        ("modbus-tcp-io://127.0.0.1:0?ok=1&fault=3", "looks at READY, OK, NG and FAULT"),
        ("modbus-tcp-io://127.0.0.1:0?ready=0&ok=1&ng=2&fault=3&trigger=1", "one row of numbers"),
        ("mqtt://127.0.0.1:1/plant", "cannot be reached"),
        ("mqtt://127.0.0.1:1/group/node/device?format=sparkplug", "not Sparkplug"),
        ("opc-ua://127.0.0.1:4840?handshake=bits", "handshake=bits"),
        ("ethernet-ip://127.0.0.1/0", "does not speak"),
    ],
)
def test_what_cannot_be_simulated(uri: str, fault: str) -> None:
    with pytest.raises(Exception, match=fault):
        peer_opener(uri, handshake_of(uri))()


RTU = "baud=115200&parity=none"  # a pseudo-terminal has no parity


@pytest.mark.parametrize(
    "wire",
    [
        "serial://{}?handshake=ids",
        f"modbus-rtu://{{}}?{RTU}&handshake=bits&byte_order=little",
        f"modbus-rtu-server://{{}}?{RTU}&handshake=ids&unit=7",
        f"modbus-rtu-io://{{}}?{RTU}&ready=0&ok=1&ng=2&fault=3&trigger=16&pulse_ms=50",
    ],
)
def test_a_cable_may_be_real_at_the_plc_s_end(wire: str) -> None:
    with null_modem() as (far, near), closing(Watch(wire.format(far))) as plc, answering(wire.format(near)):
        plc.until(lambda tally: tally.connected)
        for part in (70_001, 70_002):
            plc.peer.part_arrives(part)
        plc.until(lambda tally: tally.done == 2)
    assert plc.tally.ok, plc.said
    assert [taken.verdict for taken, _ in plc.tally.results] == [VerdictCode.PASS, VerdictCode.FAIL]
