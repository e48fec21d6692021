"""The register map: laid out as published, and never a pass that is not one."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from peers import a_verdict

from edge.plc.registers import (
    F32_MAX,
    KEPT_CONTROL,
    PLC_REGISTERS,
    STATION_REGISTERS,
    Control,
    GateBits,
    Register,
    Status,
    decode,
    encode,
)
from edge.plc.station_image import Counters, StationImage, next_sequence, result_block, verdict_code
from edge.verdict import Outcome, Reason, Verdict

DOCS = Path(__file__).parents[1] / "docs" / "outputs.md"


def status(block: list[int]) -> Status:
    return Status(block[0])


@pytest.mark.parametrize("registers", [PLC_REGISTERS, STATION_REGISTERS], ids=["plc", "station"])
def test_no_two_registers_share_a_place(registers: tuple[Register, ...]) -> None:
    taken = [a for r in registers for a in range(r.address, r.address + r.words)]
    assert len(taken) == len(set(taken))
    first, last = (0, 27) if registers is PLC_REGISTERS else (100, 149)
    assert first <= min(taken) and max(taken) <= last


def test_the_documented_table_is_the_code() -> None:
    rows = re.findall(
        r"^\| (\d+)(?:-\d+)? \| (\w+) \| (\w+) \| (.+?) \| (yes|later) \|$", DOCS.read_text(), re.M
    )
    code = [
        (str(r.address), r.name, r.type, r.meaning, "yes" if r.live else "later")
        for r in (*PLC_REGISTERS, *STATION_REGISTERS)
    ]
    assert rows == code


def test_the_documented_bits_are_the_code() -> None:
    rows = re.findall(
        r"^\| (STATUS|CONTROL|GATE) \| (\d+) \| (\w+) \| .+? \| (yes|later) \|$", DOCS.read_text(), re.M
    )
    bits = [("CONTROL", bit, "later" if bit in KEPT_CONTROL else "yes") for bit in Control]
    bits += [("STATUS", bit, "yes") for bit in Status]
    bits += [("GATE", bit, "yes") for bit in GateBits]
    assert rows == [(word, str(bit.bit_length() - 1), bit.name, live) for word, bit, live in bits]


@pytest.mark.parametrize(
    ("outcome", "reason", "code", "bits"),
    [
        (Outcome.PASS, Reason.WITHIN_LIMITS, 1, Status.PASS),
        (Outcome.FAIL, Reason.ANOMALY, 2, Status.FAIL),
        (Outcome.REVIEW, Reason.BORDERLINE, 3, Status.WARNING),
        (Outcome.FAIL, Reason.CAMERA_LOST, 3, Status.ERROR),
        (Outcome.REVIEW, Reason.DEADLINE_MISSED, 3, Status.ERROR),
    ],
)
def test_verdict_register_and_bits(outcome: Outcome, reason: Reason, code: int, bits: Status) -> None:
    block = result_block(a_verdict(7, outcome, reason), Counters(), 1, 0)
    assert decode("VERDICT", block) == code
    assert status(block) == bits | Status.ONLINE | Status.RESULT_VALID
    assert decode("REASON", block) == reason
    assert decode("ERROR_CODE", block) == (reason if reason.is_fault else 0)


POSSIBLE = [
    (outcome, reason)
    for outcome in Outcome
    for reason in Reason
    if outcome is not Outcome.PASS or reason is Reason.WITHIN_LIMITS  # no other pass can be made
]


@pytest.mark.parametrize(("outcome", "reason"), POSSIBLE)
def test_only_a_pass_reads_as_one(outcome: Outcome, reason: Reason) -> None:
    block = result_block(a_verdict(1, outcome, reason), Counters(), 1, 0)
    is_pass = outcome is Outcome.PASS
    assert (decode("VERDICT", block) == 1) == is_pass
    assert bool(status(block) & Status.PASS) == is_pass
    assert not (status(block) & Status.PASS and status(block) & Status.FAIL)


def test_every_value_stands_where_the_map_says() -> None:
    verdict = replace(a_verdict(3, Outcome.FAIL), part_id=0x0001_2345)
    block = result_block(verdict, Counters(70_000, 1, 2, 3), 9, 11, recipe_number=4)
    assert len(block) == 50
    assert block[1:13] == [2, 0x0001, 0x2345, 9, 1, 15_000, 5_000, 38, 4, 4, 0, 0]
    assert block[14] == 0xABCD  # first digits of the recipe's digest
    assert block[16:19] == [11, 1, 0x1234]
    assert block[20:28] == [1, 70_000 - 65_536, 0, 1, 0, 2, 0, 3]
    assert block[32:36] == [0x3FC0, 0, 0x3F80, 0]  # 1.5 and 1.0 as IEEE 754


@pytest.mark.parametrize("order", ["big", "little"])
def test_word_order_swaps_registers_not_bytes(order: str) -> None:
    block = encode({"RESULT_ID": 0x11223344, "TEST_F32": 1.0, "TEST_U16": 0x1234}, order)  # type: ignore[arg-type]
    assert block[2:4] == ([0x1122, 0x3344] if order == "big" else [0x3344, 0x1122])
    assert block[18] == 0x1234
    assert decode("RESULT_ID", block, order) == 0x11223344  # type: ignore[arg-type]
    assert decode("TEST_F32", block, order) == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("score", "u16", "f32"),
    [(None, 65_535, F32_MAX), (float("nan"), 65_535, F32_MAX), (float("-inf"), 65_535, F32_MAX),
     (-3.0, 0, -3.0), (6.5535, 65_535, 6.5535), (1e30, 65_535, 1e30)],
)  # fmt: skip
def test_scores_saturate_and_no_score_is_the_worst(score: float | None, u16: int, f32: float) -> None:
    verdict = replace(a_verdict(1, Outcome.FAIL), score=score)
    block = result_block(verdict, Counters(), 1, 0)
    assert decode("SCORE", block) == u16
    assert decode("SCORE_F32", block) == pytest.approx(f32, rel=1e-6)


def test_ids_and_counters_wrap_at_32_bits() -> None:
    verdict: Verdict = replace(a_verdict(1), part_id=2**32 + 5)
    block = result_block(verdict, Counters(total=2**32 + 6), 1, 70_000)
    assert decode("RESULT_ID", block) == 5
    assert decode("COUNT_TOTAL", block) == 6
    assert decode("HEARTBEAT", block) == 70_000 - 65_536


def test_sequence_never_takes_zero() -> None:
    assert next_sequence(0) == 1
    assert next_sequence(65_534) == 65_535
    assert next_sequence(65_535) == 1


def test_toggle_flips_with_every_result() -> None:
    """It hangs on the count, not on SEQUENCE, whose wrap 65535 -> 1 would keep an odd bit."""
    image, seen = StationImage(), []
    image.sequence = 65_534
    for number in range(4):
        image.publish(a_verdict(number))
        seen.append(bool(status(image.block()) & Status.RESULT_TOGGLE))
    assert seen == [True, False, True, False]


def test_a_stalled_station_stops_its_heart_and_takes_its_verdict_back() -> None:
    image = StationImage()
    image.beat(5, healthy=True)
    image.publish(a_verdict(1))
    image.beat(6, healthy=False)
    block = image.block()
    assert not status(block) & (Status.ONLINE | Status.RESULT_VALID | Status.PASS)
    assert (decode("VERDICT", block), decode("RESULT_ID", block), decode("HEARTBEAT", block)) == (0, 0, 5)
    assert decode("ERROR_CODE", block) == Reason.STATION_FAULT
    assert status(block) & Status.ERROR
    image.beat(6, healthy=True)
    assert status(image.block()) & Status.ONLINE
    assert decode("VERDICT", image.block()) == 0, "an old verdict must not rise again"


def test_a_verdict_sent_again_keeps_its_sequence() -> None:
    image, verdict = StationImage(), a_verdict(1, Outcome.FAIL)
    image.publish(verdict)
    image.withdraw()
    image.publish(verdict)
    assert (image.sequence, image.counters) == (1, Counters(total=1, failed=1))


def test_a_withdrawn_block_still_answers_the_test_registers() -> None:
    block = StationImage().block()
    assert verdict_code(None) == decode("VERDICT", block) == 0
    assert status(block) == Status(0)
    assert [decode(name, block) for name in ("TEST_U16", "TEST_F32", "API_VERSION")] == [0x1234, 1.0, 1]
