"""GigE Vision and USB3 Vision cameras through Aravis: the only file that knows it. Run by whoever has `gi`.

Incomplete pictures (lost packets, overrun) are counted, told and never given out.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis, GLib  # noqa: E402

from edge.camera_clock import CameraClock  # noqa: E402
from edge.errors import CameraLost, CameraTimeout, FrameIncomplete  # noqa: E402
from edge.readers.features import apply  # noqa: E402
from edge.readers.wire import Header, serve  # noqa: E402

BUFFERS = 8  # wait in the driver: more would only grow old
_CHECK = "Check cable, power and address; `arv-tool-0.8` lists what answers."


class AravisFeatures:
    """As edge/readers/features.py wants them."""

    def __init__(self, device: Aravis.Device) -> None:
        self._device = device

    def has(self, name: str) -> bool:
        return bool(self._device.is_feature_available(name))

    def get(self, name: str) -> str | None:
        node = self._device.get_feature(name)
        return None if isinstance(node, Aravis.GcCommand) else str(node.get_value_as_string())

    def set(self, name: str, text: str) -> None:
        node = self._device.get_feature(name)
        if isinstance(node, Aravis.GcCommand):
            node.execute()
        else:
            node.set_value_from_string(text)


class AravisSource:
    """`name` is the camera's id, serial number or IP address; "" for the first that is found."""

    def __init__(self, name: str, settings: dict[str, str]) -> None:
        self._where = f"aravis:{name}"
        self._clock, self._incomplete, self._lost = CameraClock(), 0, False
        self._camera = _opened(name, self._where)
        self._device = self._camera.get_device()
        self._device.connect("control-lost", self._on_control_lost)
        if self._camera.is_gv_device() and "packet_size" not in settings:
            self._camera.gv_auto_packet_size()
        apply(AravisFeatures(self._device), settings, self._where)
        self._asks = settings.get("trigger", "") == "Software"
        self._format = self._camera.get_pixel_format_as_string()
        self._stream = self._camera.create_stream(None, None)
        if self._stream is None:
            raise CameraLost("the camera gives no stream", self._where, "Does another program have it?")
        for _ in range(BUFFERS):
            self._stream.push_buffer(Aravis.Buffer.new_allocate(self._camera.get_payload()))
        self._camera.start_acquisition()

    def read(self, timeout_s: float) -> tuple[Header, bytes]:
        if self._asks and not self._stream.get_n_buffers()[1]:
            self._camera.software_trigger()
        buffer = self._stream.timeout_pop_buffer(int(timeout_s * 1e6))
        now_ns = time.monotonic_ns()
        if self._lost:
            raise CameraLost("the camera is gone", self._where, _CHECK)
        if buffer is None:
            hint = "Check cable, trigger and MTU (docs/cameras.md)."
            raise CameraTimeout(f"no picture for {timeout_s:g} s", self._where, hint)
        try:
            return self._picture(buffer, now_ns)
        finally:
            self._stream.push_buffer(buffer)

    def close(self) -> None:
        with contextlib.suppress(GLib.Error):  # it is gone anyway
            self._camera.stop_acquisition()

    def _picture(self, buffer: Aravis.Buffer, now_ns: int) -> tuple[Header, bytes]:
        status = buffer.get_status()
        if status != Aravis.BufferStatus.SUCCESS:
            self._incomplete += 1
            what = (
                f"a picture came incomplete ({status.value_nick}), the {self._incomplete}. since the opening"
            )
            raise FrameIncomplete(what, self._where, "Check cable, network load and MTU (docs/cameras.md).")
        data, device_ns = buffer.get_data(), buffer.get_timestamp()
        taken_ns = self._clock.taken_ns(device_ns, now_ns) if device_ns else now_ns
        size = (buffer.get_image_width(), buffer.get_image_height())
        return Header(*size, self._format, len(data), taken_ns, device_ns or None, self._incomplete), data

    def _on_control_lost(self, device: Aravis.Device) -> None:
        self._lost = True


def _opened(name: str, where: str) -> Aravis.Camera:
    Aravis.update_device_list()  # without it no packet arrives from a camera on this machine
    found = range(Aravis.get_n_devices())
    match = next((Aravis.get_device_id(i) for i in found if name and name in _names(i)), name)
    try:
        return Aravis.Camera.new(match or None)
    except GLib.Error as error:
        ids = ", ".join(Aravis.get_device_id(i) for i in found) or "none"
        what = f"the camera does not answer ({error.message}); found: {ids}"
        raise CameraLost(what, where, _CHECK) from error


def _names(i: int) -> tuple[str | None, ...]:
    return Aravis.get_device_serial_nbr(i), Aravis.get_device_address(i)


def main() -> None:
    def opened(request: dict[str, Any]) -> AravisSource:
        return AravisSource(request["name"], request["settings"])

    serve(opened)
