"""Cameras, network streams and video files through OpenCV: the only file that knows cv2.VideoCapture.

    0?width=1280&height=1024&fps=30&fourcc=MJPG      index, or better /dev/v4l/by-id/NAME, with settings
    rtsp://user:password@host/path                   over TCP; the query belongs to the camera
    VIDEO.mp4                                        each picture once, as fast as asked

OpenCV takes its time limits when it opens: `read` waits up to READ_LIMIT_S whatever `timeout_s` says. A
stream that ran into its limit never comes back (FFmpeg has given up on it): first CameraTimeout, then
CameraLost, and the caller opens again.
"""

import math
import os
import sys
import time
from pathlib import Path
from urllib.parse import parse_qsl

OPEN_LIMIT_S = 5
READ_LIMIT_S = 2

# OpenCV and FFmpeg read these once; faults are told by our errors, not on stderr. TCP, as UDP gives torn
# pictures that look like defects.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(READ_LIMIT_S))
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from edge.camera_clock import CameraClock  # noqa: E402
from edge.cameras import safe_uri  # noqa: E402
from edge.errors import CameraLost, CameraTimeout, DataError, EndOfStream  # noqa: E402
from edge.frame import Pixels, Shot  # noqa: E402

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # where cv2 was loaded before us

STALL = 2.0  # a read this many picture intervals long was a stall: what follows it has piled up
MIN_STALL_S = 0.25
_SETTINGS = {
    "fourcc": cv2.CAP_PROP_FOURCC,  # first: it decides which sizes there are
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
}
_LIMITS = [
    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_LIMIT_S * 1000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_LIMIT_S * 1000,
]  # fmt: skip
_CHECK_DEVICE = (
    "Check `ls -l /dev/v4l/by-id`, that the user is in the group `video`, and that no other program has it."
)


def device_settings(uri: str) -> tuple[str, dict[str, float]]:
    """Split `0?width=1280` into device and OpenCV values. Raises DataError for an unknown setting."""
    device, _, query = uri.partition("?")
    hint = f"Known: {', '.join(_SETTINGS)}; fourcc has four letters."
    try:
        return device, {name: _value(name, text) for name, text in parse_qsl(query, keep_blank_values=True)}
    except KeyError as error:
        raise DataError(f"unknown setting {error}", uri, hint) from error
    except (TypeError, ValueError) as error:
        raise DataError(f"the camera setting cannot be read: {error}", uri, hint) from error


class DeviceCamera:
    """A camera on this machine, by number or by /dev path. Its driver may hang: edge/readers/device.py."""

    live = True

    def __init__(self, device: str, settings: dict[str, float] | None = None) -> None:
        self.uri = device
        name = int(device) if device.isdecimal() else device
        self._capture = _opened(name, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY, [])
        if not self._capture.isOpened():
            raise CameraLost("the camera cannot be opened", device, _CHECK_DEVICE)
        self._timed_out = False
        try:
            _apply(self._capture, device, settings or {})
        except DataError:
            self.close()
            raise

    def read(self, timeout_s: float) -> Shot:
        """The next picture. CameraTimeout once, then CameraLost, when the driver gives none."""
        started_ns = time.monotonic_ns()
        pixels = _grab(self._capture)
        if pixels is not None:
            self._timed_out = False
            stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)  # when the driver filled its buffer
            return Shot(pixels, device_ns=int(stamp_ms * 1e6) if stamp_ms > 0 else None, begun_ns=started_ns)
        waited = (time.monotonic_ns() - started_ns) / 1e9
        if waited > 0.9 * READ_LIMIT_S and not self._timed_out:
            self._timed_out = True
            raise CameraTimeout(f"no picture for {waited:.1f} s", self.uri, "Check cable and trigger.")
        raise CameraLost("the camera is gone", self.uri, _CHECK_DEVICE)

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


class StreamCamera:
    """A network stream. It has no trigger and is seconds from exact: for slow lines only.

    What piled up while opening or in a stall is thrown away: those pictures are old, whatever the clock
    after the read says. Of those that come late one by one the stream's time tells how old they are.
    """

    live = True

    def __init__(self, uri: str) -> None:
        self.uri = safe_uri(uri)
        self._capture = _opened(uri, cv2.CAP_FFMPEG, _LIMITS)
        if not self._capture.isOpened():
            hint = f"Try `ffplay -rtsp_transport tcp {self.uri}`; check address, user and password."
            raise CameraLost("the stream cannot be opened", self.uri, hint)
        self._timed_out, self._piled_up = False, True
        self._stream_s, self._clock = math.nan, CameraClock()

    def read(self, timeout_s: float) -> Shot:
        """The next fresh picture. CameraTimeout once when none comes, then CameraLost."""
        deadline = time.monotonic() + READ_LIMIT_S
        while True:
            started_ns = time.monotonic_ns()
            pixels, waited, step = self._next()
            fresh = waited > step / 2  # it had to be waited for, so nothing lay in the buffer; NaN: no
            self._piled_up = is_stall(waited, step) or (self._piled_up and not fresh)
            if not self._piled_up:
                return self._shot(pixels, started_ns)
            if time.monotonic() > deadline:
                hint = "Lower the camera's frame rate or size."
                raise CameraTimeout(f"only old pictures for {READ_LIMIT_S} s", self.uri, hint)

    def _shot(self, pixels: Pixels, started_ns: int) -> Shot:
        device_ns, taken_ns = int(self._stream_s * 1e9), time.monotonic_ns()
        if device_ns:  # 0: a stream without time
            taken_ns = self._clock.taken_ns(device_ns, taken_ns)
        return Shot(pixels, device_ns=device_ns, begun_ns=min(started_ns, taken_ns), taken_ns=taken_ns)

    def close(self) -> None:
        """Leave the stream."""
        self._capture.release()

    def _next(self) -> tuple[Pixels, float, float]:
        """A picture, seconds waited for it, and seconds of stream time since the one before (first: NaN)."""
        started, before = time.monotonic(), self._stream_s
        pixels = _grab(self._capture)
        waited = time.monotonic() - started
        if pixels is None:
            raise self._fault(waited)
        self._stream_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return pixels, waited, self._stream_s - before

    def _fault(self, waited: float) -> CameraTimeout | CameraLost:
        if waited > 0.9 * READ_LIMIT_S and not self._timed_out:
            self._timed_out = True
            return CameraTimeout(f"no picture for {waited:.1f} s", self.uri, "Check the network.")
        return CameraLost("the stream has ended", self.uri, "Check camera and network.")


class VideoFile:
    """A recorded video; not live, it waits for whoever asks."""

    live = False

    def __init__(self, path: Path) -> None:
        self.uri = str(path)
        self._name, self._picture = path.name, 0
        self._capture = _opened(str(path), cv2.CAP_FFMPEG, [])
        if not self._capture.isOpened():
            raise DataError(
                "the file is not a video that FFmpeg can read", self.uri, "Save it as .mp4 or .avi."
            )

    def read(self, timeout_s: float) -> Shot:
        """The next picture, labelled NAME#NUMBER; EndOfStream after the last one."""
        pixels = _grab(self._capture)
        if pixels is None:
            raise EndOfStream
        self._picture += 1
        return Shot(pixels, label=f"{self._name}#{self._picture - 1}")

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


def is_stall(waited_s: float, step_s: float) -> bool:
    """True when a picture came so late after the one before that others must have piled up behind it.

    `step_s` is the stream time between the two; 0 where the stream has no time: then nobody can tell.
    """
    return step_s > 0 and waited_s > max(MIN_STALL_S, STALL * step_s)


def to_bgr(pixels: npt.NDArray[np.uint8]) -> Pixels:
    """Grey (H, W) or (H, W, 1) and BGRA become (H, W, 3)."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    return pixels if pixels.shape[2] == 3 else np.ascontiguousarray(pixels[..., :3])


def _opened(source: int | str, backend: int, limits: list[int]) -> cv2.VideoCapture:
    try:
        return cv2.VideoCapture(source, backend, limits)
    except cv2.error:  # OpenCV mostly says False, but throws when it was told to
        return cv2.VideoCapture()


def _grab(capture: cv2.VideoCapture) -> Pixels | None:
    try:
        ok, pixels = capture.read()
    except cv2.error:
        return None
    return to_bgr(np.asarray(pixels, np.uint8)) if ok and pixels is not None else None


def _apply(capture: cv2.VideoCapture, device: str, settings: dict[str, float]) -> None:
    """Set and read back: drivers silently take the nearest value they like."""
    wanted = {name: settings[name] for name in _SETTINGS if name in settings}
    for name, value in wanted.items():
        capture.set(_SETTINGS[name], value)
    for name, value in wanted.items():
        got = capture.get(_SETTINGS[name])
        if abs(got - value) > 0.01 * abs(value):
            hint = f"See what it can do: `v4l2-ctl -d {device} --list-formats-ext`."
            raise DataError(
                f"the camera took {name}={_show(name, got)}, not {_show(name, value)}", device, hint
            )


def _value(name: str, text: str) -> float:
    if name == "fourcc":
        return float(cv2.VideoWriter.fourcc(*text))
    _SETTINGS[name]
    return float(text)


def _show(name: str, value: float) -> str:
    letters = int(value).to_bytes(4, "little", signed=True).decode("latin-1")
    return letters if name == "fourcc" else f"{value:g}"
