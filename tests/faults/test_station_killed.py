"""SIGKILL: the station can say nothing any more, and the PLC still knows within a second."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from peers import free_port, plc_client, plc_server, until
from toy import toy_pair

from edge.outbox import BEAT_S

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
