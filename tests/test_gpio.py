"""Lines of this machine, on the kernel's own simulated GPIO chip where there is one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from peers import a_verdict, until

from edge.errors import InspectError, OutputLost
from edge.outputs import handshake_of, open_output, output_opener
from edge.plc.link import PlcLink
from edge.verdict import Outcome

pytest.importorskip("gpiod", reason="gpiod is for Linux")
SIMULATOR = Path("/sys/kernel/config/gpio-sim")
READY, OK, NG, FAULT, LIFE, TRIGGER = range(6)
WIRING = f"ready={READY}&ok={OK}&ng={NG}&fault={FAULT}&life={LIFE}"


class SimulatedChip:
    """Eight lines; the kernel's files show what the station drives, and pull what it reads."""

    def __init__(self) -> None:
        self._config = SIMULATOR / f"edge-inspect-{os.getpid()}"
        self._config.mkdir()
        (self._config / "bank").mkdir()
        (self._config / "bank" / "num_lines").write_text("8")
        (self._config / "live").write_text("1")
        chip = (self._config / "bank" / "chip_name").read_text().strip()
        device = (self._config / "dev_name").read_text().strip()
        self.device = f"/dev/{chip}"
        self._lines = Path("/sys/devices/platform") / device / chip

    def stands(self, line: int) -> bool:
        return (self._lines / f"sim_gpio{line}" / "value").read_text().strip() == "1"

    def pull(self, line: int, up: bool) -> None:
        (self._lines / f"sim_gpio{line}" / "pull").write_text("pull-up" if up else "pull-down")

    def close(self) -> None:
        (self._config / "live").write_text("0")
        (self._config / "bank").rmdir()
        self._config.rmdir()


@pytest.fixture
def chip() -> Iterator[SimulatedChip]:
    if not os.access(SIMULATOR, os.W_OK):
        pytest.skip(
            "no simulated GPIO chip: as root, modprobe gpio-sim; mount -t configfs none "
            + str(SIMULATOR.parent)
        )
    simulated = SimulatedChip()
    yield simulated
    simulated.close()


def test_lines_stand_as_the_station_says(chip: SimulatedChip) -> None:
    output = open_output(f"gpio://{chip.device}?{WIRING}&pulse_ms=5000")
    assert not any(chip.stands(line) for line in range(8))
    output.beat(1, healthy=True)
    assert [chip.stands(line) for line in range(5)] == [True, False, False, True, True]
    output.send(a_verdict(1))
    assert [chip.stands(line) for line in range(4)] == [False, True, False, True]
    output.send(a_verdict(2, Outcome.REVIEW))
    assert until(lambda: chip.stands(NG)) and not chip.stands(OK)
    output.beat(2, healthy=False)
    assert not any(chip.stands(line) for line in range(8))
    output.close()


def test_relays_that_switch_on_0_volts(chip: SimulatedChip) -> None:
    output = open_output(f"gpio://{chip.device}?{WIRING}&active_low=1")
    assert all(chip.stands(line) for line in range(5)), "off is high"
    output.beat(1, healthy=True)
    assert [chip.stands(line) for line in range(4)] == [False, True, True, False]
    output.close()


def test_a_short_trigger_is_not_missed(chip: SimulatedChip) -> None:
    uri = f"gpio://{chip.device}?{WIRING}&trigger={TRIGGER}&debounce_ms=0&pulse_ms=20"
    link = PlcLink(handshake_of(uri))
    output = output_opener(uri, link=link)()
    output.beat(1, healthy=True)
    for number in (1, 2):
        assert until(lambda: chip.stands(READY))
        chip.pull(TRIGGER, up=True)
        chip.pull(TRIGGER, up=False)
        request = link.wait(5.0)
        assert request is not None and request.part_id == number
        assert until(lambda: not chip.stands(READY))
        output.send(replace(a_verdict(number), part_id=number, request=request.number))
    assert until(lambda: chip.stands(READY))
    output.close()


def test_a_line_that_somebody_has_is_told_and_not_taken(chip: SimulatedChip) -> None:
    first = open_output(f"gpio://{chip.device}?ok={OK}&fault={FAULT}")
    for other in (f"ok={OK}&fault=7", f"ok=6&fault=7&trigger={OK}"):
        with pytest.raises(OutputLost, match=r"cannot be had.*gpioinfo"):
            open_output(f"gpio://{chip.device}?{other}")
    first.close()
    open_output(f"gpio://{chip.device}?ok={OK}&fault=7").close()


def test_a_killed_station_gives_its_lines_back(chip: SimulatedChip) -> None:
    """What they do then is the driver's and the wiring's business; this driver lets them fall."""
    code = (
        "import time; from edge.outputs import open_output\n"
        f"output = open_output('gpio://{chip.device}?{WIRING}'); output.beat(1, True)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as station:
        assert station.stdout is not None and station.stdout.readline() == "ready\n"
        assert chip.stands(FAULT)
        station.send_signal(signal.SIGKILL)
    assert until(lambda: not chip.stands(FAULT) and not chip.stands(READY))


def test_a_chip_that_is_not_there_says_what_to_do() -> None:
    with pytest.raises(OutputLost, match=r"had: .*No such file.*gpioinfo -c /dev/gpiochip99.*group gpio"):
        open_output("gpio:///dev/gpiochip99?ok=1&fault=2&trigger=3")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("gpio://?ok=1&fault=2", "no chip"),
        ("gpio:///dev/gpiochip0?ok=1&fault=2&trigger=2", "trigger is on the line of an output"),
        ("gpio:///dev/gpiochip0?ok=1&fault=1024", "0 to 1023"),
        ("gpio:///dev/gpiochip0?ok=1&fault=2&active_low=yes", "0 to 1"),
        ("gpio:///dev/gpiochip0?ok=1&fault=2&unit=1", "unknown setting 'unit'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_opened(uri: str, told: str) -> None:
    with pytest.raises(InspectError, match=told):
        output_opener(uri)
