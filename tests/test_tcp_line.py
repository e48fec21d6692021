"""ASCII lines over TCP, both roles, against plain sockets: triggers, garbage, hang-ups, a second client."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from peers import LineReader, TcpPlc, a_verdict, free_port, tcp_plc, until

from edge.errors import InspectError, NobodyListens, OutputLost
from edge.outputs import open_output, output_opener
from edge.outputs.tcp_line import TcpServerLine, server_settings
from edge.plc.handshake import Mode
from edge.plc.line_protocol import LONGEST_LINE
from edge.plc.link import PlcLink
from edge.station.outbox import Outbox


@contextmanager
def listening(settings: str = "", mode: Mode = Mode.IDS) -> Iterator[tuple[TcpServerLine, PlcLink]]:
    """A station that listens on a free port, and beats as it would."""
    link = PlcLink(mode)
    output = TcpServerLine(server_settings(f"tcp-server://127.0.0.1:0{settings}"), link)
    with pytest.raises(NobodyListens, match="no PLC is connected"):
        output.beat(1, True)
    with closing(output):
        yield output, link


@pytest.fixture
def station() -> Iterator[tuple[TcpServerLine, PlcLink]]:
    with listening() as it:
        yield it


def judge(output: TcpServerLine, link: PlcLink, frame: int = 1) -> None:
    """The station answers the trigger that waits."""
    request = link.wait(5.0)
    assert request is not None
    output.send(replace(a_verdict(frame), part_id=request.part_id, request=request.number))


def test_trigger_result_and_acknowledge(station: tuple[TcpServerLine, PlcLink]) -> None:
    output, link = station
    with tcp_plc(output.port) as plc:
        assert plc.ask("VER") == "OK,edge-inspect,1.0"
        assert plc.ask("ST") == "OK,RUN,1,0,0", "READY does not wait for the next beat"
        assert plc.ask("TRG,4711") == "OK,4711"
        assert plc.ask("TRG,4712") == "ER,02"
        judge(output, link)
        assert (plc.line() or "").startswith("RES,4711,PASS,0.1234,1,")
        assert [plc.ask("ACK,4711"), plc.ask("ACK,4711"), plc.ask("HB")] == ["OK", "ER,04", "OK"]


def test_the_station_connects_too() -> None:
    """As client, against a PLC that listens; a new connection begins with nothing shown."""
    link = PlcLink(Mode.IDS)
    with socket.create_server(("127.0.0.1", 0)) as plc_side:
        uri = f"tcp://127.0.0.1:{plc_side.getsockname()[1]}?handshake=ids"
        for part in (1, 2):
            output = output_opener(uri, link=link)()
            connection, _ = plc_side.accept()
            with connection:
                plc = TcpPlc(connection)
                output.beat(1, True)
                assert plc.ask(f"TRG,{part}") == f"OK,{part}"
                request = link.wait(5.0)
                assert request is not None
                output.send(replace(a_verdict(part), part_id=part, request=request.number))
                assert (plc.line() or "").startswith(f"RES,{part},PASS,")
            assert until(lambda o=output: gone(o))  # type: ignore[misc]
            output.close()


def gone(output: object) -> bool:
    try:
        output.beat(1, True)  # type: ignore[attr-defined]
    except OutputLost:
        return True
    return False


def test_a_plc_that_is_not_there_says_what_to_do() -> None:
    with pytest.raises(OutputLost, match=r"not connected.*firewall"):
        open_output(f"tcp://127.0.0.1:{free_port()}")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OutputLost, match="cannot listen"):
        open_output(f"tcp-server://127.0.0.1:{taken.getsockname()[1]}")


def test_bytes_may_come_one_by_one_and_lines_all_at_once(station: tuple[TcpServerLine, PlcLink]) -> None:
    with tcp_plc(station[0].port) as plc:
        for byte in b"TRG,70001":
            plc.socket.sendall(bytes([byte]))
            time.sleep(0.001)
        plc.say("\nrubbish\x1bVER\r\nCNT\rHB\r", end="")
        said = [plc.line() for _ in range(3)]
        assert said == ["OK,edge-inspect,1.0", "OK,0,0,0,0", "OK"], "LF ends no line, ESC clears one"
        assert station[1].wait(0.0) is None, "TRG was never ended by a CR"


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: station\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    bytes(range(256)) * 4,
    b"x" * 100_000,
    b"TRG," + b"9" * (10 * LONGEST_LINE) + b"\r",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda data: str(data[:12]))
def test_garbage_triggers_nothing_and_the_line_goes_on(garbage: bytes) -> None:
    with listening() as (output, link), tcp_plc(output.port) as plc:
        plc.socket.sendall(garbage)
        plc.say("\x1bST")
        assert until(lambda: plc.line(0.5) == "OK,RUN,1,0,0"), (
            "errors come before, one for each line of garbage"
        )
        assert link.wait(0.0) is None


def test_a_second_client_is_hung_up_on_while_the_first_one_lives(
    station: tuple[TcpServerLine, PlcLink],
) -> None:
    output, _ = station
    with tcp_plc(output.port) as plc:
        assert plc.ask("TRG,7") == "OK,7"
        for _ in range(3):
            with tcp_plc(output.port) as stranger:
                assert stranger.hung_up()
        assert plc.ask("ST") == "OK,RUN,0,1,0", "the first one's part is still being judged"


def test_the_next_client_sees_nothing_of_the_one_before() -> None:
    """The story: a PLC switched off with a result pending came back and took it for its next part's."""
    with listening() as (output, link):
        with tcp_plc(output.port) as plc:
            assert plc.ask("TRG,7") == "OK,7"
        assert until(lambda: gone(output))
        with tcp_plc(output.port) as plc:
            assert plc.ask("ST") == "OK,RUN,1,0,0"
            assert link.wait(0.1) is None, "nobody waits for part 7 any more"
            assert plc.ask("TRG,8") == "OK,8"
            judge(output, link, frame=2)
            assert (plc.line() or "").startswith("RES,8,PASS,")


def test_a_first_client_whose_heartbeat_is_lost_makes_room(station: tuple[TcpServerLine, PlcLink]) -> None:
    """Cable cut without a word: the connection still looks alive, the beat does not."""
    output, link = station
    with tcp_plc(output.port) as plc:
        assert plc.ask("HB") == "OK"
        link.act(lambda hand, now_ns: hand.tick(now_ns + 4_000_000_000))  # as if 4 s had passed
        assert until(lambda: gone(output))
        with pytest.raises(NobodyListens, match="the PLC stopped asking HB for 3 s"):
            output.beat(2, True)
        with tcp_plc(output.port) as back:
            assert back.ask("ST") == "OK,RUN,1,0,0"


def test_only_who_is_allowed_may_connect() -> None:
    with listening("?allow=10.0.0.0/8") as (output, _), tcp_plc(output.port) as stranger:
        assert stranger.hung_up()
    with listening("?allow=10.0.0.1,127.0.0.1") as (output, _), tcp_plc(output.port) as plc:
        assert plc.ask("VER") == "OK,edge-inspect,1.0"


def test_a_plc_that_does_not_read_is_hung_up_on() -> None:
    with listening(mode=Mode.FREE_RUN) as (output, _), tcp_plc(output.port) as plc:
        plc.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert plc.ask("VER")
        with pytest.raises(NobodyListens):
            for number in range(1_000_000):
                output.send(a_verdict(number))


def test_verdicts_without_a_listener_are_counted_and_told() -> None:
    """The port stays open meanwhile, and what nobody heard is not told to whoever comes later."""
    port = free_port()
    uri = f"tcp-server://127.0.0.1:{port}"
    outbox = Outbox(output_opener(uri), beat_s=0.05, max_age_s=60.0)
    assert until(lambda: outbox.alarm) and "no PLC is connected" in outbox.last_error
    for number in range(3):
        outbox.put(a_verdict(number))
    assert until(lambda: outbox.counters.dropped == 3)
    with LineReader(port) as plc:
        assert until(lambda: not outbox.alarm)
        outbox.put(a_verdict(10))
        assert until(lambda: [line.split(",")[1] for line in plc.lines] == ["10"])
        outbox.close()
    assert (outbox.counters.sent, outbox.counters.losses, outbox.counters.retries) == (1, 0, 0)


def test_a_trigger_that_comes_with_the_connection_gets_its_verdict() -> None:
    """The story: it was judged before the server had noted who is connected, and its verdict was dropped."""
    with listening() as (output, link):
        for part in range(1, 51):
            with tcp_plc(output.port) as plc:
                plc.say(f"TRG,{part}")
                judge(output, link, part)
                assert plc.line() == f"OK,{part}"
                assert (plc.line() or "").startswith(f"RES,{part},PASS,")
            assert until(lambda: gone(output))


def test_a_dialect_is_spoken_over_tcp() -> None:
    """A T1 sensor's PLC, without any acknowledge: the next trigger is taken as soon as the result is out."""
    with listening("?dialect=t1") as (output, link), tcp_plc(output.port) as plc:
        for number in (1, 2, 3):
            assert plc.ask("T1") == "T1"
            judge(output, link, number)
            assert plc.line() == f"RT,{number:05d},OK"
        assert plc.ask("T1") == "T1"
        link.act(lambda hand, now_ns: hand.tick(now_ns + 60_000_000_000))  # no verdict in time
        output.beat(2, True)
        assert plc.line() == "RT,00004,NG"


@pytest.mark.parametrize(
    "uri",
    ["tcp://", "tcp://plc", "tcp://plc:99999", "tcp://plc:1?baud=9600", "tcp-server://0.0.0.0:1?allow=plc",
     "tcp://plc:1?handshake=bits", "tcp-server://0.0.0.0:1?timeout_ms=5"],
)  # fmt: skip
def test_settings(uri: str) -> None:
    with pytest.raises(InspectError):
        output_opener(uri)
