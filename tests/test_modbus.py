"""Modbus TCP against another library than ours, in both directions, on loopback."""

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import pytest
from peers import a_verdict, answering_peer, free_port, plc_client, plc_server, silent_peer, until
from pyModbusTCP.client import ModbusClient as PlcClient

from edge.errors import InspectError, OutputLost
from edge.outputs import open_output, output_opener
from edge.outputs.block_client import write_plan
from edge.outputs.modbus import ModbusServer
from edge.outputs.modbus_settings import client_settings, server_settings
from edge.outputs.plc_sim import SimulatedPlc
from edge.plc.commands import Order
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.registers import STATION_COUNT, STATION_START, Control, Status, decode
from edge.plc.station_image import StationImage
from edge.verdict import Outcome, Reason

DOCS = Path(__file__).parents[1] / "docs" / "outputs.md"


@pytest.fixture
def station() -> Iterator[ModbusServer]:
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0"), PlcLink(recipe_number=3))
    yield output
    output.close()


@pytest.fixture
def plc(station: ModbusServer) -> Iterator[PlcClient]:
    with plc_client(station.port) as client:
        yield client


def station_block(plc: PlcClient) -> list[int]:
    block = plc.read_holding_registers(STATION_START, STATION_COUNT)
    assert block is not None, plc.last_error_as_txt
    return [int(word) for word in block]


# The station as server


def test_the_plc_reads_the_same_by_both_function_codes(station: ModbusServer, plc: PlcClient) -> None:
    station.send(a_verdict(70_001, Outcome.FAIL))
    block = station_block(plc)
    assert plc.read_input_registers(STATION_START, STATION_COUNT) == block
    assert (decode("VERDICT", block), decode("RESULT_ID", block), decode("SEQUENCE", block)) == (2, 70_001, 1)
    assert (
        Status(block[0]) & (Status.PASS | Status.FAIL | Status.RESULT_VALID)
        == Status.FAIL | Status.RESULT_VALID
    )


def test_status_bits_are_coils_too(station: ModbusServer, plc: PlcClient) -> None:
    station.send(a_verdict(1))
    bits = station_block(plc)[0]
    expected = [bool(bits >> bit & 1) for bit in range(16)]
    assert plc.read_coils(16 * STATION_START, 16) == expected
    assert plc.read_discrete_inputs(16 * STATION_START, 16) == expected


def test_a_panel_that_connects_only_to_acknowledge_is_heard_and_a_forgotten_bit_is_not() -> None:
    """The story: CLEAR_ERROR as the first word of a connection was lost, and the line stood."""
    link = PlcLink()
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0"), link)

    def press(control: int) -> bool:
        """Stop, connect, write, hang up; does the error stand?"""
        link.stop(Reason.REJECTS_IN_A_ROW)
        with plc_client(output.port) as panel:
            assert panel.write_single_register(0, control)
            return bool(station_block(panel)[0] & Status.ERROR)

    stands = [press(control) for control in (8, 8, 0, 8)]
    output.close()
    assert stands == [False, True, True, False], "8 on 8 is a bit that nobody took back"


def test_a_bit_that_stands_in_the_plc_s_own_memory_clears_nothing_until_it_is_set_anew() -> None:
    """Nobody knows since when it stands there: before the line stopped, perhaps."""
    link = PlcLink(Mode.BITS)
    with plc_server(port := free_port()) as plc:
        plc.data_bank.set_holding_registers(0, [Control.ENABLE | Control.CLEAR_ERROR])
        link.stop(Reason.REJECTS_IN_A_ROW)
        output = output_opener(f"modbus-tcp://127.0.0.1:{port}?handshake=bits", link=link)()
        enabled = link.act(lambda hand, _: hand.enabled)
        stands = Status(link.block()[0]) & Status.ERROR
        plc.data_bank.set_holding_registers(0, [0])
        seen = until(lambda: not link.act(lambda hand, _: hand.enabled))
        plc.data_bank.set_holding_registers(0, [Control.CLEAR_ERROR])
        cleared = until(lambda: not Status(link.block()[0]) & Status.ERROR)
        output.close()
    assert enabled and stands and seen and cleared


def test_the_test_registers_stand_before_the_first_part(plc: PlcClient) -> None:
    assert plc.read_holding_registers(117, 2) == [1, 0x1234]
    assert plc.read_holding_registers(134, 2) == [0x3F80, 0]
    assert plc.read_holding_registers(100, 2) == [0, 0]


def test_the_plc_writes_its_block_and_only_its_block(station: ModbusServer, plc: PlcClient) -> None:
    assert plc.write_multiple_registers(0, list(range(1, 29)))
    assert plc.write_single_register(6, 99)
    assert plc.read_holding_registers(0, 7) == [1, 2, 3, 4, 5, 6, 99]
    assert not plc.write_single_register(101, 1), "nobody but the station writes a verdict"
    assert not plc.write_multiple_registers(27, [0, 0])
    assert not plc.write_single_coil(16 * STATION_START + 5, True)
    assert station_block(plc)[0:2] == [0, 0]


def test_any_unit_id_is_answered(station: ModbusServer, plc: PlcClient) -> None:
    for unit in (0, 1, 17, 255):
        plc.unit_id = unit
        assert plc.read_holding_registers(118, 1) == [0x1234]


def test_bits_trigger_as_coils_and_every_write_counts_before_its_answer() -> None:
    link = PlcLink(Mode.BITS)
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0?handshake=bits"), link)
    output.beat(1, healthy=True)
    with plc_client(output.port) as plc:
        assert plc.write_multiple_registers(1, [1, 0x1171])
        assert plc.write_single_coil(0, True)
        assert plc.read_coils(16 * STATION_START + 1, 3) == [True, False, False], "READY"
        assert plc.write_multiple_coils(1, [True, False])
        request = link.wait(0.0)
        assert request is not None and request.part_id == 70_001
        assert plc.read_coils(16 * STATION_START + 1, 3) == [False, True, True], "TRIGGER_ACK, BUSY"
        output.send(replace(a_verdict(1), part_id=70_001, request=request.number))
        assert decode("RESULT_ID", station_block(plc)) == 70_001
        assert plc.write_single_register(0, Control.ENABLE | Control.RESULT_ACK)
        assert decode("VERDICT", station_block(plc)) == 0
    output.close()


def test_a_read_is_one_snapshot(station: ModbusServer, plc: PlcClient) -> None:
    """Results change all the time; id, verdict, sequence and score of one read must belong together."""
    ended = threading.Event()

    def produce() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            station.send(a_verdict(number, Outcome.PASS if number % 2 else Outcome.FAIL))

    producer = threading.Thread(target=produce)
    producer.start()
    blocks, ids = [], set()
    try:
        while len(blocks) < 300 or (len(ids) <= 10 and len(blocks) < 20_000):  # the producer may hog the core
            blocks.append(station_block(plc))
            ids.add(decode("RESULT_ID", blocks[-1]))
    finally:
        ended.set()
        producer.join()
    assert len(ids) > 10
    for block in (b for b in blocks if decode("VERDICT", b)):
        number, odd = decode("RESULT_ID", block), decode("RESULT_ID", block) % 2 == 1
        assert decode("SEQUENCE", block) == (number - 1) % 65_535 + 1
        assert decode("VERDICT", block) == (1 if odd else 2)
        assert bool(block[0] & Status.PASS) == odd
        assert decode("COUNT_TOTAL", block) == number


def test_a_stall_shows_and_close_hangs_up(station: ModbusServer, plc: PlcClient) -> None:
    station.beat(1, healthy=True)
    station.send(a_verdict(1))
    station.beat(2, healthy=False)
    block = station_block(plc)
    assert (decode("VERDICT", block), decode("HEARTBEAT", block), block[0] & Status.ONLINE) == (0, 1, 0)
    station.close()
    station.close()
    assert plc.read_holding_registers(100, 1) is None
    with pytest.raises(OutputLost, match="ended"):
        station.send(a_verdict(2))


def test_a_taken_port_says_what_to_do(station: ModbusServer) -> None:
    with pytest.raises(OutputLost, match=r"cannot listen.*free port.*1024"):
        open_output(f"modbus-tcp-server://127.0.0.1:{station.port}")


def test_sequence_goes_on_when_the_server_is_opened_again() -> None:
    port = free_port()
    opener = output_opener(f"modbus-tcp-server://127.0.0.1:{port}")
    for number in (1, 2):
        output = opener()
        output.send(a_verdict(number))
        with plc_client(port) as plc:
            assert plc.read_holding_registers(104, 1) == [number]
        output.close()


# The station as client


def test_the_station_writes_into_the_plc() -> None:
    port = free_port()
    with plc_server(port) as plc:
        output = open_output(f"modbus-tcp://127.0.0.1:{port}?unit=5&offset=1000&word_order=little")
        output.send(a_verdict(70_001))
        bank = plc.data_bank.get_holding_registers(1100, STATION_COUNT)
        assert decode("RESULT_ID", bank, "little") == 70_001
        assert (decode("VERDICT", bank), decode("TEST_F32", bank, "little")) == (1, 1.0)
        assert bank[0] & Status.RESULT_VALID
        output.close()
        bank = plc.data_bank.get_holding_registers(1100, STATION_COUNT)
        assert (bank[0] & ~Status.RESULT_TOGGLE, decode("VERDICT", bank), decode("SEQUENCE", bank)) == (
            0,
            0,
            1,
        )
        output.close()


def test_what_a_crashed_run_left_in_the_plc_is_cleared_first() -> None:
    port = free_port()
    with plc_server(port) as plc:
        plc.data_bank.set_holding_registers(100, [0xFFFF] * STATION_COUNT)
        output = open_output(f"modbus-tcp://127.0.0.1:{port}")
        assert plc.data_bank.get_holding_registers(100, 2) == [0, 0]
        output.close()


def test_a_new_id_never_stands_beside_the_old_pass() -> None:
    """The order of the writes is what a PLC program hangs on: pass bits off, data, status last."""
    image = StationImage()
    image.publish(a_verdict(1))
    before = image.block()
    image.publish(a_verdict(2, Outcome.FAIL))
    after, seen = image.block(), list(before)
    for address, values in write_plan(before, after):
        seen[address - 100 : address - 100 + len(values)] = values
        if seen[0] & Status.PASS:
            assert decode("RESULT_ID", seen) == 1
    assert seen == after


def test_a_beat_does_not_make_the_result_flicker() -> None:
    image = StationImage()
    image.publish(a_verdict(1))
    before = image.block()
    image.beat(1, healthy=True)
    assert [address for address, _ in write_plan(before, image.block())] == [101, 100]


def test_nobody_there() -> None:
    with pytest.raises(OutputLost, match=r"does not answer.*ping 127\.0\.0\.1.*firewall"):
        open_output(f"modbus-tcp://127.0.0.1:{free_port()}")


def test_a_plc_that_never_answers_is_given_up_in_bounded_time() -> None:
    told = r"stopped answering: no answer that can be read.*unit=3"
    with silent_peer() as port, pytest.raises(OutputLost, match=told):
        open_output(f"modbus-tcp://127.0.0.1:{port}?timeout_ms=100&unit=3")


@pytest.mark.parametrize(
    ("answer", "told"), [(b"", "it closed the connection"), (b"\xff" * 20, "no answer that can be read")]
)
def test_why_a_plc_stopped_answering_is_told_in_our_words(answer: bytes, told: str) -> None:
    """The story: "Connection unexpectedly closed 0.000 seconds into read of unbounded read bytes"."""
    with (
        answering_peer(answer) as port,
        pytest.raises(OutputLost, match=f"stopped answering: {told}") as lost,
    ):
        open_output(f"modbus-tcp://127.0.0.1:{port}?timeout_ms=300")
    assert "Modbus Error" not in str(lost.value)


def test_the_library_prints_nothing_on_the_operators_console() -> None:
    """pymodbus hangs its NullHandler on a logger it does not use: every failed try came out on stderr."""
    uri = f"modbus-tcp://127.0.0.1:{free_port()}"
    code = f"import edge.outputs as o\ntry: o.open_output('{uri}')\nexcept o.InspectError: pass"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_a_refused_write_names_the_registers(station: ModbusServer) -> None:
    """Two stations pointed at each other: a server lets nobody write 100..149."""
    with pytest.raises(OutputLost, match=r"refuses writes to 100\.\.100.*offset"):
        open_output(f"modbus-tcp://127.0.0.1:{station.port}")


def test_the_simulated_plc_misses_no_part_at_full_speed() -> None:
    plc = SimulatedPlc()
    output = open_output(plc.start())
    for number in range(1, 501):
        output.send(a_verdict(number, Outcome.PASS if number % 3 else Outcome.FAIL))
    assert plc.results() == [(n, 1 if n % 3 else 2, n) for n in range(1, 501)]
    assert plc.register("COUNT_TOTAL") == 500
    output.close()
    assert plc.register("VERDICT") == 0
    plc.close()
    plc.close()


@pytest.mark.parametrize(
    "uri",
    [
        "modbus-tcp://",
        "modbus-tcp://plc:99999",
        "modbus-tcp://plc?unit=256",
        "modbus-tcp://plc?offset=-1",
        "modbus-tcp://plc?word_order=middle",
        "modbus-tcp://plc?unti=1",
        "modbus-tcp-server://0.0.0.0?unit=1",
        "opcua://plc",
    ],
)
def test_wrong_uris_are_refused_before_anything_is_opened(uri: str) -> None:
    with pytest.raises(InspectError) as refused:
        output_opener(uri)
    assert refused.value.exit_code == 2


def test_settings() -> None:
    plc = client_settings("modbus-tcp://[::1]?timeout_ms=250")
    assert (plc.host, plc.port, plc.unit, plc.offset, plc.word_order, plc.timeout_s) == (
        "::1",
        502,
        1,
        0,
        "big",
        0.25,
    )
    assert server_settings("modbus-tcp-server://0.0.0.0:0").port == 0


def test_no_thread_stays_behind() -> None:
    before = threading.active_count()
    output = open_output("modbus-tcp-server://127.0.0.1:0")
    output.close()
    assert until(lambda: threading.active_count() <= before)


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for block in re.findall(r"^```python\n(.+?)^```", DOCS.read_text("utf-8"), re.M | re.S):
        exec(block, {})
    assert capsys.readouterr().out == "4660 []\n"


# Word and byte order, who may call, who has gone


@pytest.mark.parametrize("word_order", ["big", "little"])
@pytest.mark.parametrize("byte_order", ["big", "little"])
def test_the_test_registers_tell_both_orders(word_order: str, byte_order: str) -> None:
    """A PLC that takes registers and words the other way round reads with the right setting what is meant."""
    uri = f"modbus-tcp-server://127.0.0.1:0?word_order={word_order}&byte_order={byte_order}"
    output = ModbusServer(server_settings(uri), PlcLink())
    output.send(a_verdict(70_001))
    with plc_client(output.port) as plc:
        block = station_block(plc)
        if byte_order == "little":
            assert block[18] == 0x3412
            block = [int.from_bytes(word.to_bytes(2, "little"), "big") for word in block]
        assert block[18] == 0x1234
        order = cast(Literal["big", "little"], word_order)
        assert decode("TEST_F32", block, order) == 1.0
        assert decode("RESULT_ID", block, order) == 70_001
        bits = [bool(word >> bit & 1) for word in block for bit in range(16)]
        assert plc.read_coils(16 * STATION_START, len(bits)) == bits, "a bit has its place in any byte order"
        assert plc.read_discrete_inputs(16 * STATION_START, len(bits)) == bits
    output.close()


def test_what_a_plc_writes_with_its_bytes_swapped_is_understood() -> None:
    link = PlcLink(Mode.IDS)
    settings = server_settings("modbus-tcp-server://127.0.0.1:0?handshake=ids&byte_order=little")
    output = ModbusServer(settings, link)
    output.beat(1, healthy=True)
    with plc_client(output.port) as plc:
        assert plc.write_single_register(0, 0x0100), "ENABLE"
        assert plc.write_multiple_registers(1, [0x0100, 0x7111])
        request = link.wait(0.0)
        assert request is not None and request.part_id == 0x0001_1171
        assert plc.read_holding_registers(0, 3) == [0x0100, 0x0100, 0x7111], "as it was written"
        assert plc.write_read_multiple_registers(6, [0x0200], 6, 1) == [0x0200]
        assert plc.read_coils(16 * 6, 3) == [False, True, False]
    output.close()


def test_the_station_writes_with_its_bytes_swapped_and_only_its_block() -> None:
    port = free_port()
    with plc_server(port) as plc:
        plc.data_bank.set_holding_registers(0, [0xAAAA] * 400)
        output = open_output(f"modbus-tcp://127.0.0.1:{port}?byte_order=little&offset=100&handshake=ids")
        output.beat(1, healthy=True)
        output.send(a_verdict(1))
        bank = [int(word) for word in plc.data_bank.get_holding_registers(0, 400)]
        output.close()
    assert bank[200 + 18] == 0x3412 and bank[200 + 16] == 0x0100, "TEST_U16, HEARTBEAT"
    assert set(bank[:200] + bank[250:]) == {0xAAAA}


def test_a_mask_write_has_its_bytes_swapped_too() -> None:
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0?byte_order=little"), PlcLink())
    with plc_client(output.port) as plc, socket.create_connection(("127.0.0.1", output.port), 5.0) as raw:
        assert plc.write_multiple_coils(0, [True, True])
        request = bytes.fromhex("0001000000080116 0000 feff 0000")  # AND 0xFFFE, as such a PLC says it
        raw.sendall(request)
        assert raw.recv(64) == request
        assert plc.read_coils(0, 3) == [False, True, False]
        assert plc.read_holding_registers(0, 1) == [0x0200]
    output.close()


def register_118(port: int, source: str) -> bytes:
    """What a caller from another address of this machine is answered; b"" where the station hangs up."""
    with (
        socket.create_connection(("127.0.0.1", port), 5.0, source_address=(source, 0)) as plc,
        suppress(OSError),
    ):
        plc.sendall(bytes.fromhex("000100000006010300760001"))
        return plc.recv(64)
    return b""


@pytest.mark.parametrize(
    ("allow", "let_in", "kept_out"),
    [
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.1", "127.0.0.3"]),
        ("127.0.0.9,127.0.1.0/24", ["127.0.0.9", "127.0.1.77"], ["127.0.0.1", "127.0.2.1"]),
    ],
)
def test_only_addresses_on_the_list_are_answered(allow: str, let_in: list[str], kept_out: list[str]) -> None:
    output = ModbusServer(server_settings(f"modbus-tcp-server://127.0.0.1:0?allow={allow}"), PlcLink())
    for source in let_in + kept_out + let_in:
        answer = register_118(output.port, source)
        assert answer[-2:] == (b"\x12\x34" if source in let_in else b""), source
    output.close()


@pytest.mark.parametrize("allow", ["", "plc7", "10.0.0.1/8", "10.0.0.1;10.0.0.2"])
def test_a_list_nobody_can_mean_is_refused(allow: str) -> None:
    with pytest.raises(InspectError, match="allow="):
        output_opener(f"modbus-tcp-server://0.0.0.0?allow={allow}")


def test_a_plc_that_hangs_up_finds_nothing_of_before_and_readers_go_unheard() -> None:
    """The story: the PLC was switched off with a pass on show, came back, and took it for its next part's."""
    link = PlcLink(Mode.IDS)
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0?handshake=ids"), link)
    output.beat(1, healthy=True)
    with plc_client(output.port) as panel:
        with plc_client(output.port) as plc:
            assert plc.write_multiple_registers(0, [Control.ENABLE])
            assert plc.write_multiple_registers(1, [0, 7])
            request = link.wait(0.0)
            assert request is not None
            output.send(replace(a_verdict(1), part_id=7, request=request.number))
            with plc_client(output.port) as another:
                assert another.read_holding_registers(101, 1) == [1]
                assert not another.write_single_register(101, 1)
            assert not until(lambda: decode("VERDICT", station_block(panel)) != 1, 0.2), (
                "only a reader has gone"
            )
        assert until(lambda: decode("VERDICT", station_block(panel)) == 0)
        status = Status(station_block(panel)[0])
        assert Status.ONLINE in status and not status & (Status.READY | Status.RESULT_VALID)
        with plc_client(output.port) as plc:
            assert plc.write_multiple_registers(0, [Control.ENABLE, 0, 8])
            assert Status.READY in Status(station_block(panel)[0])
            assert link.wait(0.0) is None, "the id that stands when it comes back triggers nothing"
    output.close()


def test_without_a_handshake_a_result_outlives_whoever_has_written() -> None:
    output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0"), PlcLink())
    output.send(a_verdict(1))
    with plc_client(output.port) as panel:
        with plc_client(output.port) as plc:
            assert plc.write_single_register(6, 1)
        assert not until(lambda: decode("VERDICT", station_block(panel)) != 1, 0.2)
    output.close()


def test_a_fault_in_what_an_order_starts_ends_the_connection_not_the_handshake_unheard() -> None:
    """The story: the thread that looks at the PLC died, and the station beat on; nobody heard triggers."""

    def carry_out(order: Order) -> None:
        raise LookupError(order.command.name)

    port, link = free_port(), PlcLink(Mode.BITS, carry_out=carry_out)
    with plc_server(port) as plc:
        output = output_opener(f"modbus-tcp://127.0.0.1:{port}?handshake=bits", link=link)()
        output.beat(1, healthy=True)
        plc.data_bank.set_holding_registers(3, [1])
        plc.data_bank.set_holding_registers(0, [Control.EXEC_COMMAND])

        def is_lost() -> bool:
            try:
                output.beat(2, healthy=True)
            except OutputLost as error:
                return "LookupError: LOAD_RECIPE" in error.what
            return False

        assert until(is_lost)
        output.close()


@pytest.mark.parametrize("answer", ["", "0103", "010300", "0183", "01ff", "0110ffff", "2b", "011000640001"])
def test_nonsense_from_the_plc_is_a_lost_output(answer: str) -> None:
    """A peer that speaks something else, or half a frame, in a frame's clothes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            plc, _ = listener.accept()
            with plc, suppress(OSError):
                while asked := plc.recv(300):
                    body = bytes.fromhex(answer)
                    plc.sendall(asked[:4] + len(body).to_bytes(2, "big") + body)

        peer = threading.Thread(target=talk)
        peer.start()
        with pytest.raises(OutputLost):
            open_output(f"modbus-tcp://127.0.0.1:{listener.getsockname()[1]}?timeout_ms=100")
        peer.join()
