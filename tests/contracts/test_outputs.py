"""One body for every output, with a real peer each: send, beat, close twice, refuse after close."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from mqtt_broker import Broker, Listener
from opcua_peer import OpcUaPeer, PeerError, opcua_peer
from peers import (
    LineReader,
    a_verdict,
    coil_module,
    free_port,
    null_modem,
    plc_client,
    plc_master,
    plc_slave,
    until,
)
from plc_peers import PlcProcess
from pysparkplug import DData
from serial import Serial

from edge.errors import NobodyListens, OutputLost
from edge.outputs import Output, open_output
from edge.outputs.plc_sim import SimulatedPlc
from edge.plc.registers import decode
from edge.verdict import Outcome, Reason

RTU = "baud=115200&parity=none"  # a pseudo-terminal has no parity
Ids = Callable[[], list[int]]  # the part ids that the other side has received, oldest first


def _json_lines(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    path = folder / "verdicts.jsonl"
    return f"jsonl:{path}", lambda: [json.loads(line)["frame_id"] for line in path.read_text().splitlines()]


def _serial(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    far, near = stack.enter_context(null_modem())
    plc = stack.enter_context(Serial(far, timeout=2.0))
    received: list[int] = []

    def ids() -> list[int]:
        while plc.in_waiting:
            received.append(int(plc.read_until(b"\r").split(b",")[1]))
        return received

    return f"serial://{near}", ids


def _modbus_client(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    plc = SimulatedPlc()
    stack.callback(plc.close)
    return plc.start(), lambda: [part for part, _, _ in plc.results()]


def _modbus_server(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    port = free_port()
    plc = stack.enter_context(plc_client(port))
    received: list[int] = []

    def ids() -> list[int]:
        block = plc.read_holding_registers(101, 3)
        if block and block[0] and block[2] not in received:
            received.append(block[2])
        return received

    return f"modbus-tcp-server://127.0.0.1:{port}", ids


def _plc_memory(scheme: str, stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    plc = stack.enter_context(PlcProcess(scheme))
    received: list[int] = []

    def ids() -> list[int]:
        block = plc.station()
        if decode("VERDICT", block) and (part := int(decode("RESULT_ID", block))) not in received:
            received.append(part)
        return received

    return plc.uri, ids


def _mqtt(path: str) -> Callable[[ExitStack, Path], tuple[str, Ids]]:
    def peer(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
        port = stack.enter_context(Broker(folder)).port
        somebody = stack.enter_context(Listener(port))

        def ids() -> list[int]:
            told = [json.loads(payload)["frame_id"] for payload in somebody.on("plant/line3/verdict")]
            for payload in somebody.on("spBv1.0/plant/DDATA/line3/cam"):
                told += [m.value for m in DData.decode(payload).metrics if m.name == "Verdict/Frame ID"]
            return told

        return f"mqtt://127.0.0.1:{port}/{path}", ids

    return peer


def _line_client(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    plc = stack.enter_context(LineReader())
    return f"tcp://127.0.0.1:{plc.port}", lambda: [int(line.split(",")[1]) for line in plc.lines]


def _line_server(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    plc = stack.enter_context(LineReader(free_port()))
    uri = f"tcp-server://127.0.0.1:{plc.port}"
    return uri, lambda: [int(line.split(",")[1]) for line in plc.lines]


def _opcua(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    port = free_port()
    peers: list[OpcUaPeer] = []
    received: list[int] = []

    def ids() -> list[int]:
        if not peers:
            peers.append(stack.enter_context(opcua_peer("asyncua")))
        [peer] = peers
        try:
            verdict, number = peer.read("Station.VERDICT", "Station.RESULT_ID")
        except PeerError:  # not connected yet, or the server was opened again
            peer.ask("connect", url=f"opc.tcp://127.0.0.1:{port}", secure=False, user="", password="")
            verdict, number = peer.read("Station.VERDICT", "Station.RESULT_ID")
        if verdict and number not in received:
            received.append(number)
        return received

    return f"opc-ua://127.0.0.1:{port}?security=none", ids


def _modbus_rtu(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    far, near = stack.enter_context(null_modem())
    registers = stack.enter_context(plc_slave(far, 1, 200))
    received: list[int] = []
    return f"modbus-rtu://{near}?{RTU}", lambda: _newest(received, registers(101, 3))


def _modbus_rtu_server(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    far, near = stack.enter_context(null_modem())
    plc = stack.enter_context(plc_master(far))
    received: list[int] = []
    return f"modbus-rtu-server://{near}?{RTU}", lambda: _newest(received, plc.read_registers(101, 3))


def _coil_module(stack: ExitStack, folder: Path) -> tuple[str, Ids]:
    port = free_port()
    module = stack.enter_context(coil_module(port))
    # Lines carry no ids: the parts here are numbered as they come, and so are their pulses.
    uri = f"modbus-tcp-io://127.0.0.1:{port}?ok=0&ng=1&fault=2&pulse_ms=10"
    return uri, lambda: list(range(1, len(module.pulses) + 1))


def _newest(received: list[int], block: list[int]) -> list[int]:
    """VERDICT, RESULT_ID of one read, as a PLC that polls takes them."""
    if block[0] and block[2] not in received:
        received.append(block[2])
    return received


KINDS = {
    "jsonl": _json_lines,
    "serial": _serial,
    "tcp": _line_client,
    "tcp-server": _line_server,
    "modbus-tcp": _modbus_client,
    "modbus-tcp-server": _modbus_server,
    "s7": partial(_plc_memory, "s7"),
    "ethernet-ip": partial(_plc_memory, "ethernet-ip"),
    "mqtt": _mqtt("plant/line3?timeout_ms=20000"),
    "mqtt, Sparkplug": _mqtt("plant/line3/cam?format=sparkplug&timeout_ms=20000"),
    "opc-ua": _opcua,
    "modbus-rtu": _modbus_rtu,
    "modbus-rtu-server": _modbus_rtu_server,
    "modbus-tcp-io": _coil_module,
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Ids]]:
    with ExitStack() as stack:
        yield request.param(stack, tmp_path)


def meet(uri: str) -> Output:
    """Open it; where it waits for the other side to connect, until that is there."""
    output = open_output(uri)

    def heard() -> bool:
        try:
            output.beat(0, healthy=False)
        except NobodyListens:
            return False
        return True

    assert until(heard)
    return output


def test_every_verdict_arrives_in_order(peer: tuple[str, Ids]) -> None:
    uri, received = peer
    output: Output = meet(uri)
    assert output.uri == uri
    for number in range(1, 6):
        output.send(a_verdict(number))
        assert until(lambda n=number: received()[-1:] == [n])  # type: ignore[misc]
    assert received() == [1, 2, 3, 4, 5]
    output.close()


def test_every_kind_of_verdict_can_be_sent(peer: tuple[str, Ids]) -> None:
    output = meet(peer[0])
    output.send(a_verdict(1, Outcome.REVIEW))
    for number, reason in enumerate(Reason):
        output.send(a_verdict(number, Outcome.FAIL, reason))
    output.close()


def test_beating_before_between_and_after(peer: tuple[str, Ids]) -> None:
    output = meet(peer[0])
    output.beat(0, healthy=False)
    output.beat(1, healthy=True)
    output.send(a_verdict(1))
    output.beat(70_000, healthy=True)
    output.beat(70_001, healthy=False)
    output.close()


def test_a_closed_output_says_so_and_leaves_no_thread(peer: tuple[str, Ids]) -> None:
    before = threading.active_count()
    output = meet(peer[0])
    output.close()
    output.close()
    with pytest.raises(OutputLost):
        output.send(a_verdict(1))
    assert until(lambda: threading.active_count() <= before)


def test_it_can_be_opened_again(peer: tuple[str, Ids]) -> None:
    uri, received = peer
    for number in (1, 2):
        output = meet(uri)
        output.send(a_verdict(number))
        assert until(lambda n=number: received()[-1:] == [n])  # type: ignore[misc]
        output.close()
