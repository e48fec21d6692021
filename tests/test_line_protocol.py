"""The ASCII line protocol without a port: bytes in, lines and answers out."""

import random
from dataclasses import replace

import pytest
from peers import a_verdict

from edge.plc.handshake import Handshake
from edge.plc.line_protocol import (
    INCOMPLETE_NS,
    LONGEST_LINE,
    Received,
    answer,
    checksum,
    receive,
    result_line,
)
from edge.plc.station_image import StationImage
from edge.verdict import Outcome, Reason


def a_station() -> Handshake:
    hand = Handshake(StationImage(recipe_number=3))
    hand.beat(1, True, 0)
    hand.publish(replace(a_verdict(1), part_id=4711), 0)
    return hand


def test_checksum_is_the_xor_of_the_characters() -> None:
    assert checksum("OK") == "04"  # 0x4F ^ 0x4B
    assert checksum("") == "00"


@pytest.mark.parametrize(
    ("outcome", "reason", "text"),
    [
        (Outcome.PASS, None, "RES,4711,PASS,0.1234,3,38"),
        (Outcome.FAIL, None, "RES,4711,FAIL,1.5000,3,38"),
        (Outcome.REVIEW, None, "RES,4711,NODEC,0.6000,3,38"),
        (Outcome.FAIL, Reason.CAMERA_LOST, "RES,4711,NODEC,-,3,38"),
    ],
)
def test_result_lines(outcome: Outcome, reason: Reason | None, text: str) -> None:
    verdict = replace(a_verdict(1, outcome, reason), part_id=4711)
    assert result_line(verdict, 3) == f"{text}*{checksum(text)}\r".encode()


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("VER", "OK,edge-inspect,1.0"), ("ver", "OK,edge-inspect,1.0"), ("ST", "OK,RUN,0,0,0"),
        ("HB", "OK"), ("CNT", "OK,1,1,0,0"), ("ACK,4711", "OK"), ("ACK,4712", "ER,04"), ("ACK,x", "ER,03"),
        ("ACK", "ER,03"), ("ACK,1,2", "ER,03"), ("VER,1", "ER,03"), ("TRG", "ER,04"), ("TRG,5", "ER,04"),
        ("RCP", "OK,3"), ("RCP,2", "OK"), ("RCP,x", "ER,03"), ("RCP,1,2", "ER,03"), ("LOT,12", "OK"),
        ("LOT", "ER,03"), ("CHL", "OK"), ("CHL,1", "ER,03"), ("CMD", "OK,-"),
        ("", "ER,01"), ("HELLO", "ER,01"), ("\ufffd", "ER,01"), ("ACK,\u0662", "ER,03"),
    ],
)  # fmt: skip
def test_answers(line: str, reply: str) -> None:
    assert answer(line, a_station(), 0) == f"{reply}\r".encode()


def test_a_command_is_asked_about_until_it_has_ended() -> None:
    hand = a_station()
    assert answer("RCP,2", hand, 0) == b"OK\r"
    assert [answer(line, hand, 0) for line in ("CMD", "CHL", "RST")] == [b"OK,BUSY\r", b"ER,02\r", b"ER,02\r"]
    assert hand.commands.order is not None
    hand.end_command(hand.commands.order, False, 0)
    assert answer("CMD", hand, 0) == b"OK,FAILED\r"
    assert [answer(line, hand, 0) for line in ("RST", "CMD")] == [b"OK\r", b"OK,DONE\r"]


def test_a_checksum_is_checked_and_given_back() -> None:
    assert answer(f"HB*{checksum('HB')}", a_station(), 0) == b"OK*04\r"
    assert answer(f"HB*{checksum('HB').lower()}", a_station(), 0) == b"OK*04\r"
    assert answer("HB*00", a_station(), 0).startswith(b"ER,08*")
    assert answer("HB*", a_station(), 0).startswith(b"ER,08*")


def test_a_stalled_station_says_so() -> None:
    hand = a_station()
    hand.beat(2, False, 0)
    assert answer("HB", hand, 0) == b"ER,04\r"
    assert answer("ST", hand, 0) == b"OK,STOP,0,0,60\r"
    assert answer("ACK,4711", hand, 0) == b"ER,04\r"


def test_a_fault_stands_in_the_state() -> None:
    hand = a_station()
    hand.publish(a_verdict(2, Outcome.FAIL, Reason.CAMERA_TIMEOUT), 0)
    assert answer("ST", hand, 0) == b"OK,RUN,0,0,11\r"


def test_lines_may_come_in_any_pieces() -> None:
    text = b"VER\r\nST\rACK,12\r\n"
    for cut in range(len(text) + 1):
        half, first = receive(Received(), text[:cut], 0)
        _, second = receive(half, text[cut:], 1)
        assert first + second == ["VER", "ST", "ACK,12"]


def test_escape_clears_what_was_received() -> None:
    assert receive(Received(), b"rubbish\x1bHB\r", 0)[1] == ["HB"]


def test_an_incomplete_line_is_dropped_after_ten_seconds() -> None:
    half, _ = receive(Received(), b"VE", 5)
    assert receive(half, b"R\r", 5 + INCOMPLETE_NS)[1] == ["VER"]
    assert receive(half, b"HB\r", 6 + INCOMPLETE_NS)[1] == ["HB"]


def test_a_line_without_end_takes_no_memory_and_is_an_error() -> None:
    state, lines = receive(Received(), b"x" * 10_000, 0)
    assert len(state.data) == LONGEST_LINE and lines == []
    state, lines = receive(state, b"\rHB\r", 1)
    assert lines == ["", "HB"]
    assert answer(lines[0], a_station(), 0) == b"ER,01\r"


def test_noise_gets_an_answer_and_never_an_exception() -> None:
    noise, state, hand = random.Random(7), Received(), a_station()
    for now in range(200):
        state, lines = receive(state, noise.randbytes(64), now)
        assert all(answer(line, hand, 0).endswith(b"\r") for line in lines)
