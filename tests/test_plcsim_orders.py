"""plc-sim gives commands: a real station carries them out, and what it cannot is told."""

import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from peers import free_port, until
from rich.console import Console
from test_http_trigger import send
from test_orders import BAD, GOOD, write
from test_plcsim import Watch
from toy import toy_pair

from edge.engines.choice import Choice
from edge.errors import InspectError
from edge.plcsim.blocks import BlockPlc
from edge.plcsim.run import SimOptions, run_plc
from edge.plcsim.screen import Screen
from edge.station.compose import station_of
from edge.station.http_trigger import HttpTrigger
from edge.station.line import LineOptions
from edge.station.running import Running, RunOptions
from edge.verdict import Reason


@contextmanager
def station(tmp_path: Path, uri: str, greys: tuple[int, ...], line: LineOptions) -> Iterator[Running]:
    pictures = f"{write(tmp_path / 'line', *greys)}?loop=1"
    run = RunOptions(pictures, toy_pair(tmp_path, "can"), [uri], "onnxruntime", line=line)
    with station_of(run) as running:
        loop = threading.Thread(target=running.station.run)
        loop.start()
        try:
            assert until(lambda: running.station.capture.connected, 20.0)
            yield running
        finally:
            running.station.stop()
            loop.join()


def ordered(uri: str, commands: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """What plc-sim prints in the end, for one part and these commands."""
    options = SimOptions(uri, parts=1, wait_s=30.0, commands=commands)
    code = run_plc(options, True, Console(file=io.StringIO()))
    summary: dict[str, object] = json.loads(capsys.readouterr().out)
    assert code == (0 if summary["ok"] else 1)
    return summary


@pytest.mark.parametrize("role", ["modbus-tcp-server", "modbus-tcp"])
@pytest.mark.parametrize("handshake", ["bits", "ids"])
def test_a_recipe_is_changed_without_a_plc(
    role: str, handshake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The station is the server in one run and the client in the other."""
    uri = f"{role}://127.0.0.1:{free_port()}?handshake={handshake}"
    line = LineOptions(recipes={2: Choice(toy_pair(tmp_path, "lid"), "onnxruntime")})
    with station(tmp_path, uri, (GOOD,), line) as running:
        summary = ordered(uri, ["load=2", "lot=17", "reset"], capsys)
        assert (running.station.recipe_number, running.station.lot) == (2, 17)
    assert summary["commands"] == ["load=2: done", "lot=17: done", "reset: done"] and summary["ok"]


def test_a_command_that_fails_is_told_and_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No such recipe; then a challenge without pictures stops the line, and clear lets it go on."""
    uri = f"modbus-tcp-server://127.0.0.1:{free_port()}?handshake=bits"
    with station(tmp_path, uri, (GOOD,), LineOptions()):
        summary = ordered(uri, ["load=7", "challenge", "clear"], capsys)
        assert summary["commands"] == ["load=7: failed", "challenge: failed", "clear: done"]
        assert (summary["ok"], summary["verdicts"]) == (False, 1)


def test_errors_are_cleared_without_a_handshake_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two rejects in a row stop the line; it goes on when plc-sim has set CLEAR_ERROR."""
    uri = f"modbus-tcp-server://127.0.0.1:{free_port()}"
    line = LineOptions("http://127.0.0.1:0", gate="distance=100ms,tolerance=20ms,rejects=2")
    with station(tmp_path, uri, (BAD, BAD, GOOD, GOOD), line) as running:
        trigger = running.station.trigger
        assert isinstance(trigger, HttpTrigger)
        assert until(lambda: trigger.health()[0] == 200, 20.0)
        assert until(lambda: send(trigger.port)[0] == 503, 20.0)
        goes_on = threading.Thread(target=lambda: until(lambda: send(trigger.port)[0] == 200, 30.0))
        goes_on.start()
        summary = ordered(uri, ["clear"], capsys)
        goes_on.join()
    assert summary["commands"] == ["clear: done"] and summary["ok"]


@pytest.mark.parametrize(("command", "uri"), [
    ("load", "s7://127.0.0.1?handshake=bits"), ("load=x", "s7://127.0.0.1?handshake=bits"),
    ("reset=1", "s7://127.0.0.1?handshake=bits"), ("lot=9999999999", "s7://127.0.0.1?handshake=bits"),
    ("dance", "s7://127.0.0.1?handshake=bits"), ("load=2", "modbus-tcp://127.0.0.1"),
    ("reset", "tcp://127.0.0.1:1?handshake=ids"), ("clear", "mqtt://127.0.0.1/line3?handshake=ids"),
])  # fmt: skip
def test_what_cannot_be_ordered_is_refused(command: str, uri: str) -> None:
    with pytest.raises(InspectError, match="command"):
        run_plc(SimOptions(uri, commands=[command]), True, Console(file=io.StringIO()))


@pytest.mark.parametrize("sensor", [False, True])
def test_a_gate_is_tried_with_its_sensor_and_without(tmp_path: Path, sensor: bool) -> None:
    """The story: with `confirm=` the line stopped after the first bad part, whatever one did, and plc-sim
    took it for the wrong handshake."""
    uri = f"modbus-tcp-server://127.0.0.1:{free_port()}?handshake=ids"
    line = LineOptions(gate="distance=600ms,tolerance=500ms,confirm=200ms")
    with station(tmp_path, uri, (BAD,), line), closing(Watch(uri)) as plc:
        assert isinstance(plc.peer, BlockPlc)
        if sensor:
            plc.peer.confirm()
        plc.until(lambda tally: tally.connected)
        plc.peer.part_arrives(70_001)
        for at_the_gate in (True, False):
            plc.until(lambda tally, here=at_the_gate: tally.chart[-1]["REJECT"] is here)  # type: ignore[misc]
        passed_s = time.monotonic()
        plc.until(lambda tally: tally.stops or time.monotonic() - passed_s > 0.5)
        assert plc.tally.stops == ([] if sensor else [Reason.GATE_NOT_CONFIRMED]), plc.said
        assert plc.tally.done == 1 and not plc.tally.mistakes, plc.said
        drawn = screen_of(plc)
    assert ("LINE_STOP" in drawn) == ("ERROR_CODE 71" in drawn) == (not sensor) and "REJECT" in drawn, drawn


def screen_of(plc: Watch) -> str:
    with io.StringIO() as text:
        Console(width=160, file=text).print(Screen(plc.peer, plc.tally))
        return text.getvalue()


def test_a_sensor_needs_the_register_block() -> None:
    options = SimOptions("tcp://127.0.0.1:0?handshake=ids", confirm=True)
    with pytest.raises(InspectError, match="confirms rejects in the register block alone"):
        run_plc(options, True, Console(file=io.StringIO()))
