"""The doctor on real conditions: a full disk, a closed port, a missing device, an engine that is too slow."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import SIDE, toy_pair

from edge.doctor.examine import Patient, devices_of, examine, exit_code
from edge.doctor.finding import Finding, State
from edge.doctor.line import Seen, camera, camera_finding, engine, output
from edge.doctor.machine import (
    clock_finding,
    disk,
    disk_finding,
    gpu,
    memory,
    network,
    network_finding,
    rights,
    watchdog_finding,
)
from edge.errors import BackendFault, DataError, InspectError
from edge.gpu import own_sm
from edge.recipe import Artefact, Recipe, recipe_path, save_recipe, sha256_of

GIB = 1 << 30


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which a test may fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(small_disk: Path) -> None:
    (small_disk / "pictures").write_bytes(bytes(1 << 20))
    found = disk(small_disk)
    assert found.state is State.FAIL and "0 MiB free" in found.detail and "--save" in found.todo


def test_a_folder_that_nobody_may_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write here"):
        disk(tmp_path / "file" / "pictures")


@pytest.mark.parametrize(
    "free, state", [(50 * GIB, State.OK), (9 * GIB, State.WARN), (GIB // 2, State.FAIL), (0, State.FAIL)]
)
def test_how_full_a_disk_may_be(free: int, state: State) -> None:
    found = disk_finding(Path("stopped"), free, 100 * GIB)
    assert found.state is state and bool(found.todo) is (state is not State.OK)


def test_memory_is_read_from_this_machine() -> None:
    found = memory()
    assert found.what == "memory" and "MiB available" in found.detail


@pytest.mark.parametrize(
    "answer, state, word",
    [
        ("NTP=yes\nNTPSynchronized=yes\n", State.OK, "synchronised"),
        ("NTP=yes\nNTPSynchronized=no\n", State.WARN, "not synchronised yet"),
        ("NTP=no\nNTPSynchronized=no\n", State.WARN, "NTP is off"),
        ("", State.WARN, "does not say"),
    ],
)
def test_the_clock(answer: str, state: State, word: str) -> None:
    found = clock_finding(answer)
    assert found.state is state and word in found.detail


@pytest.mark.parametrize(
    "answer, state, word",
    [
        (
            "LoadState=loaded\nUnitFileState=enabled\nWatchdogUSec=10s\nRestart=always\n",
            State.OK,
            "after 10s",
        ),
        ("LoadState=loaded\nUnitFileState=disabled\nWatchdogUSec=10s\nRestart=always\n", State.WARN, "start"),
        ("LoadState=loaded\nUnitFileState=enabled\nWatchdogUSec=0\nRestart=always\n", State.WARN, "=0"),
        ("LoadState=loaded\nUnitFileState=enabled\nWatchdogUSec=10s\nRestart=no\n", State.WARN, "=no"),
        ("LoadState=not-found\n", State.WARN, "nobody"),
        ("", State.WARN, "nobody"),
    ],
)
def test_the_watchdog(answer: str, state: State, word: str) -> None:
    found = watchdog_finding(answer)
    assert found.state is state and word in found.detail


def test_a_device_that_is_not_there_and_one_that_is() -> None:
    found = rights(Path("/dev/video97"))
    assert found.state is State.FAIL and "/dev/v4l/by-id" in found.todo
    assert "/dev/serial/by-id" in rights(Path("/dev/ttyUSB97")).todo
    assert rights(Path("/dev/null")).state is State.OK


AS_NOBODY = """
import os, sys
from pathlib import Path
from edge.doctor.machine import rights
os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = rights(Path(sys.argv[1]))
print(found.state.value, found.detail, found.todo, sep="|")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_device_that_belongs_to_a_group_one_is_not_in(tmp_path: Path) -> None:
    device = tmp_path / "ttyS0"
    device.write_text("")
    shutil.chown(device, group="dialout")
    device.chmod(0o660)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.owner() == "root" and folder != Path("/tmp"):
            folder.chmod(0o755)
    command = [sys.executable, "-c", AS_NOBODY, str(device)]
    state, detail, todo = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
        "|"
    )
    assert state == "fail" and "dialout" in detail and "usermod -aG dialout" in todo


def test_the_network_card_of_a_camera() -> None:
    assert network("lo").what == "network lo"
    found = network("enp9s9")
    assert found.state is State.FAIL and "lo" in found.todo
    assert network_finding("eth1", False, 9000, GIB).detail == "no link"
    slow = network_finding("eth1", True, 1500, GIB)
    assert slow.state is State.WARN and "ip link set eth1 mtu 9000" in slow.todo
    assert "rmem_max" in network_finding("eth1", True, 9000, 212_992).todo
    assert network_finding("eth1", True, 9000, 32 << 20).state is State.OK


def test_a_port_that_is_closed_and_one_that_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plc:
        uri = f"modbus-tcp://127.0.0.1:{plc.getsockname()[1]}"
        assert output(uri).state is State.OK
    found = output(uri)
    assert found.state is State.FAIL and "refuses" in found.detail


@pytest.mark.parametrize("server", ["modbus-tcp-server", "opc-ua"])
def test_a_port_that_somebody_else_listens_on(server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        uri = f"{server}://127.0.0.1:{other.getsockname()[1]}" + "?security=none" * (server == "opc-ua")
        found = output(uri)
        assert found.state is State.WARN and "taken" in found.detail and "ss -ltnp" in found.todo
    assert output(uri).state is State.OK
    assert output("modbus-tcp-server://192.0.2.1:1502").state is State.FAIL  # not an address of ours


def test_what_is_typed_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(InspectError, match="unknown output"):
        output("profinet://plc")
    assert output(f"jsonl:{tmp_path}/verdicts.jsonl").state is State.OK
    assert output("ethernet-ip://127.0.0.1/0").detail == "refuses the connection"  # at its usual port
    assert output("modbus-tcp-io://127.0.0.1?ok=1&fault=3").detail == "refuses the connection"
    assert "whether anybody listens" in output("serial:///dev/ttyUSB97").detail


def picture(value: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-20, 20, (90, 120, 3))
    return np.clip(value + noise, 0, 255).astype(np.uint8)


def test_a_camera_that_works_and_its_rate() -> None:
    found = camera("conveyor:?fps=50", look_s=0.3)
    assert found.state is State.OK and "320x320" in found.detail and "pictures a second" in found.detail


def test_a_folder_with_a_black_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), picture(90))
    assert camera(str(tmp_path)).state is State.OK
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((90, 120, 3), np.uint8))
    found = camera(str(tmp_path))
    assert found.state is State.WARN and "FRAME_BLANK" in found.detail


def test_a_camera_that_gives_nothing_one_picture_or_always_the_same() -> None:
    assert camera_finding("camera", Seen()).state is State.FAIL
    assert "only one" in camera_finding("camera", Seen(count=1, last=[picture(90)])).detail
    frozen = Seen(count=30, seconds=1.0, last=[picture(90), picture(90)])
    assert "FRAME_FROZEN" in camera_finding("camera", frozen).detail
    frozen.live = False  # a folder may hold the same picture twice
    assert camera_finding("camera", frozen).state is State.OK


def test_an_engine_that_cannot_keep_its_deadline(tmp_path: Path) -> None:
    assert engine(toy_pair(tmp_path, deadline_ms=60_000.0), "onnxruntime").state is State.OK
    found = engine(toy_pair(tmp_path, "hasty", deadline_ms=0.01), "onnxruntime")
    assert found.state is State.WARN and "--deadline-ms" in found.todo
    with pytest.raises(BackendFault, match="unknown backend"):
        engine(toy_pair(tmp_path), "abacus")


@pytest.mark.skipif(own_sm() is not None, reason="this machine has a GPU")
def test_a_plan_where_there_is_no_gpu(tmp_path: Path) -> None:
    assert gpu(toy_pair(tmp_path)).detail.startswith("not needed (no NVIDIA GPU")
    plan = tmp_path / "toy.fp16.sm87.plan"
    plan.write_bytes(b"plan")
    artefact = Artefact(plan.name, sha256_of(plan), "fp16", 87, "tensorrt 10.3.0")
    save_recipe(Recipe("toy", (SIDE, SIDE), 1.5, 2.0, artefacts=(artefact,)), recipe_path(plan))
    found = gpu(plan)
    assert found.state is State.FAIL and "SM 87" in found.detail and "build-engines" in found.todo


def test_which_device_files_are_looked_at() -> None:
    outputs = ["serial:///dev/ttyUSB0?baud=9600", "modbus-tcp://plc", "jsonl:-", "serial://COM3"]
    found = devices_of(Patient(camera="0", outputs=outputs))
    assert found == [Path("/dev/video0"), Path("/dev/ttyUSB0")]
    assert devices_of(Patient(camera="rtsp://host/path")) == []


def test_everything_is_looked_at_though_much_is_wrong(tmp_path: Path) -> None:
    patient = Patient(
        tmp_path / "no.onnx", "auto", "/dev/video97", ["modbus-tcp://127.0.0.1:1", "gopher://x"]
    )
    findings = list(examine(patient))
    assert exit_code(findings) == 1
    failed = {finding.what for finding in findings if finding.state is State.FAIL}
    assert failed >= {"engine no.onnx", "rights /dev/video97", "camera /dev/video97",
                      "output modbus-tcp://127.0.0.1:1", "output gopher://x"}  # fmt: skip
    assert all(finding.todo for finding in findings if finding.state is not State.OK)
    assert exit_code([Finding("clock", State.WARN, "", "")]) == 0


def test_the_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from edge.cli import main; main()",
        "doctor",
        "--plc",
        "modbus-tcp://127.0.0.1:1",
    ]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)
    assert [f["state"] for f in findings if f["what"].startswith("output")] == ["fail"]
    assert all(f.keys() == {"what", "state", "detail", "todo"} for f in findings)
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert shown.returncode == 1 and "refuses" in shown.stderr and "Traceback" not in shown.stderr
