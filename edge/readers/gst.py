"""Any GStreamer pipeline by an appsink: the only file that knows it. Run by whoever has `gi`.

OpenCV from PyPI has no GStreamer, and a Jetson's own camera (CSI) speaks nothing else.
"""

from __future__ import annotations

import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

from edge.camera_clock import CameraClock  # noqa: E402
from edge.errors import CameraLost, CameraTimeout, DataError  # noqa: E402
from edge.readers.wire import Header, serve  # noqa: E402

# Four bytes a pixel: rows of three are padded to a multiple of four, and differently in each version.
_SINK = "videoconvert ! video/x-raw,format=BGRx ! appsink name=pictures sync=false max-buffers=8"
START_LIMIT_S = 10
_TRY = "Try it with gst-launch-1.0, ending in fakesink; gst-inspect-1.0 tells what elements there are."


class GstSource:
    """`pipeline` as for gst-launch-1.0, without a sink."""

    def __init__(self, pipeline: str, where: str) -> None:
        Gst.init(None)
        self._where, self._clock = where, CameraClock()
        try:
            self._pipeline = Gst.parse_launch(f"{pipeline} ! {_SINK}")
        except GLib.Error as error:
            raise DataError(f"the pipeline cannot be read: {error.message}", where, _TRY) from error
        self._sink, self._bus = self._pipeline.get_by_name("pictures"), self._pipeline.get_bus()
        self._pipeline.set_state(Gst.State.PLAYING)
        state, _, _ = self._pipeline.get_state(START_LIMIT_S * Gst.SECOND)
        if state == Gst.StateChangeReturn.FAILURE:
            why = self._error()  # stopping clears it
            self.close()
            raise CameraLost(f"the pipeline does not start: {why}", where, _TRY)

    def read(self, timeout_s: float) -> tuple[Header, bytes]:
        sample = self._sink.emit("try-pull-sample", int(timeout_s * Gst.SECOND))
        now_ns = time.monotonic_ns()
        if sample is None:
            if why := self._error():
                raise CameraLost(f"the pipeline ended: {why}", self._where, _TRY)
            raise CameraTimeout(f"no picture for {timeout_s:g} s", self._where, "Check cable and source.")
        form, buffer = sample.get_caps().get_structure(0), sample.get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        stamp = None if buffer.pts == Gst.CLOCK_TIME_NONE else int(buffer.pts)
        taken_ns = now_ns if stamp is None else self._clock.taken_ns(stamp, now_ns)
        size = (form.get_value("width"), form.get_value("height"))
        return Header(*size, "BGRa8", len(data), taken_ns, stamp), data

    def close(self) -> None:
        self._pipeline.set_state(Gst.State.NULL)

    def _error(self) -> str:
        """What the pipeline has said of its end; "" while it runs."""
        message = self._bus.pop_filtered(Gst.MessageType.ERROR | Gst.MessageType.EOS)
        if message is None:
            return ""
        return (
            str(message.parse_error()[0].message) if message.type == Gst.MessageType.ERROR else "no more data"
        )


def main() -> None:
    def opened(request: dict[str, Any]) -> GstSource:
        return GstSource(request["pipeline"], request["where"])

    serve(opened)
