"""Lines that are coils of a real Modbus module (another library's), on the network and on a serial line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from modbus_tk import defines
from peers import CoilBank, a_verdict, coil_module, free_port, null_modem, slave_line, until

from edge.errors import InspectError, OutputLost
from edge.outputs import handshake_of, open_output, output_opener
from edge.outputs.remote_io import CoilModule, module_settings
from edge.plc.discrete import Line
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.station.outbox import Outbox
from edge.verdict import Outcome, Reason

WIRING = "ready=3&ok=0&ng=1&fault=2"
READY, OK, NG, FAULT = 3, 0, 1, 2


@contextmanager
def wired(more: str = "") -> Iterator[tuple[str, CoilBank]]:
    port = free_port()
    with coil_module(port) as module:
        yield f"modbus-tcp-io://127.0.0.1:{port}?{WIRING}{more}", module


def seen_by(module: CoilBank) -> bool:
    """The station has looked at the inputs as they stand now."""
    before = module.looks
    return until(lambda: module.looks > before + 1)


def test_a_pass_is_an_ok_pulse_and_everything_else_an_ng() -> None:
    with wired("&pulse_ms=20") as (uri, module):
        output = open_output(uri)
        assert module.coils(4) == [False] * 4
        output.beat(1, healthy=True)
        assert module.coils(4) == [False, False, True, True], "FAULT and READY: all is well"
        pulses: list[int] = []
        for verdict, line in (
            (a_verdict(1), OK),
            (a_verdict(2, Outcome.FAIL), NG),
            (a_verdict(3, Outcome.REVIEW), NG),
            (a_verdict(4, Outcome.FAIL, Reason.CAMERA_LOST), NG),
        ):
            output.send(verdict)
            pulses.append(line)
            assert until(lambda: module.pulses == pulses)
        assert not module.met
        assert module.coils(4)[FAULT] is False, "the last part could not be judged"
        output.close()
        assert module.coils(4) == [False] * 4


def test_a_stall_lets_all_lines_fall() -> None:
    with wired() as (uri, module):
        output = open_output(uri)
        output.beat(1, healthy=True)
        output.send(a_verdict(1))
        assert module.coils(4) == [True, False, True, False]
        output.beat(1, healthy=False)
        assert module.coils(4) == [False] * 4
        output.close()


def test_all_lines_are_written_anew_about_once_a_second() -> None:
    """The story: the module was switched off and on, and stood there with all its outputs off."""
    with wired() as (uri, module):
        output = open_output(uri)
        output.beat(1, healthy=True)
        module.switch_off()

        def beats() -> bool:
            output.beat(2, healthy=True)
            return module.coils(4) == [False, False, True, True]

        assert until(beats)
        output.close()


def test_a_trigger_line_asks_for_a_picture_and_ready_tells_when_the_next_may_come() -> None:
    with wired("&trigger=5&pulse_ms=20") as (uri, module):
        module.input(5, True)  # stands when the station comes: no edge
        link = PlcLink(handshake_of(uri))
        output = output_opener(uri, link=link)()
        output.beat(1, healthy=True)
        assert until(lambda: module.coils(4) == [False, False, True, True])
        assert link.wait(0.05) is None
        for number, outcome in enumerate((Outcome.PASS, Outcome.FAIL, Outcome.PASS), 1):
            module.input(5, False)
            assert until(lambda: module.coils(4)[READY])
            assert seen_by(module)
            module.input(5, True)
            request = link.wait(5.0)
            assert request is not None and request.part_id == number
            assert until(lambda: not module.coils(4)[READY])
            output.send(replace(a_verdict(number, outcome), part_id=request.part_id, request=request.number))
            assert until(lambda: module.coils(4)[READY])
        assert module.pulses == [OK, NG, OK] and not module.met
        output.close()


def test_a_trigger_that_is_not_taken_lets_fault_fall() -> None:
    """Nobody can tell any more which part the next pulse is for: the PLC has to hear of it."""
    with wired("&trigger=5") as (uri, module):
        link = PlcLink(handshake_of(uri), budget_ns=10**12)
        output = output_opener(uri, link=link)()
        output.beat(1, healthy=True)
        for _ in range(2):
            module.input(5, False)
            assert seen_by(module)
            module.input(5, True)
            assert until(lambda: not module.coils(4)[READY])
        assert until(lambda: not module.coils(4)[FAULT])
        output.close()


def test_no_verdict_in_time_is_an_ng() -> None:
    with wired("&trigger=5&pulse_ms=20") as (uri, module):
        link = PlcLink(handshake_of(uri), budget_ns=30_000_000)
        output = output_opener(uri, link=link)()
        output.beat(1, healthy=True)
        assert seen_by(module)
        module.input(5, True)
        assert until(lambda: module.pulses == [NG])
        assert until(lambda: module.coils(4)[READY]) and not module.coils(4)[FAULT]
        output.close()


def test_a_module_on_a_serial_line() -> None:
    with null_modem() as (far, near), slave_line(far, 4) as slave:
        slave.add_block("coils", defines.COILS, 16, 8)
        output = open_output(
            f"modbus-rtu-io://{near}?ok=16&fault=17&life=18&unit=4&baud=115200&parity=none&pulse_ms=10000"
        )
        output.beat(1, healthy=True)
        output.send(a_verdict(1))
        assert list(slave.get_values("coils", 16, 4)) == [1, 1, 1, 0]
        output.close()
        assert list(slave.get_values("coils", 16, 4)) == [0, 0, 0, 0]


def test_a_module_that_goes_is_an_alarm_and_comes_back() -> None:
    port = free_port()
    outbox = Outbox(output_opener(f"modbus-tcp-io://127.0.0.1:{port}?{WIRING}&trigger=0"), beat_s=0.02)
    for losses in (0, 1):
        assert until(lambda: outbox.alarm)
        assert outbox.counters.losses == losses
        with coil_module(port) as module:
            assert until(lambda: not outbox.alarm and module.coils(4)[FAULT])
    outbox.close()


def test_a_refused_coil_names_it() -> None:
    refused = pytest.raises(OutputLost, match=r"the module refuses to switch coil 7000.*0-based")
    with wired() as (uri, _), refused:
        open_output(uri.replace("ok=0", "ok=7000"))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("modbus-tcp-io://10.0.0.1", "no line for ok and fault"),
        ("modbus-tcp-io://10.0.0.1?ok=1", "no line for fault"),
        ("modbus-tcp-io://10.0.0.1?ok=1&fault=1", "two signals on one line"),
        ("modbus-tcp-io://10.0.0.1?ok=1&fault=2&pulse_ms=1", "10 to 10000"),
        ("modbus-tcp-io://10.0.0.1?ok=1&fault=2&baud=9600", "unknown setting 'baud'"),
        ("modbus-tcp-io://10.0.0.1?ok=1&fault=2&handshake=ids", "unknown setting 'handshake'"),
        ("modbus-tcp-io://?ok=1&fault=2", "no address"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_opened(uri: str, told: str) -> None:
    with pytest.raises(InspectError, match=told):
        output_opener(uri)


def test_a_trigger_among_the_lines_is_the_handshake() -> None:
    assert handshake_of("modbus-tcp-io://10.0.0.1?ok=1&fault=2") is Mode.FREE_RUN
    assert handshake_of("gpio:///dev/gpiochip0?ok=1&fault=2&trigger=3") is Mode.IDS
    settings = module_settings("modbus-rtu-io:///dev/ttyS0?ok=1&fault=2&trigger=1")
    assert settings.wiring.lines == {Line.OK: 1, Line.FAULT: 2} and settings.wiring.trigger == 1


def test_a_trigger_that_rises_before_the_first_look_of_the_thread_is_an_edge() -> None:
    """A PLC that answers READY at once must not wait for ever; what stood when we came is still none."""
    with wired("&trigger=5") as (uri, module):
        lines = CoilModule(module_settings(uri))
        module.input(5, True)
        assert len(lines.rises(0)) == 1 and lines.rises(0) == []
        lines.close()
        again = CoilModule(module_settings(uri))
        assert again.rises(0) == []
        again.close()
