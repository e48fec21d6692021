"""A driver hangs, dies, stalls or goes silent: its process is replaced, and no old picture looks new."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.cameras import camera_opener, open_camera
from edge.cameras.process import ProcessCamera
from edge.errors import CameraLost, CameraTimeout, FrameIncomplete
from edge.frame import Frame
from edge.picture.health import age_fault
from edge.station.capture import Capture, Policy
from edge.verdict import Reason

GST = "gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=30/1"


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def next_frame(capture: Capture, limit_s: float = 20) -> Frame:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if isinstance(item := capture.next(0.5), Frame):
            return item
    raise AssertionError(f"no picture within {limit_s} s: {capture.error}")


def is_gone(pid: int) -> bool:
    """Dead; it may still wait to be counted by whoever adopted it."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_driver_that_hangs_is_killed_with_its_process(pylon_emulation: None) -> None:
    """SIGSTOP: the process is there and says nothing, as in a driver that waits for its cable for ever."""
    camera = open_camera("pylon:")
    assert isinstance(camera, ProcessCamera) and camera.read(5).pixels.size
    os.kill(camera.pid, signal.SIGSTOP)
    with pytest.raises(CameraLost, match=r"the driver hangs.*killed"):
        camera.read(0.1)
    assert is_gone(camera.pid)
    camera.close()


def test_a_hung_reader_is_replaced_and_pictures_go_on(pylon_emulation: None) -> None:
    cameras: list[ProcessCamera] = []

    def opened() -> ProcessCamera:
        camera = camera_opener("pylon:")()
        assert isinstance(camera, ProcessCamera)
        cameras.append(camera)
        return camera

    with Capture(opened, "pylon:", read_timeout_s=0.2) as capture:
        next_frame(capture)
        os.kill(cameras[0].pid, signal.SIGSTOP)
        stopped_ns = time.monotonic_ns()
        wait_for(lambda: capture.counters.reconnects == 1, "it was not opened again")
        frame = next_frame(capture)
        assert frame.captured_ns > stopped_ns
        assert capture.counters.losses == 1 and len(cameras) == 2
    assert all(is_gone(camera.pid) for camera in cameras)


def test_a_driver_that_crashes_is_a_lost_camera_and_no_crash_of_ours(pylon_emulation: None) -> None:
    camera = open_camera("pylon:")
    assert isinstance(camera, ProcessCamera)
    os.kill(camera.pid, signal.SIGSEGV)
    with pytest.raises(CameraLost, match=r"reading process ended \(SIGSEGV\)"):
        camera.read(5)
    camera.close()


def test_a_reader_does_not_outlive_its_station(pylon_emulation: None) -> None:
    """Also one that hangs: it would keep the camera, and the next station could not open it."""
    code = (
        "from edge.cameras import open_camera; c = open_camera('pylon:'); print(c.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as station:
        assert station.stdout is not None
        reader = int(station.stdout.readline())
        os.kill(reader, signal.SIGSTOP)
        station.kill()
    wait_for(lambda: is_gone(reader), "the reader is still there")


def test_pictures_that_waited_out_a_stall_tell_their_age(gstreamer: None) -> None:
    """They come at once when the stall is over, and whoever takes the time after the read thinks them new."""
    camera = open_camera(GST)
    assert isinstance(camera, ProcessCamera)
    shot = camera.read(5)
    for _ in range(4):
        before, shot = shot, camera.read(5)
        assert before.taken_ns is not None and shot.taken_ns is not None and shot.begun_ns is not None
        assert shot.begun_ns <= before.taken_ns < shot.taken_ns
    os.kill(camera.pid, signal.SIGSTOP)
    time.sleep(1.2)
    os.kill(camera.pid, signal.SIGCONT)
    shot = camera.read(5)
    assert shot.taken_ns is not None
    assert age_fault(shot.taken_ns, time.monotonic_ns(), max_age_ms=500) is Reason.FRAME_STALE
    wait_for(lambda: _age_s(camera) < 0.5, "the camera never caught up")
    camera.close()


def _age_s(camera: ProcessCamera) -> float:
    shot = camera.read(5)
    assert shot.taken_ns is not None
    return (time.monotonic_ns() - shot.taken_ns) / 1e9


def test_the_age_reaches_the_frame(gstreamer: None) -> None:
    """`Capture` believes the camera, which knows better than the clock after the read."""
    with Capture(camera_opener(GST), GST, Policy.EVERY) as capture:
        frame = next_frame(capture)
        assert frame.device_ns is not None and frame.captured_ns <= time.monotonic_ns()


def test_a_camera_that_runs_free_and_goes_silent_is_opened_anew(pylon_emulation: None) -> None:
    request = {"name": "", "settings": {"trigger": "Line1"}}
    camera = ProcessCamera("pylon:", "pylon", request, silent_s=0.3)
    errors: list[Exception] = []
    while not errors or isinstance(errors[-1], CameraTimeout):
        with pytest.raises((CameraTimeout, CameraLost), match="no picture for") as raised:
            camera.read(0.1)
        errors.append(raised.value)
    assert isinstance(errors[0], CameraTimeout) and isinstance(errors[-1], CameraLost)
    camera.close()


def test_a_reading_process_that_cannot_be_started_leaves_nothing_open() -> None:
    """The story: the system's Python had been removed; the camera was tried again and again, and each
    try left a piece of memory open, until the station had no handle left for its PLC."""

    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = handles()
    for _ in range(5):
        with pytest.raises(CameraLost, match="cannot be started"):
            ProcessCamera("0", "device", {}, python="/usr/bin/no-python")
    assert handles() == before


def test_a_camera_that_waits_for_a_trigger_may_be_silent(pylon_emulation: None) -> None:
    camera = open_camera("pylon:?trigger=Line1")
    for _ in range(2):
        with pytest.raises(CameraTimeout, match="trigger"):
            camera.read(0.1)
    assert isinstance(camera, ProcessCamera) and camera._silent_s == float("inf")
    camera.close()


def test_an_incomplete_picture_is_counted_and_its_part_is_answered(pylon_emulation: None) -> None:
    uri = "pylon:?ForceFailedBufferCount=1024&ForceFailedBuffer=1"
    camera = open_camera(uri)
    with pytest.raises(FrameIncomplete, match=r"the 1\. since the opening"):
        camera.read(5)
    camera.close()
    with Capture(camera_opener(uri), uri, Policy.EVERY) as capture:
        assert capture.next(20) is Reason.FRAME_INCOMPLETE
        wait_for(lambda: capture.counters.incomplete >= 3, "they were not counted")
        assert capture.counters.frames == 0 and capture.connected


@pytest.mark.parametrize("gige_camera", [0.004], indirect=True)
def test_lost_packets_never_reach_the_model(gige_camera: object) -> None:
    """Each picture is 190 packets, so about every second comes whole; the camera's pattern has no zeros
    in the middle of its rows, a hole would be one."""
    camera, whole, incomplete = open_camera("aravis:EI-1?pixel_format=Mono8&fps=50"), [], 0
    deadline = time.monotonic() + 30
    while (len(whole) < 5 or incomplete < 5) and time.monotonic() < deadline:
        try:
            whole.append(camera.read(2).pixels[..., 0])
        except FrameIncomplete:
            incomplete += 1
    camera.close()
    assert len(whole) >= 5 and incomplete >= 5
    for pixels in whole:  # a smooth picture: neighbouring rows are alike all over, holes are not
        assert np.median(np.abs(np.diff(pixels.astype(int), axis=0)), axis=1).max() <= 8


def test_a_gige_camera_that_is_unplugged_is_lost_and_comes_back(gige_camera: object) -> None:
    from conftest import GigeCamera

    assert isinstance(gige_camera, GigeCamera)
    with Capture(camera_opener("aravis:EI-1"), "aravis:EI-1", read_timeout_s=0.5) as capture:
        next_frame(capture)
        gige_camera.unplug()
        wait_for(lambda: capture.counters.losses == 1, "the loss was not noticed")
        unplugged_ns = time.monotonic_ns()
        another = GigeCamera()
        try:
            wait_for(lambda: next_frame(capture).captured_ns > unplugged_ns, "it gives no new pictures")
            assert capture.counters.reconnects == 1
        finally:
            another.unplug()


IN_A_CONTAINER = """
import os
from edge.cameras.process import ProcessCamera
from edge.errors import CameraLost
assert os.getpid() == 1
try:
    ProcessCamera("no camera", "device", {"device": "/dev/video99", "settings": {}})
except CameraLost as error:
    print(error)
"""


def test_a_station_that_is_process_1_has_a_camera_too() -> None:
    """The story: a reader took a parent with the number 1 for one that had died; in a container no camera
    opened, ever."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("needs the right to make a process namespace (root)")
    done = subprocess.run(
        [*apart, sys.executable, "-c", IN_A_CONTAINER], capture_output=True, text=True, check=False
    )
    assert "the camera cannot be opened (/dev/video99)" in done.stdout, done.stdout + done.stderr
