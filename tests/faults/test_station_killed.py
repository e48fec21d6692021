"""SIGKILL, of the station and of its engine's process: what a PLC and a reader of verdicts see of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers import free_port, plc_client, plc_server, until
from toy import toy_pair

from edge.station.outbox import BEAT_S

HEARTBEAT = 116
SOON_S = 60.0
PLC_WAITS_S = 1.0  # docs/outputs.md: then every part is bad


def children_of(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]  # fmt: skip


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_plc_sees_the_heartbeat_stop_within_a_second(tmp_path: Path) -> None:
    assert 3 * BEAT_S < PLC_WAITS_S  # three beats may be lost before a PLC that waits so long gives up
    written, served = free_port(), free_port()
    command = [
        sys.executable, "-c", "from edge.cli import main; main()", "run", "--camera", "conveyor:?fps=20",
        "--engine", str(toy_pair(tmp_path)), "--backend", "onnxruntime",
        "--plc", f"modbus-tcp://127.0.0.1:{written}", "--plc", f"modbus-tcp-server://127.0.0.1:{served}",
    ]  # fmt: skip
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with plc_server(written) as plc, plc_client(served) as reader:
        station = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)

        def beat() -> int:
            return int(plc.data_bank.get_holding_registers(HEARTBEAT, 1)[0])

        assert until(lambda: beat() >= 3, SOON_S)
        assert until(lambda: bool(reader.read_holding_registers(HEARTBEAT, 1)), SOON_S)
        children = children_of(station.pid)
        assert children  # the engine's process
        station.send_signal(signal.SIGKILL)
        station.wait()
        last = beat()
        assert not until(lambda: beat() != last, PLC_WAITS_S), "somebody still writes"
        assert reader.read_holding_registers(HEARTBEAT, 1) is None
        assert until(lambda: not any(map(lives, children)), SOON_S)


@contextmanager
def running(folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """A whole station in a process group of its own, its verdicts on the standard output."""
    command = [
        sys.executable, "-c", "from edge.cli import main; main()", "run", "--camera", "conveyor:?fps=20",
        "--engine", str(toy_pair(folder)), "--backend", "onnxruntime", "--json",
    ]  # fmt: skip
    environ = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True
    ) as station:
        try:
            yield station
        finally:
            station.kill()


def next_where(station: "subprocess.Popen[str]", key: str, *values: str) -> dict[str, Any]:
    """The next verdict with one of those values; that no part passes unjudged is looked at on the way."""
    assert station.stdout is not None
    while True:
        verdict: dict[str, Any] = json.loads(station.stdout.readline())
        assert verdict["outcome"] != "pass" or verdict["score"] is not None
        if verdict[key] in values:
            return verdict


def test_a_station_lives_on_when_its_engine_s_process_is_killed(tmp_path: Path) -> None:
    judged = ("WITHIN_LIMITS", "ANOMALY", "BORDERLINE")
    with running(tmp_path) as station:
        before = next_where(station, "reason", *judged)
        (engine,) = children_of(station.pid)
        os.kill(engine, signal.SIGKILL)
        fault = next_where(station, "reason", "BACKEND_FAULT")
        assert fault["outcome"] == "fail" and fault["score"] is None
        after = next_where(station, "reason", *judged)
        assert before["frame_id"] < fault["frame_id"] < after["frame_id"]
        station.terminate()
        summary = json.loads(station.communicate(timeout=SOON_S)[0].splitlines()[-1])["summary"]
        assert station.returncode == 0 and summary["engine_restarts"] == 1


def test_ctrl_c_is_for_the_station_and_not_for_the_engine(tmp_path: Path) -> None:
    """A terminal sends it to all; an engine that ended first would cost the last part its verdict."""
    with running(tmp_path) as station:
        next_where(station, "outcome", "pass", "review", "fail")
        os.killpg(station.pid, signal.SIGINT)
        summary = json.loads(station.communicate(timeout=SOON_S)[0].splitlines()[-1])["summary"]
        assert station.returncode == 0
        assert "BACKEND_FAULT" not in summary["reasons"]
