"""Where a Modbus peer is, and in which order its registers are written. Pure; knows no library."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge.errors import InspectError
from edge.outputs import settings_of, whole_number
from edge.registers import RESULT_BITS, STATION_COUNT, STATION_START, WordOrder

RESULT_PART = slice(1, 5)  # VERDICT, RESULT_ID, SEQUENCE: tells one result from another


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


def write_plan(before: Sequence[int] | None, after: Sequence[int]) -> list[tuple[int, list[int]]]:
    """What a client writes to turn block `before` (None: unknown) into `after`: (address, values), in order.

    The status comes last, so that a PLC which sees RESULT_VALID sees the data that belong to it. When the
    result changes, the old RESULT_VALID, PASS and FAIL go first: the new id never stands beside the old pass.
    """
    steps = [(STATION_START + 1, list(after[1:])), (STATION_START, [after[0]])]
    if before is None or before[RESULT_PART] != after[RESULT_PART]:
        steps.insert(0, (STATION_START, [after[0] & ~RESULT_BITS]))
    return steps
