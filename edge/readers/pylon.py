"""Basler cameras through pypylon: the only file that knows it. PYLON_CAMEMU=1 gives one without hardware."""

from __future__ import annotations

import time
from typing import Any

from pypylon import genicam, pylon

from edge.camera_clock import CameraClock
from edge.errors import CameraLost, CameraTimeout, FrameIncomplete
from edge.readers.features import apply
from edge.readers.wire import Header, serve

BUFFERS = 8
_CHECK = "Check cable, power and address; pylon Viewer must not have it open."


class PylonFeatures:
    """As edge/readers/features.py wants them."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def has(self, name: str) -> bool:
        node = self._nodes.GetNode(name)
        return node is not None and bool(genicam.IsAvailable(node))

    def get(self, name: str) -> str | None:
        node = self._nodes.GetNode(name)
        return str(node.ToString()) if genicam.IsReadable(node) else None

    def set(self, name: str, text: str) -> None:
        self._nodes.GetNode(name).FromString(text)


class PylonSource:
    """`name` is the serial number, the user's name or the IP address; "" for the first that is found."""

    def __init__(self, name: str, settings: dict[str, str]) -> None:
        self._where = f"pylon:{name}"
        self._clock, self._incomplete = CameraClock(), 0
        self._camera = _opened(name, self._where)
        self._camera.MaxNumBuffer.SetValue(BUFFERS)
        self._nodes = self._camera.GetNodeMap()
        apply(PylonFeatures(self._nodes), settings, self._where)
        self._asks = settings.get("trigger", "") == "Software"
        self._format = str(self._nodes.GetNode("PixelFormat").ToString())
        self._camera.StartGrabbing(pylon.GrabStrategy_OneByOne)

    def read(self, timeout_s: float) -> tuple[Header, bytearray]:
        limit_ms = int(timeout_s * 1000)
        if self._asks and not self._camera.NumReadyBuffers.GetValue():
            self._camera.WaitForFrameTriggerReady(limit_ms, pylon.TimeoutHandling_Return)
            self._camera.ExecuteSoftwareTrigger()
        result = self._camera.RetrieveResult(limit_ms, pylon.TimeoutHandling_Return)
        now_ns = time.monotonic_ns()
        if self._camera.IsCameraDeviceRemoved():
            raise CameraLost("the camera is gone", self._where, _CHECK)
        if not result.IsValid():
            hint = "Check cable, trigger and MTU (docs/cameras.md)."
            raise CameraTimeout(f"no picture for {timeout_s:g} s", self._where, hint)
        try:
            return self._picture(result, now_ns)
        finally:
            result.Release()

    def close(self) -> None:
        self._camera.Close()

    def _picture(self, result: Any, now_ns: int) -> tuple[Header, bytearray]:
        if not result.GrabSucceeded():
            self._incomplete += 1
            what = (
                f"a picture came incomplete ({result.GetErrorDescription()}), the {self._incomplete}. since"
            )
            hint = "Check cable, network load and MTU (docs/cameras.md)."
            raise FrameIncomplete(f"{what} the opening", self._where, hint)
        data, device_ns = result.GetBuffer(), int(result.GetTimeStamp())
        taken_ns = self._clock.taken_ns(device_ns, now_ns) if device_ns else now_ns
        size = (int(result.GetWidth()), int(result.GetHeight()))
        return Header(*size, self._format, len(data), taken_ns, device_ns or None, self._incomplete), data


def _opened(name: str, where: str) -> Any:
    factory = pylon.TlFactory.GetInstance()
    devices = factory.EnumerateDevices()
    match = next((device for device in devices if not name or name in _names(device)), None)
    if match is None:
        found = ", ".join(device.GetFriendlyName() for device in devices) or "none"
        raise CameraLost(f"the camera does not answer; found: {found}", where, _CHECK)
    camera = pylon.InstantCamera(factory.CreateDevice(match))
    camera.Open()
    return camera


def _names(device: Any) -> tuple[str, ...]:
    address = device.GetIpAddress() if device.IsIpAddressAvailable() else ""
    return device.GetSerialNumber(), device.GetUserDefinedName(), address


def main() -> None:
    def opened(request: dict[str, Any]) -> PylonSource:
        return PylonSource(request["name"], request["settings"])

    serve(opened)
