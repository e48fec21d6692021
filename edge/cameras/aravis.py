"""GigE Vision and USB3 Vision cameras by Aravis, in a reading process (edge/readers/aravis.py).

    aravis:                                     the first camera that is found
    aravis:192.168.1.20?exposure_us=5000&trigger=Line1&debounce_us=50&pixel_format=BayerRG8
"""

import math
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from edge.cameras.process import SILENT_S, SYSTEM_PYTHON, ProcessCamera, python_with
from edge.errors import CameraLost, DataError
from edge.readers.features import OURS, TRIGGER_OFF, check_names

INSTALL = "Install it: apt-get install gir1.2-aravis-0.8 python3-gi"


def genicam_settings(uri: str, more: tuple[str, ...] = ()) -> tuple[str, dict[str, str]]:
    """Split `SCHEME:NAME?exposure_us=5000` into name and settings. Raises DataError for an unknown one."""
    name, _, query = uri.partition(":")[2].partition("?")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    try:
        check_names(settings, more)
    except ValueError as error:
        hint = f"Known: {', '.join((*OURS, *more))}, and the camera's own features, with their capital letter."
        raise DataError(f"the camera setting cannot be read: {error}", uri, hint) from error
    return unquote(name).strip("/"), settings


def silence_s(settings: dict[str, str]) -> float:
    """How long a camera may give nothing before it is opened anew: for ever, where parts trigger it."""
    waits = {settings.get(name, TRIGGER_OFF).lower() for name in ("trigger", "TriggerMode")}
    return SILENT_S if waits <= {TRIGGER_OFF, "software"} else math.inf


def open_aravis(uri: str, name: str, settings: dict[str, str]) -> ProcessCamera:
    """Raises CameraLost when no such camera answers, DataError for a setting that it does not take."""
    python = python_with("gi")
    if not Path(python).exists():
        raise CameraLost("Aravis is not installed", uri, INSTALL)
    request = {"name": name, "settings": settings}
    return ProcessCamera(uri.partition("?")[0], "aravis", request, python, silence_s(settings))
