"""The gate is wired: encoder and triggers over real Modbus in, register GATE out; alarms reach the PLC."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from peers import a_verdict, free_port, plc_client, until
from pyModbusTCP.client import ModbusClient
from test_orders import BAD, GOOD, write
from toy import toy_pair

from edge.errors import InspectError
from edge.outputs import handshake_of
from edge.plc.handshake import Mode
from edge.plc.line_events import Event, Happened
from edge.plc.registers import PLC_COUNT, Control, GateBits, Status, decode, place
from edge.station.compose import station_of
from edge.station.gatekeeper import GateKeeper, parse_gate
from edge.station.line import LineOptions
from edge.station.running import RunOptions
from edge.trigger import Request
from edge.verdict import Outcome, Reason, Verdict

GATE = "distance=1000,tolerance=50"
WRAPS = 2**32 - 500  # the encoder begins again between camera and gate


class Belt:
    """The PLC: its encoder, its triggers, its sensor."""

    def __init__(self, client: ModbusClient, start: int) -> None:
        self.client, self.start, self.moved = client, start, 0
        self.control, self.part = Control.ENABLE, 0
        self.block = [0] * 50

    def write(self) -> None:
        registers = [0] * PLC_COUNT
        encoder = (self.start + self.moved) % 2**32
        for name, value in (("CONTROL", self.control), ("TRIGGER_ID", self.part), ("ENCODER", encoder)):
            place(registers, 0, name, value)
        assert self.client.write_multiple_registers(0, registers)

    def look(self) -> Status:
        self.block = self.client.read_holding_registers(100, 50) or [0] * 50
        return Status(self.block[0])

    def read(self, name: str) -> int:
        self.look()
        return int(decode(name, self.block))

    def judge(self, part: int) -> None:
        """Trigger, wait for the result, take it."""
        assert until(lambda: bool(self.look() & Status.READY), 20.0)
        self.part, self.control = part, self.control | Control.TRIGGER
        self.write()
        assert until(lambda: bool(self.look() & Status.RESULT_VALID), 20.0)
        self.press(Control.RESULT_ACK)

    def press(self, bit: Control) -> None:
        """Set it for a moment."""
        self.control = (self.control | bit) & ~Control.TRIGGER
        self.write()
        self.control &= ~bit
        self.write()

    def move_to(self, moved: int) -> None:
        """At once: every place that matters is waited at."""
        self.moved = moved
        self.write()

    def gate_is(self, bits: GateBits) -> bool:
        return until(lambda: self.read("GATE") == bits)


@contextmanager
def belt(tmp_path: Path, gate: str, start: int = 0) -> Iterator[Belt]:
    port = free_port()
    run = RunOptions(
        f"{write(tmp_path / 'line', GOOD, BAD)}?loop=1", toy_pair(tmp_path),
        [f"modbus-tcp-server://127.0.0.1:{port}?handshake=bits"], "onnxruntime", line=LineOptions(gate=gate),
    )  # fmt: skip
    with station_of(run) as running, plc_client(port) as client:
        loop = threading.Thread(target=running.station.run)
        loop.start()
        try:
            plc = Belt(client, start)
            # Reads until it answers: a count of 0 that falls to `start` would be an encoder that jumped.
            assert until(lambda: client.read_holding_registers(100, 50) is not None)
            plc.write()
            yield plc
        finally:
            running.station.stop()
            loop.join()


def test_parts_in_flight_meet_the_gate_where_the_encoder_says_and_only_the_good_one_gets_through(
    tmp_path: Path,
) -> None:
    with belt(tmp_path, GATE, WRAPS) as plc:
        plc.judge(1)  # good
        plc.move_to(300)
        plc.judge(2)  # bad
        plc.move_to(900)
        assert plc.gate_is(GateBits(0))
        plc.move_to(1000)
        assert plc.gate_is(GateBits.LET_THROUGH)
        plc.move_to(1200)
        assert plc.gate_is(GateBits(0))
        plc.move_to(1300)
        assert plc.gate_is(GateBits.REJECT)
        plc.move_to(1400)
        assert plc.gate_is(GateBits(0))
        assert (plc.read("WARNING_CODE"), plc.read("ERROR_CODE")) == (0, 0)


def test_a_reject_that_the_sensor_does_not_see_stops_the_line_until_a_person_has_looked(
    tmp_path: Path,
) -> None:
    with belt(tmp_path, f"{GATE},confirm=100") as plc:
        plc.judge(1)
        plc.judge(2)  # bad
        plc.move_to(1000)
        assert plc.gate_is(GateBits.REJECT)
        plc.press(Control.REJECT_CONFIRMED)
        plc.judge(3)
        plc.judge(4)  # bad: nobody confirms
        plc.move_to(1200)
        assert plc.gate_is(GateBits(0)) and plc.read("ERROR_CODE") == 0
        plc.move_to(2000)
        assert plc.gate_is(GateBits.REJECT)
        plc.move_to(2200)
        assert plc.gate_is(GateBits.LINE_STOP)
        assert plc.read("ERROR_CODE") == Reason.GATE_NOT_CONFIRMED
        assert plc.look() & (Status.READY | Status.ERROR) == Status.ERROR
        plc.press(Control.CLEAR_ERROR)
        assert plc.gate_is(GateBits(0))
        assert until(lambda: plc.look() & (Status.READY | Status.ERROR) == Status.READY)


class Gauge:
    """A gate output that keeps what it was shown, and a position that a test sets."""

    def __init__(self) -> None:
        self.position: int | None = None
        self.bits: list[GateBits] = []
        self.warned: list[Reason] = []
        self.stopped: list[Reason] = []

    def show_gate(self, bits: GateBits) -> None:
        self.bits.append(bits)

    def warn(self, reason: Reason) -> None:
        self.warned.append(reason)

    def stop(self, reason: Reason) -> None:
        self.stopped.append(reason)


@contextmanager
def keeping(gate: str, asked: bool) -> Iterator[tuple[GateKeeper, Gauge, list[str]]]:
    gauge, said = Gauge(), list[str]()
    keeper = GateKeeper(parse_gate(gate), lambda: gauge.position, [gauge], asked, said.append)
    yield keeper, gauge, said
    keeper.close()


def asked_for(
    part: int | None, encoder: int, what: Happened = Happened.TRIGGERED, number: int | None = None
) -> Event:
    """`number` of the trigger: the part's unless given; a missed one has none."""
    number = None if what is Happened.MISSED else number or part
    return Event(what, 0, Request(number, part, 0, encoder))


def verdict_of(
    part: int, outcome: Outcome = Outcome.PASS, captured_ns: int = 0, number: int | None = None
) -> Verdict:
    verdict = a_verdict(part, outcome)
    return replace(verdict, part_id=part, captured_ns=captured_ns, request=number or part)


@pytest.mark.parametrize(
    "what", [Happened.TRIGGERED, Happened.MISSED, Happened.TIMED_OUT, Happened.WITHDRAWN]
)
def test_a_part_the_plc_was_never_told_is_good_is_rejected(what: Happened) -> None:
    """No verdict, a missed trigger, one that timed out or was taken back: a later pass is too late."""
    with keeping(GATE, asked=True) as (keeper, gauge, said):
        keeper.hear(asked_for(7, 0, what if what is Happened.MISSED else Happened.TRIGGERED))
        if what in (Happened.TIMED_OUT, Happened.WITHDRAWN):
            keeper.hear(asked_for(7, 0, what))
            keeper.put(verdict_of(7))
        gauge.position = 1000
        assert until(lambda: gauge.bits[-1:] == [GateBits.REJECT])
        unheard = what in (Happened.TRIGGERED, Happened.MISSED)
        assert until(lambda: gauge.warned == [Reason.GATE_NO_VERDICT] * unheard)
        assert said == ["gate: no verdict at the gate: rejected (part 7)"] * unheard


def test_a_part_whose_trigger_was_missed_never_gets_the_pass_of_the_next_one() -> None:
    """The story: the PLC counted its id up only where the station took the trigger. The part that came while
    READY was off and the next one were both part 8: the missed one was let through on the other's pass."""
    with keeping(GATE, asked=True) as (keeper, gauge, _):
        keeper.hear(asked_for(8, 0, Happened.MISSED))
        keeper.hear(asked_for(8, 500, number=1))
        keeper.put(verdict_of(8, number=1))
        gauge.position = 1000
        assert until(lambda: gauge.bits[-1:] == [GateBits.REJECT])
        gauge.position = 1500
        assert until(lambda: gauge.bits[-1:] == [GateBits.LET_THROUGH])
        assert gauge.warned == [Reason.GATE_NO_VERDICT]


def test_a_verdict_that_comes_late_is_not_the_next_part_s_of_the_same_id() -> None:
    """The story: the PLC was told "no decision" for part 1 and was then loaded anew; its next part was part 1
    again, and had the first one's pass before it was judged itself."""
    with keeping(GATE, asked=True) as (keeper, gauge, _):
        keeper.hear(asked_for(1, 0, number=1))
        keeper.hear(asked_for(1, 0, Happened.TIMED_OUT, number=1))
        for gauge.position, bits in ((1000, GateBits.REJECT), (1100, GateBits(0))):
            assert until(lambda b=bits: gauge.bits[-1:] == [b])  # type: ignore[misc]
        keeper.hear(Event(Happened.CLEARED, 0))
        keeper.hear(asked_for(1, 1200, number=2))
        keeper.put(verdict_of(1, number=1))
        gauge.position = 2200
        assert until(lambda: gauge.bits[-1:] == [GateBits.REJECT])


def test_a_part_without_a_number_is_rejected(tmp_path: Path) -> None:
    with keeping(GATE, asked=True) as (keeper, gauge, _):
        keeper.hear(asked_for(None, 0, Happened.MISSED))
        gauge.position = 1000
        assert until(lambda: gauge.bits[-1:] == [GateBits.REJECT])


def test_an_encoder_that_was_reset_stops_the_line(tmp_path: Path) -> None:
    """The story: the PLC was restarted and counted from 0; the parts between camera and gate ran through."""
    with keeping(GATE, asked=True) as (keeper, gauge, said):
        keeper.hear(asked_for(1, 5000))
        gauge.position = 5400
        assert until(lambda: gauge.bits == [GateBits(0)])
        gauge.position = 3
        assert until(lambda: gauge.bits[-1] == GateBits.LINE_STOP)
        assert until(lambda: gauge.stopped == [Reason.GATE_POSITION_LOST])
        assert "the line has to stop: ERROR_CODE 74, until CLEAR_ERROR" in said[-1]
        keeper.hear(Event(Happened.CLEARED, 0))
        assert until(lambda: gauge.bits[-1] == GateBits(0))


def test_a_gate_that_nobody_can_place_parts_at_lets_nothing_through() -> None:
    """The story: the connection broke while a good part was at the gate. LET_THROUGH stood in the register as
    the PLC came back, until it wrote its encoder: whatever came by meanwhile went through."""
    with keeping(GATE, asked=True) as (keeper, gauge, _):
        keeper.hear(asked_for(1, 0))
        keeper.put(verdict_of(1))
        keeper.hear(asked_for(2, 500))
        gauge.position = 1000
        assert until(lambda: gauge.bits[-1:] == [GateBits.LET_THROUGH])
        gauge.position = None
        assert until(lambda: gauge.bits[-1:] == [GateBits(0)])
        gauge.position = 1500
        assert until(lambda: gauge.bits[-1:] == [GateBits.REJECT])


def test_a_plc_that_comes_back_finds_no_gate_open_before_it_has_told_its_position(tmp_path: Path) -> None:
    with belt(tmp_path, GATE) as plc:
        plc.judge(1)
        plc.move_to(1000)
        assert plc.gate_is(GateBits.LET_THROUGH)
        plc.client.close()
        assert plc.gate_is(GateBits(0)), "read by a new connection"
        plc.write()
        assert plc.gate_is(GateBits.LET_THROUGH)


def test_a_part_that_the_plc_got_no_decision_for_is_not_let_through() -> None:
    """The story: the station had judged it good, a slow line held the verdict back, the PLC was told 3."""
    with keeping(GATE, asked=True) as (keeper, gauge, _):
        keeper.hear(asked_for(7, 0))
        keeper.put(verdict_of(7))
        keeper.hear(asked_for(7, 0, Happened.TIMED_OUT))
        gauge.position = 1000
        assert until(lambda: gauge.bits[-1:] == [GateBits.REJECT])


def test_without_a_plc_s_trigger_the_picture_s_time_is_the_part_s_place() -> None:
    with keeping("distance=100ms,tolerance=20ms,rejects=2", asked=False) as (keeper, gauge, _):
        for part, outcome, at_ms in ((1, Outcome.PASS, 0), (2, Outcome.FAIL, 200), (3, Outcome.REVIEW, 400)):
            keeper.put(verdict_of(part, outcome, at_ms * 1_000_000))
        keeper.put(a_verdict(1, Outcome.FAIL, Reason.CAMERA_LOST))  # no part
        for at_ms, bits in (
            (100, GateBits.LET_THROUGH),
            (150, 0),
            (300, GateBits.REJECT),
            (400, 0),
            (500, GateBits.REJECT),
        ):
            gauge.position = at_ms * 1_000_000
            assert until(lambda b=bits: gauge.bits[-1:] == [b]), at_ms  # type: ignore[misc]
        gauge.position = 600_000_000
        assert until(lambda: gauge.stopped == [Reason.REJECTS_IN_A_ROW])


@pytest.mark.parametrize("text", [
    "", "distance=10", "distance=1000ms,tolerance=50", "distance=-5,tolerance=1",
    "distance=100ms,tolerance=10ms",
    "distance=50,tolerance=50", "distance=1000,tolerance=5,speed=3", "distance=1e3,tolerance=5",
    "distance=1000,tolerance=5,rejects=0", "distance=1000,tolerance=5,", "distance=9999999999,tolerance=5",
])  # fmt: skip
def test_a_gate_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InspectError, match="--gate"):
        parse_gate(text)


@pytest.mark.parametrize(("text", "words"), [
    ("distance=1200ms,tolerance=50", "units of .* are mixed .* all lengths in ms"),
    ("distance=100ms,tolerance=10ms", "tolerance=10ms is too small.*tolerance=20ms or more"),
    ("distance=50,tolerance=60", "tolerance=60 is not smaller than distance=50"),
    ("distance=1000,tolerance=5,rejects=0", "rejects=0: the line would always stop"),
])  # fmt: skip
def test_a_refused_gate_says_what_is_wrong_with_it(text: str, words: str) -> None:
    with pytest.raises(InspectError, match=words):
        parse_gate(text)


IN_MS = "distance=90ms,tolerance=20ms"
SERVER = "modbus-tcp-server://127.0.0.1:0"
SILENT = [  # outputs that trigger and carry no register
    "gpio:///dev/gpiochip0?ok=1&fault=2&trigger=3",
    "modbus-tcp-io://io?ok=1&fault=2&trigger=3",
    "serial:///dev/ttyS9?handshake=ids",
    "tcp://plc:1?handshake=ids",
    "mqtt://b/t?handshake=ids",
]


@pytest.mark.parametrize(("options", "outputs", "what"), [
    (LineOptions(gate=GATE), [SERVER], "without part ids"),
    (LineOptions("camera", gate=IN_MS), ["modbus-tcp://plc"], "nobody reads"),
    (LineOptions("camera", gate=GATE), [SERVER], "the encoder's count"),
    *((LineOptions(gate=IN_MS), [uri], "nobody reads") for uri in SILENT),
    *((LineOptions(gate=GATE), [uri, SERVER], "the encoder's count") for uri in SILENT),
    (LineOptions(gate=GATE), ["opc-ua://127.0.0.1?handshake=ids"], "the encoder's count"),
])  # fmt: skip
def test_a_gate_that_nobody_could_drive_is_refused(
    options: LineOptions, outputs: list[str], what: str
) -> None:
    with pytest.raises(InspectError, match=what):
        options.check(any(handshake_of(uri) is not Mode.FREE_RUN for uri in outputs), outputs)


@pytest.mark.parametrize(("gate", "outputs"), [
    *((GATE, [f"{uri}?handshake=bits"]) for uri in ("modbus-tcp://plc", "modbus-rtu:///dev/ttyS9", "s7://plc")),
    *((IN_MS, [uri, SERVER]) for uri in SILENT),
    (IN_MS, ["opc-ua://127.0.0.1?handshake=ids"]),
])  # fmt: skip
def test_a_gate_that_somebody_can_drive_is_taken(gate: str, outputs: list[str]) -> None:
    LineOptions(gate=gate).check(True, outputs)
