"""The camera's settings that a recipe brings: what they are, and how they come to the camera.

    recipe's `camera`   exposure_us=5000, gain=3      what this product needs
    the URI's query     trigger=Line1, debounce_us=50 what this station needs

Both go to the camera as one URI, so they are written and read back as docs/cameras.md says. What is not
written a camera keeps: hence all recipes of a station say the same names, or one would be judged with the
exposure of another.
"""

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qsl, urlencode

from edge.cameras import Camera, camera_kind, camera_opener, safe_uri
from edge.errors import InspectError
from edge.readers.features import BEFORE, OURS, check_names

SETTABLE = frozenset({"genicam", "device", "csi"})  # kinds of camera whose query is written to the device
OFF = "off"
NOT_GENICAM = ("fourcc", "flip")  # of cameras on this machine, of a Jetson's
WHICH = "device"  # of genicam: it names the camera, which is the station's business

Settings = Mapping[str, str | int | float]
OpenCamera = Callable[[], Camera]


def camera_option(text: str) -> dict[str, str]:
    """`edge-inspect recipe --camera "exposure_us=5000&gain=3"`; {} for off. Raises InspectError."""
    if text == OFF:
        return {}
    hint = f'Write --camera "exposure_us=5000&gain=3" with names of docs/cameras.md, or {OFF}.'
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
        check_names(dict(pairs), NOT_GENICAM)
    except ValueError as error:
        raise InspectError(f"camera settings {text!r} cannot be read: {error}", "--camera", hint) from error
    names = [name for name, _ in pairs]
    if not names or len({*names}) < len(names) or not all(value for _, value in pairs):
        what = f"camera settings {text!r} are empty, or one has no value or two"
        raise InspectError(what, "--camera", hint)
    return dict(pairs)


def with_settings(uri: str, camera: Settings) -> str:
    """The URI with the recipe's settings in its query. Raises InspectError where they cannot go together."""
    if not camera:
        return uri
    shown = safe_uri(uri)
    if camera_kind(uri) not in SETTABLE:
        what = f"the recipe sets {', '.join(sorted(camera))} of the camera, but this one has no settings"
        hint = f"Take another camera, or take it out of the recipe: edge-inspect recipe ENGINE --camera {OFF}"
        raise InspectError(what, shown, hint)
    given = _query(uri)
    for name, value in camera.items():
        _check(given, name, str(value), shown)
    added = sorted((name, str(value)) for name, value in camera.items() if name not in given)
    joint = "&" if "?" in uri else "?"
    return f"{uri}{joint}{urlencode(added)}" if added else uri


class RecipeCamera:
    """The station's camera as each recipe wants it; `opener_for` makes an opener of a URI."""

    def __init__(
        self,
        uri: str,
        recipes: Iterable[Settings] = (),
        opener_for: Callable[[str], OpenCamera] = camera_opener,
    ) -> None:
        """`recipes`: the settings of all recipes that may be loaded. Raises InspectError."""
        self._uri, self._opener_for = uri, opener_for
        self._openers: dict[str, OpenCamera] = {}
        known = list(recipes)
        self._names = {name for camera in known for name in camera}
        for camera in known:
            self.opener(camera)

    def opener(self, camera: Settings) -> OpenCamera:
        """The same object for the same settings. Raises InspectError for those that cannot be used here."""
        merged = with_settings(self._uri, camera)
        if kept := self._names - _query(merged).keys():
            what = f"a recipe says nothing of the camera's {', '.join(sorted(kept))}, another one sets it"
            hint = "The camera would keep the other's. Seal it in each: edge-inspect recipe ENGINE --camera"
            raise InspectError(what, safe_uri(self._uri), hint)
        self._names |= camera.keys()
        if merged not in self._openers:
            self._openers[merged] = self._opener_for(merged)
        return self._openers[merged]


def _query(uri: str) -> dict[str, str]:
    return dict(parse_qsl(uri.partition("?")[2], keep_blank_values=True))


def _check(given: Mapping[str, str], name: str, value: str, where: str) -> None:
    """One setting of the recipe against all of the URI, which may call the same thing by another name."""
    if name == WHICH:
        raise InspectError(
            f"the recipe says which camera it is ({WHICH}={value})", where, "Leave that to --camera of run."
        )
    for other, text in given.items():
        same_thing = other == name or _features(other) & _features(name)
        if same_thing and not _equal(text, value):
            hint = "Say it in one of them: the recipe's is changed with edge-inspect recipe ENGINE --camera"
            raise InspectError(f"--camera says {other}={text}, the recipe {name}={value}", where, hint)


def _features(name: str) -> set[str]:
    """Everything of the camera that a setting writes."""
    return {*OURS.get(name, (name,)), *(feature for feature, _ in BEFORE.get(name, ()))}


def _equal(a: str, b: str) -> bool:
    try:
        return float(a) == float(b)
    except ValueError:
        return a.lower() == b.lower()
