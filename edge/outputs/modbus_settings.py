"""Where a Modbus peer is. Pure; knows no library."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from edge.errors import InspectError
from edge.outputs import settings_of, whole_number
from edge.registers import STATION_COUNT, STATION_START, WordOrder


@dataclass(frozen=True, slots=True)
class Settings:
    """One Modbus peer: theirs (client) or our own address (server)."""

    uri: str
    host: str
    port: int
    word_order: WordOrder
    unit: int = 1
    offset: int = 0  # added to every address, where the PLC keeps the block elsewhere
    timeout_s: float = 1.0


def client_settings(uri: str) -> Settings:
    """`modbus-tcp://host[:502][?unit=1&offset=0&word_order=big&timeout_ms=1000]`. Raises InspectError."""
    known = settings_of(uri, ("unit", "offset", "word_order", "timeout_ms", "handshake"))
    host, port = _address(uri)
    unit = whole_number(known, "unit", 1, range(256), uri)
    offset = whole_number(known, "offset", 0, range(65_536 - STATION_START - STATION_COUNT + 1), uri)
    timeout_ms = whole_number(known, "timeout_ms", 1000, range(10, 60_001), uri)
    return Settings(uri, host, port, _word_order(known, uri), unit, offset, timeout_ms / 1000)


def server_settings(uri: str) -> Settings:
    """`modbus-tcp-server://0.0.0.0[:502][?word_order=big]`. Raises InspectError."""
    host, port = _address(uri)
    return Settings(uri, host, port, _word_order(settings_of(uri, ("word_order", "handshake")), uri))


def _address(uri: str) -> tuple[str, int]:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, 502 if parts.port is None else parts.port
    except ValueError as error:
        raise InspectError(str(error), uri, "Write host:port, the port from 0 to 65535.") from error
    if not host:
        raise InspectError("no address given", uri, "Write for example modbus-tcp://192.168.0.10:502")
    return host, port


def _word_order(settings: dict[str, str], uri: str) -> WordOrder:
    match settings.get("word_order", "big"):
        case "big":
            return "big"
        case "little":
            return "little"
        case other:
            raise InspectError(f"word_order={other} is not usable", uri, "Give big or little.")
