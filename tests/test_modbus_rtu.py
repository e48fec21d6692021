"""Modbus RTU over a pair of pseudo-terminals, against other libraries than ours at the far end."""

import os
import select
import termios
from contextlib import suppress
from dataclasses import replace

import minimalmodbus
import pytest
from peers import a_verdict, null_modem, plc_master, plc_slave, serial_pair, until

from edge.errors import InspectError, OutputLost
from edge.outputs import open_output, output_opener
from edge.outputs.modbus import ModbusServer
from edge.outputs.modbus_settings import SerialFormat, rtu_settings
from edge.outputs.modbus_wire import own_frame
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.registers import STATION_COUNT, STATION_START, Control, Status, decode
from edge.station.outbox import Outbox
from edge.verdict import Outcome

LINE = "baud=115200&parity=none"  # a pseudo-terminal has no parity


# The station as slave


def test_the_master_reads_the_same_by_all_four_function_codes() -> None:
    with null_modem() as (far, near), plc_master(far, 7) as plc:
        output = open_output(f"modbus-rtu-server://{near}?{LINE}&unit=7")
        output.send(a_verdict(70_001, Outcome.FAIL))
        block = plc.read_registers(STATION_START, STATION_COUNT)
        assert plc.read_registers(STATION_START, STATION_COUNT, functioncode=4) == block
        assert (decode("VERDICT", block), decode("RESULT_ID", block)) == (2, 70_001)
        bits = [word >> bit & 1 for word in block for bit in range(16)]
        assert plc.read_bits(16 * STATION_START, len(bits), functioncode=1) == bits
        assert plc.read_bits(16 * STATION_START, len(bits), functioncode=2) == bits
        assert plc.read_float(134) == 1.0 and plc.read_register(118) == 0x1234
        output.close()


def test_a_handshake_over_rs485() -> None:
    link = PlcLink(Mode.IDS)
    with null_modem() as (far, near), plc_master(far) as plc:
        output = ModbusServer(rtu_settings(f"modbus-rtu-server://{near}?{LINE}&handshake=ids", True), link)
        output.beat(1, healthy=True)
        plc.write_registers(0, [Control.ENABLE, 0, 0])
        plc.write_registers(1, [1, 0x1171])
        request = link.wait(5.0)
        assert request is not None and request.part_id == 70_001
        output.send(replace(a_verdict(1), part_id=70_001, request=request.number))
        block = plc.read_registers(STATION_START, STATION_COUNT)
        assert decode("RESULT_ID", block) == 70_001 and block[0] & Status.PASS
        plc.write_registers(26, [1, 0x1171])
        assert plc.read_register(101) == 0
        output.close()


def test_the_master_writes_its_block_and_only_its_block() -> None:
    with null_modem() as (far, near), plc_master(far) as plc:
        output = open_output(f"modbus-rtu-server://{near}?{LINE}")
        plc.write_registers(0, list(range(28)))
        assert plc.read_registers(0, 28) == list(range(28))
        plc.serial.timeout = 1.0  # it waits so long for more than a refusal
        with pytest.raises(minimalmodbus.IllegalRequestError, match="illegal data address"):
            plc.write_register(101, 1, functioncode=6)
        with pytest.raises(minimalmodbus.IllegalRequestError, match="illegal data address"):
            plc.write_registers(27, [0, 0])
        output.close()


# CRC included; unit 9 is a neighbour, unit 1 the station.
ASK_9, ANSWER_9 = bytes.fromhex("0903000000018542"), bytes.fromhex("090302123454f2")
SET_9 = bytes.fromhex("09060006ffff6933")  # answered with the same bytes
ASK_1, ANSWER_1 = bytes.fromhex("01030076000165d0"), bytes.fromhex("0103021234b533")  # register 118


@pytest.mark.parametrize(
    "before",
    [b"", ASK_9 + ANSWER_9, ASK_9 + ANSWER_9 + SET_9 + SET_9, b"\x00\xff\x01\x03", ASK_1[:-1], 40 * ANSWER_9],
    ids=["nothing", "a neighbour's answer", "much traffic", "noise", "half a request", "long traffic"],
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_on_a_shared_line_each_own_request_is_answered_and_no_other(before: bytes, pieces: int) -> None:
    """The story: a neighbour's short answer was taken for the head of the next request, which was then lost;
    and a request for another unit was answered with an exception.
    """
    with serial_pair() as (plc, port):
        output = open_output(f"modbus-rtu-server://{port}?{LINE}")
        os.write(plc, before)
        for at in range(0, len(ASK_1), -(-len(ASK_1) // pieces)):
            os.write(plc, ASK_1[at : at + -(-len(ASK_1) // pieces)])
        assert _read(plc, len(ANSWER_1)) == ANSWER_1
        os.write(plc, ASK_1)
        assert _read(plc, len(ANSWER_1)) == ANSWER_1, "the first answer, and nothing before the second one"
        output.close()


def test_own_frame_is_told_by_unit_and_checksum() -> None:
    assert own_frame(ANSWER_9 + ASK_1, 1) == ASK_1
    assert own_frame(ASK_1 + ASK_1, 1) == ASK_1, "repeated, because the station was slow: answered once"
    for wrong in (b"", ASK_1[:-1], ASK_9, ASK_1 + b"\x01", bytes([*ASK_1[:3], ASK_1[3] ^ 1, *ASK_1[4:]])):
        assert own_frame(wrong, 1) == b""


def test_a_port_that_is_pulled_out_is_an_alarm_and_is_tried_again() -> None:
    with serial_pair() as (plc, port):
        outbox = Outbox(output_opener(f"modbus-rtu-server://{port}?{LINE}"), beat_s=0.02)
        os.write(plc, ASK_1)
        assert until(lambda: select.select([plc], [], [], 0)[0] != [] or os.write(plc, ASK_1) < 0)
        os.close(plc)
        assert until(lambda: outbox.alarm and outbox.counters.retries > 0)
        assert "rights (group dialout)" in outbox.last_error
        outbox.close(timeout_s=0.1)


def test_a_port_that_is_not_there_says_what_to_do() -> None:
    for role in ("modbus-rtu", "modbus-rtu-server"):
        with pytest.raises(OutputLost, match=r"by-id.*dialout"):
            open_output(f"{role}:///dev/ttyNONE")


@pytest.mark.parametrize("role", ["modbus-rtu-server", "modbus-rtu"])
def test_the_line_is_set_as_typed(role: str) -> None:
    with serial_pair() as (plc, port):
        within = "&timeout_ms=10" if role == "modbus-rtu" else ""
        with suppress(OutputLost):  # as master it finds nobody at the far end
            open_output(f"{role}://{port}?baud=38400&parity=none&stop=2{within}").close()
        *_, flags, _, speed, _, _ = termios.tcgetattr(plc)
        assert (bool(flags & termios.CSTOPB), speed) == (True, termios.B38400)


# The station as master


def test_the_station_writes_into_a_slave_and_only_its_block() -> None:
    with null_modem() as (far, near), plc_slave(far, 5, 1200) as registers:
        output = open_output(f"modbus-rtu://{near}?{LINE}&unit=5&offset=1000&word_order=little")
        output.send(a_verdict(70_001))
        block = registers(1100, STATION_COUNT)
        assert decode("RESULT_ID", block, "little") == 70_001 and decode("TEST_F32", block, "little") == 1.0
        assert block[0] & Status.RESULT_VALID and decode("VERDICT", block) == 1
        output.close()
        assert decode("VERDICT", registers(1100, STATION_COUNT)) == 0
        assert registers(0, 1100) == [0xAAAA] * 1100 and registers(1150, 50) == [0xAAAA] * 50


def test_a_garbled_answer_costs_a_repetition_not_the_connection() -> None:
    noise = [False]

    def flip(data: bytes) -> bytes:
        garbled, noise[0] = noise[0], False
        return bytes([data[0] ^ 0x10, *data[1:]]) if garbled else data

    with null_modem(flip) as (far, near), plc_slave(far, 1, 200) as registers:
        output = open_output(f"modbus-rtu://{near}?{LINE}&timeout_ms=300")
        noise[0] = True
        output.send(a_verdict(3))
        assert not noise[0] and decode("RESULT_ID", registers(100, 50)) == 3
        output.close()


def test_a_silent_slave_is_given_up_in_bounded_time() -> None:
    with serial_pair() as (_, port), pytest.raises(OutputLost, match=r"stopped answering: no answer.*unit=3"):
        open_output(f"modbus-rtu://{port}?{LINE}&timeout_ms=50&unit=3")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("modbus-rtu://", "no serial port"),
        ("modbus-rtu:///dev/ttyS0?parity=mark", "none, even, odd"),
        ("modbus-rtu:///dev/ttyS0?unit=0", "1 to 247"),
        ("modbus-rtu:///dev/ttyS0?stop=3", "1 to 2"),
        ("modbus-rtu-server:///dev/ttyS0?offset=5", "unknown setting 'offset'"),
        ("modbus-rtu-server:///dev/ttyS0?allow=10.0.0.1", "unknown setting 'allow'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_opened(uri: str, told: str) -> None:
    with pytest.raises(InspectError, match=told):
        output_opener(uri)


def test_settings() -> None:
    usual = rtu_settings("modbus-rtu:///dev/ttyUSB0", False)
    assert (usual.host, usual.serial, usual.unit) == ("/dev/ttyUSB0", SerialFormat(19_200, "E", 1), 1)
    assert rtu_settings("modbus-rtu-server://COM3?parity=odd&stop=2", True).serial == SerialFormat(
        19_200, "O", 2
    )


def _read(plc: int, count: int) -> bytes:
    data = b""
    while len(data) < count and select.select([plc], [], [], 5.0)[0]:
        data += os.read(plc, count - len(data))
    return data
