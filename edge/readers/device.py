"""Cameras on this machine (V4L2, USB) through OpenCV, in a process that can be killed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.camera_clock import CameraClock
from edge.cameras.opencv import DeviceCamera
from edge.readers.wire import Header, serve


class DeviceSource:
    """The driver keeps about four pictures; its time stamps tell which of them are old."""

    def __init__(self, device: str, settings: dict[str, float]) -> None:
        self._camera, self._clock = DeviceCamera(device, settings), CameraClock()

    def read(self, timeout_s: float) -> tuple[Header, npt.NDArray[np.uint8]]:
        shot = self._camera.read(timeout_s)
        now_ns = time.monotonic_ns()
        taken_ns = self._clock.taken_ns(shot.device_ns, now_ns) if shot.device_ns else now_ns
        height, width = shot.pixels.shape[:2]
        pixels = np.ascontiguousarray(shot.pixels)
        return Header(width, height, "BGR8", pixels.nbytes, taken_ns, shot.device_ns), pixels

    def close(self) -> None:
        self._camera.close()


def main() -> None:
    def opened(request: dict[str, Any]) -> DeviceSource:
        return DeviceSource(request["device"], request["settings"])

    serve(opened)
