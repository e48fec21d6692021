"""GStreamer pipelines, and the CSI cameras of a Jetson, in a reading process (edge/readers/gst.py).

gst:videotestsrc is-live=true ! video/x-raw,width=640,height=480
csi:0?width=1920&height=1080&fps=30&flip=2
"""

from pathlib import Path
from urllib.parse import parse_qsl

from edge.cameras import safe_uri
from edge.cameras.process import ProcessCamera, python_with
from edge.errors import CameraLost, DataError

INSTALL = "Install it: apt-get install python3-gi gir1.2-gstreamer-1.0 gstreamer1.0-plugins-base"
CSI = {
    "width": 1920,
    "height": 1080,
    "fps": 30,
    "flip": 0,
}  # `flip` as nvvidconv's flip-method: 2 is 180 degrees


def csi_pipeline(uri: str) -> str:
    """What NVIDIA's camera daemon is asked for. Raises DataError for an unknown setting."""
    sensor, _, query = uri.partition(":")[2].partition("?")
    try:
        given = {name: int(value) for name, value in parse_qsl(query, keep_blank_values=True)}
        if unknown := given.keys() - CSI.keys():
            raise ValueError(f"unknown setting {min(unknown)!r}")
        number = int(sensor or 0)
    except ValueError as error:
        hint = f"Write for example csi:0?width=1920&fps=30. Known: {', '.join(CSI)}, whole numbers."
        raise DataError(f"the camera setting cannot be read: {error}", uri, hint) from error
    want = CSI | given
    return (
        f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),width={want['width']},"
        f"height={want['height']},framerate={want['fps']}/1 ! nvvidconv flip-method={want['flip']} ! "
        "video/x-raw,format=BGRx"
    )


def gst_pipeline(uri: str) -> str:
    """What stands behind the colon. Raises DataError where there is nothing."""
    pipeline = uri.partition(":")[2].strip()
    if not pipeline:
        hint = "Write for example gst:videotestsrc is-live=true (docs/cameras.md)."
        raise DataError("there is no pipeline", uri, hint)
    return pipeline


def open_gst(uri: str, pipeline: str) -> ProcessCamera:
    """Raises CameraLost when the pipeline does not start, DataError when it cannot be read."""
    python, shown = python_with("gi"), safe_uri(uri)
    if not Path(python).exists():
        raise CameraLost("GStreamer's bindings are not installed", shown, INSTALL)
    return ProcessCamera(shown, "gst", {"pipeline": pipeline, "where": shown}, python)
