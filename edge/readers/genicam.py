"""Cameras of any maker through their GenTL producer (.cti), by harvesters: the only file that knows it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from genicam import gentl
from harvesters.core import Harvester

from edge.camera_clock import CameraClock
from edge.errors import CameraLost, CameraTimeout, FrameIncomplete
from edge.readers.features import apply
from edge.readers.wire import Header, serve

_NAMES = ("id_", "serial_number", "model", "user_defined_name")
_CHECK = "Check cable, power and address; the maker's viewer must not have it open."


class GenicamFeatures:
    """As edge/readers/features.py wants them."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def has(self, name: str) -> bool:
        return hasattr(self._nodes, name)

    def get(self, name: str) -> str | None:
        node = getattr(self._nodes, name)
        return None if hasattr(node, "execute") else str(node.to_string())

    def set(self, name: str, text: str) -> None:
        getattr(self._nodes, name).from_string(text)


class GenicamSource:
    """`device` is an id, serial number, model or user's name; "" for the first that the producer finds."""

    def __init__(self, producer: str, device: str, settings: dict[str, str]) -> None:
        self._where = f"genicam:{producer}"
        self._clock, self._incomplete = CameraClock(), 0
        self._harvester = Harvester()
        self._harvester.add_file(producer)
        self._harvester.update()
        self._camera = self._harvester.create(_number(self._harvester.device_info_list, device, self._where))
        self._nodes = self._camera.remote_device.node_map
        apply(GenicamFeatures(self._nodes), settings, self._where)
        self._asks = settings.get("trigger", "") == "Software"
        self._camera.start()

    def read(self, timeout_s: float) -> tuple[Header, npt.NDArray[np.uint8]]:
        if self._asks:
            self._nodes.TriggerSoftware.execute()
        try:
            buffer = self._camera.fetch(timeout=timeout_s)  # without a time-out it waits for ever
        except gentl.TimeoutException as error:
            hint = "Check cable, trigger and MTU (docs/cameras.md)."
            raise CameraTimeout(f"no picture for {timeout_s:g} s", self._where, hint) from error
        with buffer:
            return self._picture(buffer, time.monotonic_ns())

    def close(self) -> None:
        self._camera.stop()
        self._camera.destroy()
        self._harvester.reset()

    def _picture(self, buffer: Any, now_ns: int) -> tuple[Header, npt.NDArray[np.uint8]]:
        if not buffer.module.is_complete():
            self._incomplete += 1
            what = f"a picture came incomplete, the {self._incomplete}. since the opening"
            raise FrameIncomplete(what, self._where, "Check cable, network load and MTU (docs/cameras.md).")
        picture = buffer.payload.components[0]
        data, device_ns = picture.data.view(np.uint8).copy(), _stamp(buffer)
        taken_ns = self._clock.taken_ns(device_ns, now_ns) if device_ns else now_ns
        size = (int(picture.width), int(picture.height))
        header = Header(*size, str(picture.data_format), data.nbytes, taken_ns, device_ns, self._incomplete)
        return header, data


def _stamp(buffer: Any) -> int | None:
    """Nanoseconds of the camera's clock; None where the producer tells none."""
    try:
        return int(buffer.timestamp_ns) or None
    except gentl.GenericException:
        return None


def _told(device: Any, name: str) -> str:
    """A producer need not know all names."""
    try:
        return str(getattr(device, name))
    except gentl.GenericException:
        return ""


def _number(devices: Any, wanted: str, where: str) -> int:
    for number, device in enumerate(devices):
        if not wanted or wanted in {_told(device, name) for name in _NAMES}:
            return number
    found = ", ".join(str(device.id_) for device in devices) or "none"
    raise CameraLost(f"the camera does not answer; found: {found}", where, _CHECK)


def main() -> None:
    def opened(request: dict[str, Any]) -> GenicamSource:
        return GenicamSource(request["producer"], request["device"], request["settings"])

    serve(opened)
