"""Cameras behind one Protocol. To add one: a file here, one `case` below, one line in the contract test."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge.errors import DataError
from edge.frame import Shot
from edge.safe_uri import safe_uri as safe_uri
from edge.safe_uri import scheme_of

KNOWN = (
    "0",
    "/dev/v4l/by-id/NAME",
    "FOLDER",
    "VIDEO.mp4",
    "rtsp://HOST/PATH",
    "http://HOST/PATH",
    "aravis:NAME",
    "pylon:SERIAL",
    "genicam:PRODUCER.cti",
    "gst:PIPELINE",
    "csi:0",
    "conveyor:",
)
GENICAM = frozenset({"aravis", "pylon", "genicam"})
STREAMS = frozenset({"rtsp", "rtsps", "http", "https", "rtmp", "udp"})


class Camera(Protocol):
    """A source of pictures. Used by one thread at a time; an object that exists is open."""

    @property
    def uri(self) -> str:
        """What the user typed, without password."""

    @property
    def live(self) -> bool:
        """True where parts go by whether we look or not; False for folders and files, which wait for us."""

    def read(self, timeout_s: float) -> Shot:
        """The next picture. Raises CameraTimeout, CameraLost or EndOfStream."""

    def close(self) -> None:
        """Release the device; may be called twice."""


def open_camera(uri: str) -> Camera:
    """Open once. Raises DataError for a URI that cannot be used, CameraLost when no camera answers."""
    return camera_opener(uri)()


def camera_opener(uri: str) -> Callable[[], Camera]:
    """Check the URI now, open when called: what a Capture wants, as it opens again after a loss.

    All cameras of one opener look at one line: a simulated belt goes on after an unplug. Raises DataError for
    a scheme or setting that nobody knows, and for a file that is not there.
    """
    match camera_kind(uri):
        case "conveyor":
            from edge.cameras.conveyor import Conveyor, Line, parse_script

            line = Line(parse_script(uri))
            return lambda: Conveyor(uri, line)
        case "folder":
            from edge.cameras.folder import FolderCamera, folder_settings

            path, settings = folder_settings(uri)
            return lambda: FolderCamera(path, settings)
        case "device":
            from edge.cameras.opencv import device_settings
            from edge.cameras.process import ProcessCamera

            device, wanted = device_settings(uri)
            return lambda: ProcessCamera(device, "device", {"device": device, "settings": wanted})
        case "genicam":
            from edge.cameras.genicam import genicam_settings, open_genicam

            name, features = genicam_settings(uri)
            return lambda: open_genicam(uri, name, features)
        case "gst" | "csi" as kind:
            from edge.cameras.gst import csi_pipeline, gst_pipeline, open_gst

            pipeline = csi_pipeline(uri) if kind == "csi" else gst_pipeline(uri)
            return lambda: open_gst(uri, pipeline)
        case "stream":
            from edge.cameras.opencv import StreamCamera

            return lambda: StreamCamera(uri)
        case _:
            from edge.cameras.opencv import VideoFile

            return lambda: VideoFile(Path(uri))


def camera_kind(uri: str) -> str:
    """Which camera a URI means: a word of the cases above, or "video". Raises DataError."""
    scheme = scheme_of(uri)
    plain = uri.partition("?")[0]
    found = uri if _exists(uri) else plain
    if scheme in STREAMS:
        return "stream"
    if scheme in GENICAM:
        return "genicam"
    if scheme in ("conveyor", "gst", "csi"):
        return scheme
    if scheme:
        raise DataError(
            f"camera scheme {scheme!r} is not known", safe_uri(uri), f"Known: {', '.join(KNOWN)}."
        )
    if plain.isdecimal() or plain.startswith("/dev/"):
        return "device"
    if not _exists(found):
        hint = f"Give a folder, a video file or another camera: {', '.join(KNOWN)}."
        raise DataError("there is no such folder or file", uri or '""', hint)
    from edge.picture.images import IMAGE_SUFFIXES

    path = Path(found)
    return "folder" if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES else "video"


def _exists(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except OSError:  # a name too long for the file system is no file
        return False
