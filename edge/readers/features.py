"""Settings of a GenICam camera, by whatever library: written in the order that cameras need, then read back.

    exposure_us=5000&gain=3&trigger=Line1&debounce_us=50&pixel_format=BayerRG8        our names
    LineInverter=true&BinningHorizontal=2                                            the camera's own

Cameras silently round, refuse or forget, and a part that is seen with another exposure is judged wrongly.
"""

from __future__ import annotations

from typing import Protocol

from edge.errors import DataError

NEAR = 0.01  # of the value: cameras round an exposure to their line time
TRIGGER_OFF = "off"
OURS: dict[
    str, tuple[str, ...]
] = {  # in the order of writing; the first feature that the camera has is taken
    "pixel_format": ("PixelFormat",),
    "width": ("Width",),
    "height": ("Height",),
    "packet_size": ("GevSCPSPacketSize", "DeviceStreamChannelPacketSize"),
    "fps": ("AcquisitionFrameRate", "AcquisitionFrameRateAbs"),
    "exposure_us": ("ExposureTime", "ExposureTimeAbs", "ExposureTimeRaw"),
    "gain": ("Gain", "GainRaw"),
    "trigger": ("TriggerSource",),
    "trigger_edge": ("TriggerActivation",),
    "trigger_delay_us": ("TriggerDelay", "TriggerDelayAbs"),
    "debounce_us": ("LineDebouncerTime", "LineDebouncerTimeAbs"),
}
BEFORE = {  # what must be set first, where the camera has it
    "fps": (("AcquisitionFrameRateEnable", "true"),),
    "exposure_us": (("ExposureAuto", "Off"),),
    "gain": (("GainAuto", "Off"),),
    "trigger": (("TriggerSelector", "FrameStart"), ("TriggerMode", "On")),
}
_TRUE = frozenset({"1", "true", "on"})
_FALSE = frozenset({"0", "false", "off"})


class Features(Protocol):
    """The camera's features as text, whatever their type."""

    def has(self, name: str) -> bool:
        """Whether it can be used now."""

    def get(self, name: str) -> str | None:
        """Its value; None of a command. May raise the library's own error."""

    def set(self, name: str, text: str) -> None:
        """Write it. May raise the library's own error."""


def check_names(settings: dict[str, str], more: tuple[str, ...] = ()) -> None:
    """Raises ValueError for a name that is neither ours nor, with a capital letter, a camera's."""
    for name in settings:
        if name not in OURS and name not in more and not name[:1].isupper():
            raise ValueError(f"{name!r} is not known, only {', '.join((*OURS, *more))} and GenICam names")


def apply(features: Features, settings: dict[str, str], where: str) -> None:
    """Write, then read all back. Raises DataError for what the camera has not, refuses, or sets otherwise."""
    written = []
    ours = [name for name in OURS if name in settings]
    for name in [*ours, *(name for name in settings if name not in OURS)]:
        written += _write_one(features, name, settings[name], where)
    for name, feature, wanted in written:
        if (got := features.get(feature)) is not None and not is_same(got, wanted):
            hint = f"Write {name}={got}, or what the camera can do."
            raise DataError(f"the camera took {feature}={got}, not {wanted}", where, hint)
    _check_trigger(features, settings, where)


def _check_trigger(features: Features, settings: dict[str, str], where: str) -> None:
    """Raises DataError for a camera that waits and was not told to.

    Its pictures would be taken for those of a free-running one, and each part judged by the next one's.
    """
    said = {"trigger", "TriggerMode"} & settings.keys()
    if not said and features.has("TriggerMode") and is_same(features.get("TriggerMode") or "", "On"):
        hint = "Add ?trigger=Line1, or whichever line fires it, to the camera's address; or TriggerMode=Off."
        raise DataError("the camera waits for a trigger (TriggerMode On)", where, hint)


def is_same(got: str, wanted: str) -> bool:
    """Numbers to one per cent, truth in any spelling, words exactly."""
    a, b = got.strip().lower(), wanted.strip().lower()
    try:
        return abs(float(a) - float(b)) <= NEAR * abs(float(b))
    except ValueError:
        return a == b or {a, b} <= _TRUE or {a, b} <= _FALSE


def _write_one(features: Features, name: str, value: str, where: str) -> list[tuple[str, str, str]]:
    """(our name, the camera's, value) of what must be read back."""
    if name == "trigger" and value.lower() == TRIGGER_OFF:
        return _write(features, name, "TriggerMode", "Off", where)
    for feature, text in BEFORE.get(name, ()):
        if features.has(feature):
            _write(features, name, feature, text, where)
    known = OURS.get(name, (name,))
    found = next((f for f in known if features.has(f)), None)
    if found is None:
        hint = f"Leave {name} away, or give the camera's own feature: Name=VALUE."
        raise DataError(f"the camera has no {' or '.join(known)}", where, hint)
    triggered = [(name, "TriggerMode", "On")] if name == "trigger" and features.has("TriggerMode") else []
    return _write(features, name, found, value, where) + triggered


def _write(features: Features, name: str, feature: str, text: str, where: str) -> list[tuple[str, str, str]]:
    try:
        features.set(feature, text)
    except Exception as error:  # each library has its own
        hint = f"Give {name} a value that the camera knows (arv-tool-0.8 or the maker's viewer shows them)."
        raise DataError(f"the camera refuses {feature}={text}: {error}", where, hint) from error
    return [(name, feature, text)]
