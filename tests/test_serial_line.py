"""The serial output over real pseudo-terminals, with pyserial at the PLC's end."""

import os
from collections.abc import Iterator

import pytest
import serial
from peers import a_verdict, null_modem, serial_pair, until

from edge.errors import InspectError, OutputLost
from edge.outputs import Output, open_output
from edge.outputs.serial_line import port_settings
from edge.plc.line_protocol import checksum

Line = tuple[serial.Serial, Output]


@pytest.fixture
def line() -> Iterator[Line]:
    """The PLC's port and the station's output on the other end of the cable."""
    with null_modem() as (far, near), serial.Serial(far, 9600, timeout=2.0) as plc:
        output = open_output(f"serial://{near}?baud=9600", recipe_number=2)
        yield plc, output
        output.close()


def read_line(plc: serial.Serial) -> str:
    """One line, without its CR."""
    return str(plc.read_until(b"\r").decode().removesuffix("\r"))


def test_a_result_comes_unasked_with_id_and_checksum(line: Line) -> None:
    plc, output = line
    output.send(a_verdict(4711))
    text, _, given = read_line(plc).partition("*")
    assert text == "RES,4711,PASS,0.1234,2,38"
    assert given == checksum(text)


def test_commands_are_answered_between_results(line: Line) -> None:
    plc, output = line
    output.beat(1, healthy=True)
    plc.write(b"VER\rHB*0A\r\x1bCNT\r")
    assert [read_line(plc) for _ in range(3)] == ["OK,edge-inspect,1.0", "OK*04", "OK,0,0,0,0"]
    output.send(a_verdict(5))
    assert read_line(plc).startswith("RES,5,PASS,")
    plc.write(b"ACK,5\rTRG\r")
    assert [read_line(plc), read_line(plc)] == ["OK", "ER,04"]


def test_a_hundred_results_and_answers_do_not_mix(line: Line) -> None:
    """Two threads write to the port; no line may be torn by the other's."""
    plc, output = line
    output.beat(1, healthy=True)
    for number in range(100):
        plc.write(b"HB\r")
        output.send(a_verdict(number))
    lines = [read_line(plc) for _ in range(200)]
    assert lines.count("OK") == 100
    results = [each.partition("*") for each in lines if each != "OK"]
    assert [int(text.split(",")[1]) for text, _, _ in results] == list(range(100))
    assert all(checksum(text) == given for text, _, given in results)


def test_two_stations_cannot_hold_one_port(line: Line) -> None:
    with pytest.raises(OutputLost, match="no other program"):
        open_output(line[1].uri)


def test_a_closed_far_end_is_a_lost_output() -> None:
    with serial_pair() as (plc, port):
        output = open_output(f"serial://{port}")
        os.close(plc)

        def lost() -> bool:
            try:
                output.beat(1, healthy=True)
            except OutputLost:
                return True
            return False

        assert until(lost)
        with pytest.raises(OutputLost, match=r"serial port lost.*Check cable"):
            output.send(a_verdict(1))
        output.close()
        output.close()


def test_a_port_that_is_not_there_says_what_to_do() -> None:
    with pytest.raises(OutputLost, match="dialout"):
        open_output("serial:///dev/no-such-port")


def test_settings() -> None:
    assert port_settings("serial:///dev/ttyUSB0").baud == 115_200
    assert port_settings("serial://COM3?baud=9600").port == "COM3"
    for wrong in ("serial://", "serial:///dev/x?baud=fast", "serial:///dev/x?parity=odd"):
        with pytest.raises(InspectError):
            port_settings(wrong)
