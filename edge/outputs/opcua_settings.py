"""Where the OPC UA server listens and who may come in. Pure but for the password file; knows no library."""

import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edge.errors import InspectError
from edge.outputs import settings_of

PASSWORD = "EDGE_INSPECT_OPCUA_PASSWORD"  # in the environment, where no file is named
KNOWN = ("user", "password_file", "certificates", "security", "handshake")
EXAMPLE = "opc-ua://0.0.0.0:4840?user=line&password_file=opcua.password"


@dataclass(frozen=True, slots=True)
class OpcUaSettings:
    """From `opc-ua://0.0.0.0[:4840][?user=&password_file=&certificates=&security=none&handshake=ids]`."""

    uri: str
    host: str
    port: int
    secure: bool  # False: neither encryption nor password, as the user asked for
    certificates: Path  # folder of the server's own key and certificate
    user: str = ""
    password: str = field(default="", repr=False)


def opcua_settings(uri: str, environ: Mapping[str, str] = os.environ) -> OpcUaSettings:
    """Raises InspectError for what cannot be used, above all for a server that everybody could come into."""
    host, port = _address(uri)
    known = settings_of(uri, KNOWN)
    secure = _security(known, uri)
    folder = Path(known["certificates"]).expanduser() if known.get("certificates") else _folder(environ)
    if not secure:
        return OpcUaSettings(uri, host, port, False, folder)
    user, password = known.get("user", "line"), _password(known.get("password_file"), uri, environ)
    return OpcUaSettings(uri, host, port, True, folder, user, password)


def _address(uri: str) -> tuple[str, int]:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, 4840 if parts.port is None else parts.port
    except ValueError as error:
        raise InspectError(
            str(error), "output opc-ua", "Write host:port, the port from 0 to 65535."
        ) from error
    if "@" in parts.netloc:
        hint = f"Write for example {EXAMPLE}, or set {PASSWORD}."
        raise InspectError("no user or password before the @", "output opc-ua", hint)
    if not host:
        raise InspectError("no address given", uri, f"Write for example {EXAMPLE}")
    return host, port


def _security(known: Mapping[str, str], uri: str) -> bool:
    match known.get("security", "on"):
        case "on":
            return True
        case "none" if not known.keys() & {"user", "password_file"}:
            return False
        case "none":
            hint = "Everybody could read it: leave out user and password_file, or security=none."
            raise InspectError("security=none with a password", uri, hint)
        case other:
            raise InspectError(f"security={other} is not usable", uri, "Leave it out, or give none.")


def _password(file: str | None, uri: str, environ: Mapping[str, str]) -> str:
    if file is None:
        text = environ.get(PASSWORD, "")
        hint = f"Put it into a file of yours (mode 600) and give password_file=FILE, or set {PASSWORD}."
    else:
        text = _private_text(Path(file).expanduser(), uri)
        hint = f"Write one into {file}, alone on the first line."
    password = (text.splitlines() or [""])[0].strip()
    if not password:
        raise InspectError("the OPC UA server has no password", uri, hint)
    return password


def _private_text(path: Path, uri: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise InspectError(
                    "others may read the password", str(path), f"chmod 600 {shlex.quote(str(path))}"
                )
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InspectError(
            f"cannot read the password: {reason}", str(path), f"It is named in {uri}."
        ) from error


def _folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/edge-inspect/opcua`, by default `~/.config/edge-inspect/opcua`."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))  # the specification: a relative path is to be ignored
    return (base if base.is_absolute() else Path.home() / ".config") / "edge-inspect" / "opcua"
