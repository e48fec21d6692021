"""Where the broker is, who we are to it, which language we speak. Knows no MQTT library.

mqtt://BROKER[:1883]/TOPIC/PREFIX        mqtts://BROKER[:8883]/GROUP/NODE/DEVICE?format=sparkplug
"""

import hashlib
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge.errors import InspectError
from edge.outputs import settings_of, whole_number
from edge.outputs.addresses import check_address, host_and_port
from edge.plc.mqtt_words import Dialect, PlainJson
from edge.plc.sparkplug import SparkplugNode

KNOWN = (
    "format", "username", "password_file", "password_env", "ca", "cert", "key", "keepalive_s", "timeout_ms",
    "client_id", "primary_host", "keep", "handshake",
)  # fmt: skip
KEPT = 10_000  # verdicts that wait while the broker is away: some 10 MB, a quarter of an hour at ten a second
KEEP_LIMITS = range(1, 1_000_001)
PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 5  # so often the broker hears of us; it gives us up after one and a half times as long


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """One broker. Neither `uri` nor the text of this object shows a password."""

    uri: str
    host: str
    port: int
    path: tuple[str, ...]  # topic prefix, or group, node, device
    sparkplug: bool
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    keepalive_s: int = KEEPALIVE_S
    timeout_s: float = 2.0
    primary_host: str = ""

    def dialect(self) -> Dialect:
        """What is said where."""
        if self.sparkplug:
            group, node, device = self.path
            return SparkplugNode(group, node, device, self.primary_host)
        return PlainJson("/".join(self.path))


class ClosedOnFailure(ssl.SSLSocket):
    """Frees its connection when the broker is not to be trusted; paho-mqtt leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def mqtt_settings(uri: str) -> MqttSettings:
    """Raises InspectError for a URI that cannot be used, and for files that are not there."""
    check_address(uri)
    known = settings_of(uri, KNOWN)
    parts = urlsplit(uri)
    host, port = host_and_port(uri, PORTS[parts.scheme], "mqtt://192.168.0.20/plant/line3/station7")
    sparkplug = _is_sparkplug(known, uri)
    path = _path(parts.path, sparkplug, uri)
    username = known.get("username") or (unquote(parts.username) if parts.username else None)
    password = _password(known, uri)
    if password is not None and username is None:
        raise InspectError("a password without username", uri, "Add username=NAME.")
    keep(uri)
    return MqttSettings(
        uri, host, port, path, sparkplug,
        known.get("client_id") or _client_id(host, port, path),
        username, password, _tls(parts.scheme, known, uri),
        whole_number(known, "keepalive_s", KEEPALIVE_S, range(1, 3601), uri),
        whole_number(known, "timeout_ms", 2000, range(10, 60_001), uri) / 1000,
        _primary_host(known, sparkplug, uri),
    )  # fmt: skip


def keep(uri: str) -> int:
    """`keep=10000`: how many verdicts wait for the broker at most. Raises InspectError."""
    return whole_number(settings_of(uri, KNOWN), "keep", KEPT, KEEP_LIMITS, uri)


def _is_sparkplug(known: dict[str, str], uri: str) -> bool:
    match known.get("format", "json"):
        case "json":
            return False
        case "sparkplug":
            return True
        case other:
            raise InspectError(f"format={other} is not usable", uri, "Give json or sparkplug.")


def _path(path: str, sparkplug: bool, uri: str) -> tuple[str, ...]:
    parts = tuple(unquote(part) for part in path.strip("/").split("/"))
    if any(not part or any(sign in part for sign in "+#\0") for part in parts) or parts[0].startswith("$"):
        hint = "Write for example mqtt://192.168.0.20/plant/line3/station7; + and # are not for publishing."
        raise InspectError("the topic cannot be published to", uri, hint)
    if sparkplug and len(parts) != 3:
        hint = "Write mqtt://BROKER/GROUP/NODE/DEVICE?format=sparkplug"
        raise InspectError("Sparkplug wants group, node and device", uri, hint)
    return parts


def _password(known: dict[str, str], uri: str) -> str | None:
    if "password_file" in known and "password_env" in known:
        raise InspectError("password_file and password_env together", uri, "Give one of them.")
    if (name := known.get("password_env")) is not None:
        if name not in os.environ:
            hint = f"Set it in the environment of the station, or take {name} away from the address."
            raise InspectError(f"there is no variable {name!r}", uri, hint)
        return os.environ[name]
    if (file := known.get("password_file")) is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise InspectError(f"the password cannot be read: {error}", uri, "Check password_file.") from error


def _tls(scheme: str, known: dict[str, str], uri: str) -> ssl.SSLContext | None:
    """The broker's certificate is always checked, its name too: there is no switch to leave that out."""
    files = {name: known[name] for name in ("ca", "cert", "key") if name in known}
    if scheme != "mqtts":
        if files:
            raise InspectError(f"{min(files)}= is for TLS", uri, "Write mqtts:// for it.")
        return None
    if "key" in files and "cert" not in files:
        raise InspectError("key= without cert=", uri, "Give both files, in PEM format.")
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        context.sslsocket_class = ClosedOnFailure
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"), password=_no_passphrase)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        hint = (
            f"Check {', '.join(files.values()) or 'the certificates'}: PEM files, the key without passphrase."
        )
        raise InspectError(f"certificates cannot be used: {error}", uri, hint) from error
    return context


def _no_passphrase() -> str:
    """OpenSSL would ask at the terminal, where nobody sits."""
    return ""


def _client_id(host: str, port: int, path: tuple[str, ...]) -> str:
    """The same after every start, so that the broker ends what is left of a connection before this one."""
    return "edge-inspect-" + hashlib.sha256(repr((host, port, path)).encode()).hexdigest()[:8]


def _primary_host(known: dict[str, str], sparkplug: bool, uri: str) -> str:
    name = known.get("primary_host", "")
    if name and not sparkplug:
        raise InspectError("primary_host= is for format=sparkplug", uri, "Take it away, or add the format.")
    if any(sign in name for sign in "+#/"):
        raise InspectError(f"primary_host={name} is not usable", uri, "Give its name alone.")
    return name
