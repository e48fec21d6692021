"""S7 and EtherNet/IP against real servers in their own process, which hold both blocks in memory."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from faults.test_station_faults import grey
from hypothesis import given
from hypothesis import strategies as st
from peers import Wire, a_verdict, free_port, silent_peer, until
from plc_peers import URIS, PlcProcess
from test_triggered import BAD, GOOD, PARTS, begun_now, running

from edge.errors import InspectError, OutputLost
from edge.outputs import open_output, output_opener
from edge.outputs.cip_services import TagRefused, answers, read, registers, several, write
from edge.outputs.plc_address import s7_address, tag_address
from edge.plc.handshake import Mode
from edge.plc.line_events import Happened
from edge.plc.registers import Status, decode
from edge.station.outbox import Outbox
from edge.verdict import Outcome

KINDS = list(URIS)


@pytest.fixture(params=KINDS, scope="module")
def plc(request: pytest.FixtureRequest) -> Iterator[PlcProcess]:
    with PlcProcess(request.param) as process:
        yield process


def shown(plc: PlcProcess) -> tuple[int, int, int]:
    block = plc.station()
    part, verdict, sequence = (int(decode(name, block)) for name in ("RESULT_ID", "VERDICT", "SEQUENCE"))
    return part, verdict, sequence


def test_the_blocks_life_in_the_plc(plc: PlcProcess) -> None:
    """What a crashed run left is cleared first; a verdict, a stall, a heartbeat; the end takes it back."""
    plc.ask("put", 100, [0xFFFF] * 50)
    output = open_output(plc.uri)
    assert shown(plc) == (0, 0, 0)
    output.send(a_verdict(70_001))
    block = plc.station()
    assert shown(plc) == (70_001, 1, 1)
    assert block[0] & Status.RESULT_VALID and block[0] & Status.PASS
    assert (decode("TEST_U16", block), decode("TEST_F32", block)) == (0x1234, 1.0)
    output.beat(40_000, healthy=True)
    assert decode("HEARTBEAT", plc.station()) == 40_000
    output.beat(40_001, healthy=False)
    assert shown(plc) == (0, 0, 1)
    output.send(a_verdict(70_002, Outcome.FAIL))
    output.close()
    assert shown(plc) == (0, 0, 2) and not plc.station()[0] & ~Status.RESULT_TOGGLE


@pytest.mark.parametrize("mode", [Mode.BITS, Mode.IDS])
def test_every_part_gets_the_verdict_of_its_own_picture(
    plc: PlcProcess, mode: Mode, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A whole station and a PLC program that scans its memory; before each trigger another part's picture."""
    uri = f"{plc.uri}&handshake={mode.value}"
    with running(tmp_path_factory.mktemp("station"), uri) as (_, camera, link):
        plc.ask("program", mode.value)
        for part in PARTS:
            mine, other = (GOOD, BAD) if part % 2 else (BAD, GOOD)
            camera.put(begun_now(grey(other + part % 7)))
            camera.join()
            plc.ask("part", part)
            assert until(lambda: bool(link.block()[0] & Status.BUSY), timeout_s=20)
            camera.put(begun_now(grey(mine + part % 7)))
            assert until(lambda n=part: [r[0] for r in plc.ask("taken")][-1:] == [n], timeout_s=20)  # type: ignore[misc]
        assert until(lambda: [event.what for event in link.events].count(Happened.TAKEN) == len(PARTS), 20)
    plc.ask("halt")
    assert plc.ask("taken") == [[part, 1 if part % 2 else 2, n] for n, part in enumerate(PARTS, 1)]
    told = [event.what for event in link.events]
    assert told.count(Happened.TAKEN) == len(PARTS) and Happened.LATE not in told


MAKERS = {"s7": "siemens", "ethernet-ip": "rockwell"}


def test_the_program_that_is_given_away_sorts_a_line(
    plc: PlcProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """deploy/plc as it is, in the PLC's process, on the PLC's memory; a whole station at the other end."""
    with running(tmp_path_factory.mktemp("station"), f"{plc.uri}&handshake=ids") as (_, camera, link):
        plc.ask("program", MAKERS[plc.kind])
        for part in range(1, 5):
            plc.ask("part", part)
            assert until(lambda: bool(link.block()[0] & Status.BUSY), timeout_s=20)
            camera.put(grey(GOOD + part if part % 2 else BAD + part))
            assert until(lambda n=part: len(plc.ask("taken")) == n, timeout_s=20)  # type: ignore[misc]
    plc.ask("halt")
    assert plc.ask("taken") == [[1, True], [2, False], [3, True], [4, False]]


def test_a_plc_that_is_killed_and_comes_back(plc: PlcProcess) -> None:
    outbox = Outbox(output_opener(plc.uri), beat_s=0.05, max_age_s=60.0)
    outbox.put(a_verdict(1))
    assert until(lambda: outbox.counters.sent == 1)
    plc.kill()
    assert until(lambda: outbox.alarm), "the beat notices, although no part comes"
    assert until(lambda: "does not answer" in outbox.last_error and "ping 127.0.0.1" in outbox.last_error)
    outbox.put(a_verdict(2, Outcome.FAIL))
    plc.start()
    plc.ask("put", 100, [0x30, 1, 0, 77])  # a pass that has stood there since before
    assert until(lambda: shown(plc) == (2, 2, 2), timeout_s=20)
    outbox.close()
    assert outbox.counters.losses == 1


def test_a_plc_that_freezes_is_given_up_and_cleared_when_it_thaws(plc: PlcProcess) -> None:
    outbox = Outbox(output_opener(f"{plc.uri}&timeout_ms=200"), beat_s=0.05, max_age_s=60.0)
    outbox.put(a_verdict(1))
    assert until(lambda: outbox.counters.sent == 1)
    plc.freeze()
    assert until(lambda: outbox.alarm)
    assert until(lambda: outbox.counters.retries >= 1)
    plc.thaw()
    assert until(lambda: not outbox.alarm, timeout_s=20)
    assert shown(plc)[:2] == (0, 0), "the new connection clears what stood there"
    outbox.close()


def test_a_plc_that_answers_too_late_shows_no_late_verdict(plc: PlcProcess) -> None:
    """It hangs for longer than the part is there: what comes through afterwards is taken back at once."""
    outbox = Outbox(output_opener(f"{plc.uri}&timeout_ms=20000"), beat_s=60.0, max_age_s=0.3)
    assert until(lambda: decode("TEST_U16", plc.station()) == 0x1234 and outbox.counters.retries == 0)
    plc.freeze()
    late = a_verdict(1)
    outbox.put(late)
    assert until(lambda: time.monotonic_ns() - late.captured_ns > 0.5e9)
    plc.thaw()
    assert until(lambda: outbox.counters.expired == 1, timeout_s=20)
    assert until(lambda: shown(plc)[:2] == (0, 0)) and outbox.alarm
    outbox.close()


def test_a_plc_in_stop_loses_its_verdict_and_says_so(plc: PlcProcess) -> None:
    outbox = Outbox(output_opener(plc.uri), beat_s=0.05, max_age_s=60.0)
    outbox.put(a_verdict(1))
    assert until(lambda: shown(plc) == (1, 1, 1))
    plc.ask("run", False)
    assert until(lambda: outbox.alarm)
    said = {"s7": "the PLC is in STOP", "ethernet-ip": "the PLC is in program mode"}[plc.kind]
    assert said in outbox.last_error and "RUN" in outbox.last_error
    assert until(lambda: shown(plc)[:2] == (0, 0)), "it must not stand there when the PLC runs again"
    plc.ask("run", True)
    assert until(lambda: not outbox.alarm, timeout_s=20)
    outbox.put(a_verdict(2))
    assert until(lambda: shown(plc) == (2, 1, 2))
    outbox.close()


def test_a_plc_whose_program_stands_loses_the_handshake() -> None:
    """A PLC that does not tell STOP stops counting PLC_HEARTBEAT."""
    with PlcProcess("s7") as plc:
        output = open_output(f"{plc.uri}&handshake=ids")
        output.beat(1, healthy=True)
        plc.ask("put", 0, [1])
        plc.ask("put", 6, [1])
        assert until(lambda: bool(plc.station()[0] & Status.READY))
        plc.ask("put", 6, [2])
        assert until(lambda: not plc.station()[0] & Status.READY, timeout_s=15)
        assert until(lambda: decode("WARNING_CODE", plc.station()) == 50)
        output.close()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_there(kind: str) -> None:
    with pytest.raises(OutputLost, match=r"does not answer.*ping 127\.0\.0\.1.*firewall"):
        open_output(URIS[kind].format(free_port()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_libraries_print_nothing_on_the_operators_console(kind: str) -> None:
    uri = URIS[kind].format(free_port())
    code = f"import edge.outputs as o\ntry: o.open_output('{uri}')\nexcept o.InspectError: pass"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.mark.parametrize(("uri", "library"), [("s7://plc", "snap7"), ("ethernet-ip://plc", "pycomm3")])
def test_a_library_that_is_not_installed_is_named_with_its_extra(uri: str, library: str) -> None:
    code = f"import sys; sys.modules['{library}'] = None; import edge.outputs as o; o.output_opener('{uri}')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    extra = uri.partition(":")[0]
    assert (
        f"{library} is not installed ({uri}). Install it: pip install 'edge-inspect[{extra}]'" in ran.stderr
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_that_never_answers_is_given_up_in_bounded_time(kind: str) -> None:
    with silent_peer() as port, pytest.raises(OutputLost, match="does not answer"):
        open_output(URIS[kind].format(port) + "&timeout_ms=100")


@contextmanager
def stranger(*answers: bytes) -> Iterator[int]:
    """A port that says this, one answer to each thing it hears, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                for answer in answers:
                    caller.recv(4096)
                    caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


HALF = bytes.fromhex(
    "65001c0001000000000000005f7079636f6d6d5f0000000001"
)  # of an answer that promises 28 bytes


STRANGE = [
    b"",
    b"\x00",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\xff" * 500,
    b"\x03\x00\x00\x04" * 20,
    bytes.fromhex("0300000b06d0000000010000"),  # an S7 that takes the connection and says no more
    HALF,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", STRANGE, ids=range(len(STRANGE)))
def test_who_is_no_plc_is_given_up(kind: str, answer: bytes) -> None:
    """A web server, half an answer (for which pycomm3 waited for ever, at full speed), noise."""
    with stranger(answer) as port, pytest.raises(OutputLost, match="does not answer"):
        open_output(URIS[kind].format(port) + "&timeout_ms=300")


TRICKLE = {  # an answer that promises 65,531 bytes more
    "s7": b"\x03\x00\xff\xff",
    "ethernet-ip": b"\x65\x00\xff\xff" + bytes(20),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_that_trickles_is_given_up_in_bounded_time(kind: str) -> None:
    """The story: each byte of an answer began the time-out anew: a byte a second held it for hours."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            with suppress(OSError), listener.accept()[0] as caller:
                caller.sendall(TRICKLE[kind])
                while not over.wait(0.05):
                    caller.sendall(b"\x00")

        thread = threading.Thread(target=trickle)
        thread.start()
        opening = threading.Thread(target=open_in_vain, args=(kind, listener.getsockname()[1]), daemon=True)
        opening.start()
        opening.join(20)  # of bytes there would be more, for an hour
        given_up = not opening.is_alive()
        over.set()
        thread.join()
        opening.join(20)
    assert given_up


def open_in_vain(kind: str, port: int) -> None:
    with suppress(OutputLost):
        open_output(URIS[kind].format(port) + "&timeout_ms=200").close()


@pytest.mark.parametrize("count", [0, 31, 150, 250])
def test_tcp_cut_at_any_byte_of_a_verdict(plc: PlcProcess, count: int) -> None:
    with Wire(plc.port) as wire:
        uri = plc.uri.replace(str(plc.port), str(wire.port))
        outbox = Outbox(output_opener(uri), beat_s=60.0, max_age_s=60.0)
        outbox.put(a_verdict(1))
        assert until(lambda: outbox.counters.sent == 1)
        wire.cut_after(count)
        outbox.put(a_verdict(2, Outcome.FAIL))
        outbox.put(a_verdict(3))
        assert until(lambda: outbox.counters.sent == 3, timeout_s=20)
        assert shown(plc) == (3, 1, 3)
        assert decode("COUNT_TOTAL", plc.station()) == 3, "what is sent again is not counted again"
        outbox.close()
        assert outbox.counters.losses == 1


# What is wrong in the PLC's project


def test_a_data_block_that_is_not_there_or_too_short() -> None:
    with PlcProcess("s7", "--size", "250") as plc:
        with pytest.raises(OutputLost, match=r"refuses DB7: .*0\.\.299.*optimized block access.*PUT/GET"):
            open_output(plc.uri.replace("db=100", "db=7"))
        with pytest.raises(OutputLost, match=r"refuses DB100: .*0\.\.299"):
            open_output(plc.uri)
        with pytest.raises(OutputLost, match=r"refuses DB100: .*1000\.\.1299"):
            open_output(f"{plc.uri}&start=1000")


TAGS = {
    "no such tag": ("EdgeInspect_Plc=INT[28]", "", r"no such tag.*Create EdgeInspect as INT\[50\]"),
    "too short": ("EdgeInspect=INT[40]", "", r"too short.*Create EdgeInspect as INT\[50\]"),
    "no INT": ("EdgeInspect=DINT[50]", "", r"not 50 INT.*Create EdgeInspect as INT\[50\]"),
    "no PLC tag": (
        "EdgeInspect=INT[50]",
        "&handshake=ids",
        r"no such tag.*Create EdgeInspect_Plc as INT\[28\]",
    ),
}


@pytest.mark.parametrize(("tag", "more", "said"), TAGS.values(), ids=TAGS)
def test_a_tag_that_does_not_fit(tag: str, more: str, said: str) -> None:
    with PlcProcess("ethernet-ip", "--tags", tag) as plc, pytest.raises(OutputLost, match=said):
        open_output(plc.uri + more)


def test_a_slot_without_controller() -> None:
    with PlcProcess("ethernet-ip") as plc:
        with pytest.raises(OutputLost, match=r"no controller answers in slot 3 .*ethernet-ip://HOST/SLOT"):
            open_output(f"ethernet-ip://127.0.0.1:{plc.port}/3")
        open_output(f"ethernet-ip://127.0.0.1:{plc.port}").close()


def test_a_chassis_that_knows_no_way_to_the_slot_says_why() -> None:
    """A real one answers with CIP status 1, extended 0311h; here as bytes, after a session."""
    session = bytes.fromhex("65000400 07000000 00000000" + "00" * 12 + "01000000")
    no_way = bytes.fromhex(
        "6f001600 07000000 00000000" + "00" * 12 + "00000000 0000 0200 00000000 b2000600 d20001011103"
    )
    with (
        stranger(session, no_way) as port,
        pytest.raises(OutputLost, match=r"no controller answers in slot 3: .*[Pp]ort"),
    ):
        open_output(f"ethernet-ip://127.0.0.1:{port}/3")


def test_a_loss_keeps_its_reason() -> None:
    """The poller saw it first; 'the connection was closed' is what the next beat used to say."""
    with PlcProcess("s7") as plc:
        output = open_output(f"{plc.uri}&handshake=ids")
        plc.kill()
        with pytest.raises(OutputLost, match="stopped answering"):
            until(lambda: bool(output.beat(1, healthy=True)))
        with pytest.raises(OutputLost, match="stopped answering"):
            output.send(a_verdict(1))
        output.close()
        plc.start()


# Addresses, and services as bytes


def test_addresses() -> None:
    siemens = s7_address("s7://192.168.0.1?rack=0&slot=2&db=5&start=40&timeout_ms=250&handshake=bits")
    assert (siemens.host, siemens.port, siemens.rack, siemens.slot, siemens.db, siemens.start) == (
        "192.168.0.1", 102, 0, 2, 5, 40,
    )  # fmt: skip
    assert siemens.timeout_s == 0.25
    rockwell = tag_address("ethernet-ip://10.0.0.1/4?tag=Program:Main.Camera")
    assert (rockwell.host, rockwell.port, rockwell.slot) == ("10.0.0.1", 44_818, 4)
    assert (rockwell.tag, rockwell.plc_tag) == ("Program:Main.Camera", "Program:Main.Camera_Plc")
    assert tag_address("ethernet-ip://10.0.0.1").slot == 0


@pytest.mark.parametrize(
    "uri",
    ["s7://", "s7://plc:99999", "s7://plc?db=0", "s7://plc?slot=32", "s7://plc?dbb=1", "ethernet-ip://",
     "ethernet-ip://plc/x", "ethernet-ip://plc/18", "ethernet-ip://plc?tag=1st", "ethernet-ip://plc?tag=a..b",
     "ethernet-ip://plc?tags=a", "s7://plc?handshake=always", "s7://[::1]", "ethernet-ip://plc:0"],
)  # fmt: skip
def test_wrong_uris_are_refused_before_anything_is_opened(uri: str) -> None:
    with pytest.raises(InspectError) as refused:
        output_opener(uri)
    assert refused.value.exit_code == 2


def test_services_in_one_request_as_the_publication_draws_them() -> None:
    """1756-PM020: count, offsets from the count on, services; the path of tag 'rate' is 9104 72617465."""
    path = bytes.fromhex("03910472617465")
    assert write(path, [14, 65_535]).hex() == "4d03910472617465c30002000e00ffff"
    assert several([read(path, 1), read(path, 2)]).hex() == (
        "0200" "0600" "1000" "4c039104726174650100" "4c039104726174650200"
    )  # fmt: skip
    assert answers(bytes.fromhex("020006000e00cc000000c3000e00cd000000"), 2) == [b"\xc3\x00\x0e\x00", b""]
    assert registers(b"\xc3\x00\x0e\x00", 1) == [14]


@pytest.mark.parametrize(
    "answer",
    ["", "01", "0100", "01000400cc", "020006000a00cc000000cc000000", "0100ffffcc000000", "01000400cc00ff01"],
)
def test_an_answer_that_makes_no_sense(answer: str) -> None:
    with pytest.raises(ValueError, match="no sense"):
        answers(bytes.fromhex(answer), 1)


@given(st.binary(max_size=60), st.integers(1, 3))
def test_no_answer_breaks_the_parser(answer: bytes, services: int) -> None:
    """Whatever comes from the wire is data, a refusal, or a ValueError that becomes OutputLost."""
    with suppress(ValueError):
        told = answers(answer, services)
        assert isinstance(told, TagRefused) or len(told) == services


def test_an_answer_of_the_wrong_type_or_length_is_no_block() -> None:
    for data in ("", "c300", "c4000e00", "c3000e000f00"):
        with pytest.raises(ValueError, match="not 1 INT"):
            registers(bytes.fromhex(data), 1)


def test_the_first_refusal_counts() -> None:
    reply = bytes.fromhex("020006000a00cd000000cd00ff010521")
    assert answers(reply, 2) == TagRefused(1, "the tag is too short")
    assert answers(bytes.fromhex("01000400cd00ff013412"), 1) == TagRefused(0, "CIP status FFh/1234h")
    assert answers(bytes.fromhex("01000400cd000f00"), 1) == TagRefused(
        0, "the controller permits no access to it"
    )
