"""What stands behind `dialect=` in a URI: a built-in dialect, changed by the settings beside it, or a file.

?dialect=t1&nodec=--                        ?dialect=/etc/edge-inspect/cell4.toml
?dialect=plain&trigger=GO&line={word};{id}&pass=IO&fail=NIO&nodec=ERR
"""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.errors import InspectError
from edge.plc.dialects import DIALECTS, ETX, STX
from edge.plc.line_protocol import Language, OwnLanguage

SETTINGS = {
    "trigger": "trigger", "line": "line", "accepted": "accepted", "refused": "refused", "unknown": "unknown",
    "pass": "passed", "fail": "failed", "nodec": "nodec", "output": "output",
}  # fmt: skip
FRAMES = {"cr": ("", "\r"), "lf": ("", "\n"), "crlf": ("", "\r\n"), "stx": (STX, ETX)}
KNOWN = ("dialect", "ids", "frame", *SETTINGS)


def language_of(settings: dict[str, str], uri: str) -> Language:
    """What is spoken; without `dialect` the station's own protocol. Raises InspectError."""
    chosen = {name: settings[name] for name in KNOWN if name in settings}
    name = chosen.get("dialect", "")
    if name.endswith(".toml"):
        chosen = _read(Path(name), uri) | {key: text for key, text in chosen.items() if key != "dialect"}
        name = chosen.get("dialect", "plain")
    if not name and not chosen:
        return OwnLanguage()
    if name not in DIALECTS:
        hint = f"Give one of {', '.join(DIALECTS)}, or a file NAME.toml."
        raise InspectError(f"dialect={name or '?'} is not known", uri, hint)
    try:
        return replace(DIALECTS[name], **_changes(chosen))
    except (ValueError, LookupError) as error:
        raise InspectError(
            f"this dialect is not usable: {error}", uri, "See docs/outputs.md, Dialects."
        ) from error


def _changes(chosen: dict[str, str]) -> dict[str, Any]:
    changes: dict[str, Any] = {SETTINGS[key]: text for key, text in chosen.items() if key in SETTINGS}
    if "ids" in chosen:
        changes["ids"] = int(chosen["ids"])
    if "frame" in chosen:
        changes["start"], changes["end"] = FRAMES[chosen["frame"]]
    return changes


def _read(path: Path, uri: str) -> dict[str, str]:
    try:
        read = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        hint = 'It is a TOML file of lines like trigger = "GO"; see docs/outputs.md, Dialects.'
        raise InspectError(f"the dialect cannot be read: {error}", str(path), hint) from error
    for name in read:
        if name not in KNOWN:
            raise InspectError(f"unknown setting {name!r}", str(path), f"Known are: {', '.join(KNOWN)}")
    return {name: str(value) for name, value in read.items()}
