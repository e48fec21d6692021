"""systemd's end is a real datagram socket; what the unit says is checked by systemd itself."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from peers import until
from toy import toy_pair

from edge.cli import app
from edge.station.systemd import Notifier, told

DEPLOY = Path(__file__).parents[1] / "deploy"
UNIT = (DEPLOY / "systemd/edge-inspect.service").read_text("utf-8")
RULES = (DEPLOY / "udev/99-edge-inspect.rules").read_text("utf-8")
SOON_S = 60.0


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind(address)
        wire.settimeout(SOON_S)
        yield wire


def heard(wire: socket.socket) -> list[str]:
    return wire.recv(4096).decode().splitlines()


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


def test_ready_alive_stopping(place: str) -> None:
    environ = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid())}
    with manager(place) as wire:
        with told(lambda now_ns: True, "toy@1234", Notifier(environ)):
            assert heard(wire) == ["READY=1", "STATUS=toy@1234"]
            assert [heard(wire) for _ in range(3)] == [["WATCHDOG=1"]] * 3
        last = heard(wire)
        while last == ["WATCHDOG=1"]:
            last = heard(wire)
        assert last == ["STOPPING=1"]


def test_a_loop_that_stands_still_is_not_called_alive(place: str) -> None:
    """The story: a watchdog fed by a thread of its own lived happily beside a dead station."""
    well, asked = threading.Event(), threading.Event()

    def turns(now_ns: int) -> bool:
        asked.set()
        return well.is_set()

    environ = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "30000"}
    with manager(place) as wire, told(turns, "toy", Notifier(environ)):
        heard(wire)  # READY
        for _ in range(3):
            asked.clear()
            assert asked.wait(SOON_S)
        wire.setblocking(False)
        with pytest.raises(BlockingIOError):
            heard(wire)
        wire.settimeout(SOON_S)
        well.set()
        assert heard(wire) == ["WATCHDOG=1"]


def test_a_name_without_a_file_works_as_well() -> None:
    name = f"edge-inspect-test-{os.getpid()}"
    with manager("\0" + name) as wire:
        Notifier({"NOTIFY_SOCKET": "@" + name}).say("READY=1")
        assert heard(wire) == ["READY=1"]


def test_without_systemd_nothing_is_said_and_nothing_fails(place: str) -> None:
    with told(lambda now_ns: True, "toy", Notifier({})):
        assert "watchdog" not in [thread.name for thread in threading.enumerate()]
    Notifier({"NOTIFY_SOCKET": place}).say("READY=1")  # nobody is there


@pytest.mark.parametrize(
    "environ, seconds",
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, 0.0),  # meant for another process
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
    ],
)
def test_the_watchdog_s_limit(environ: dict[str, str], seconds: float) -> None:
    assert Notifier(environ).watchdog_s == seconds


def test_a_whole_station_tells_systemd(place: str, tmp_path: Path) -> None:
    """Type=notify: started when it says READY, which is after the engine's self-test; ended by SIGTERM."""
    command = [
        sys.executable, "-c", "from edge.cli import main; main()", "run", "--camera", "conveyor:?fps=20",
        "--engine", str(toy_pair(tmp_path)), "--backend", "onnxruntime", "--json",
    ]  # fmt: skip
    environ = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "600000", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with manager(place) as wire:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **environ})
        ready, status = heard(wire)
        assert ready == "READY=1" and status.startswith("STATUS=toy@")
        assert list((tmp_path / "cache/edge-inspect/golden").iterdir())
        assert heard(wire) == ["WATCHDOG=1"]
        process.send_signal(signal.SIGTERM)
        assert until(lambda: heard(wire) == ["STOPPING=1"], SOON_S)
        assert process.wait(SOON_S) == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "edge-inspect.service"  # the same, but for a program that is there
    unit.write_text(UNIT.replace("/opt/edge-inspect/.venv/bin/edge-inspect", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_the_unit_s_command_is_understood() -> None:
    given = dict(
        line.split("=", 1) for line in (DEPLOY / "systemd/station.env").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )  # fmt: skip
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT, re.M)
    for name, value in given.items():
        line = line.replace(f"${{{name}}}", value).replace(f"${name}", value)
    assert "$" not in line
    program, verb, *words = shlex.split(line)
    assert program.endswith("/edge-inspect")
    group: Any = typer.main.get_command(app)
    group.commands[verb].make_context(verb, words)


RULE = re.compile(r'[A-Z_]+(\{[\w/]+\})?(==|!=|=|\+=|:=)"[^"]*"')


@pytest.mark.parametrize("line", [x for x in RULES.splitlines() if x and not x.startswith("#")])
def test_the_udev_rules_are_well_formed_and_keep_the_rights_narrow(line: str) -> None:
    """A rule that udev cannot read is left out with a line in a log that nobody looks at."""
    parts = [part.strip() for part in re.findall(r'[^,"]+"[^"]*"', line)]
    assert all(RULE.fullmatch(part) for part in parts), line
    assert ", ".join(parts) == line
    assert 'MODE="0666"' not in line and any("==" in part for part in parts)
