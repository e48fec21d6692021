"""What all tests share: nobody leaves a thread behind; a real RTSP server where GStreamer is installed."""

import contextlib
import os

# Before torch and OpenCV are loaded: the models here are so small that a second thread only gets in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Some tests import ONNX Runtime before anything of ours, which would switch its reports off.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RTSP_PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's bindings are built for this one
GIGE_PACKAGES = "python3-gi gir1.2-aravis-0.8"
GST_PACKAGES = "python3-gi gir1.2-gstreamer-1.0 gstreamer1.0-plugins-base"
JOIN_S = 3.0
PORT_FREE_S = 30.0  # GigE Vision knows one port only: another run of these tests may have it


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """A thread that outlives its test is a leak in a station that runs for months."""
    before = set(threading.enumerate())
    yield
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(JOIN_S)
    left = [thread.name for thread in started if thread.is_alive()]
    assert not left, f"threads left behind: {left}"


class RtspServer:
    """A real server in its own process: it can be frozen, killed and started again on the same port."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"rtsp://viewer:secret@127.0.0.1:{self.port}/line"

    def start(self) -> None:
        script = Path(__file__).parent / "faults" / "rtsp_server.py"
        command = [SYSTEM_PYTHON, str(script), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready = self._process.stdout.readline().split()
        assert ready[:1] == ["ready"], "the RTSP server did not start"
        self.port = int(ready[1])

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            self._signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


def need(namespace: str, version: str, packages: str) -> None:
    """Skip where the system's Python has no such bindings."""
    probe = f"import gi; gi.require_version('{namespace}', '{version}')"
    there = Path(SYSTEM_PYTHON).exists() and not subprocess.run(
        [SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False
    ).returncode  # fmt: skip
    if not there:
        pytest.skip(f"no {namespace}: apt-get install {packages}")


@pytest.fixture
def rtsp_server() -> Iterator[RtspServer]:
    """Skips where Debian's packages are not installed."""
    need("GstRtspServer", "1.0", RTSP_PACKAGES)
    server = RtspServer()
    yield server
    server.kill()


class GigeCamera:
    """A real GigE Vision camera in its own process, on loopback; `lost` is the share of lost packets."""

    def __init__(self, lost: float = 0.0) -> None:
        script = Path(__file__).parent / "faults" / "gige_camera.py"
        command = [SYSTEM_PYTHON, str(script), "EI-1", str(lost)]
        deadline = time.monotonic() + PORT_FREE_S
        while not self._started(command):
            if time.monotonic() > deadline:
                pytest.skip("the port of GigE Vision, 3956, is taken")
            time.sleep(0.5)

    def _started(self, command: list[str]) -> bool:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline().strip() == "ready"
        if not ready:
            self.unplug()
        return ready

    def unplug(self) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def gige_camera(request: pytest.FixtureRequest) -> Iterator[GigeCamera]:
    """Skips where Debian's packages are not installed. The parameter is the share of lost packets."""
    need("Aravis", "0.8", GIGE_PACKAGES)
    camera = GigeCamera(getattr(request, "param", 0.0))
    yield camera
    camera.unplug()


@pytest.fixture
def gstreamer() -> None:
    """Skips where Debian's packages are not installed."""
    need("Gst", "1.0", GST_PACKAGES)


@pytest.fixture
def pylon_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Basler's library with its emulated camera, as anybody can have it."""
    pytest.importorskip("pypylon", reason="pip install 'edge-inspect[pylon]'")
    monkeypatch.setenv("PYLON_CAMEMU", "1")
