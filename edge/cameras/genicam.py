"""GenICam cameras: their URIs, and who reads them (each in a process of its own, edge/readers/).

aravis:                                     GigE Vision, USB3 Vision: the first camera that is found
aravis:192.168.1.20?exposure_us=5000&trigger=Line1&debounce_us=50&pixel_format=BayerRG8
pylon:22345678?exposure_us=5000             Basler, by serial number, the user's name or IP address
genicam:/opt/maker/producer.cti?device=ID   any maker's GenTL producer
"""

import math
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from edge.cameras.process import SILENT_S, ProcessCamera, python_with
from edge.errors import CameraLost, DataError
from edge.readers.features import OURS, TRIGGER_OFF, check_names

_INSTALL = {
    "aravis": ("gi", "apt-get install gir1.2-aravis-0.8 python3-gi"),
    "pylon": ("pypylon", "pip install 'edge-inspect[pylon]'"),
    "genicam": ("harvesters", "pip install 'edge-inspect[genicam]'"),
}


def genicam_settings(uri: str) -> tuple[str, dict[str, str]]:
    """Split `SCHEME:NAME?exposure_us=5000` into name and settings. Raises DataError for an unknown one."""
    scheme, _, rest = uri.partition(":")
    name, _, query = rest.partition("?")
    more = ("device",) if scheme.lower() == "genicam" else ()
    settings = dict(parse_qsl(query, keep_blank_values=True))
    try:
        check_names(settings, more)
    except ValueError as error:
        hint = (
            f"Known: {', '.join((*OURS, *more))}, and the camera's own features, with their capital letter."
        )
        raise DataError(f"the camera setting cannot be read: {error}", uri, hint) from error
    if more and not Path(unquote(name)).is_file():
        hint = "Give the producer that came with the camera: genicam:/opt/maker/producer.cti"
        raise DataError("there is no such GenTL producer", uri, hint)
    return unquote(name), settings


def open_genicam(uri: str, name: str, settings: dict[str, str]) -> ProcessCamera:
    """Raises CameraLost when no such camera answers, DataError for a setting that it does not take."""
    shown, reader = uri.partition("?")[0], uri.partition(":")[0].lower()
    module, command = _INSTALL[reader]
    python = python_with(module)
    if not Path(python).exists() or (reader != "aravis" and find_spec(module) is None):
        raise CameraLost(f"{module} is not installed", shown, f"Install it: {command}")
    request = {"name": name, "settings": settings}
    if reader == "genicam":
        others = {key: value for key, value in settings.items() if key != "device"}
        request = {"producer": name, "device": settings.get("device", ""), "settings": others}
    return ProcessCamera(shown, reader, request, python, silence_s(settings))


def silence_s(settings: dict[str, str]) -> float:
    """How long a camera may give nothing before it is opened anew: for ever, where parts trigger it."""
    waits = {settings.get(name, TRIGGER_OFF).lower() for name in ("trigger", "TriggerMode")}
    return SILENT_S if waits <= {TRIGGER_OFF, "software"} else math.inf
