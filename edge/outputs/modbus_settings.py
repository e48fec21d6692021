"""What a Modbus URI says: where the peer is, how its registers lie, who may call. Pure; knows no library."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from edge.errors import InspectError
from edge.outputs import settings_of, whole_number
from edge.outputs.addresses import host_and_port
from edge.outputs.callers import Network, may_call, networks_of
from edge.plc.registers import STATION_COUNT, STATION_START, WordOrder

ByteOrder = Literal["big", "little"]

PARITIES = {"none": "N", "even": "E", "odd": "O"}
SERIAL = ("baud", "parity", "stop")
OFFSETS = range(65_536 - STATION_START - STATION_COUNT + 1)


@dataclass(frozen=True, slots=True)
class SerialFormat:
    """Of a Modbus RTU line: 8 data bits; 19200, even parity, one stop bit is what Modbus prescribes."""

    baud: int = 19_200
    parity: str = "E"  # N, E, O
    stop_bits: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """One Modbus peer: theirs (client) or our own address (server). RTU where `serial` is given, else TCP."""

    uri: str
    host: str  # with `serial` the name of the port
    port: int = 0
    word_order: WordOrder = "big"
    unit: int = 1
    offset: int = 0  # added to every address, where the PLC keeps the block elsewhere
    timeout_s: float = 1.0
    byte_order: ByteOrder = "big"  # "little": the peer has the two bytes of a register the wrong way round
    allow: tuple[Network, ...] = ()  # who may call the server; empty: everybody
    serial: SerialFormat | None = None

    def lets_in(self, peer: str) -> bool:
        """Whether this address may call."""
        return may_call(peer, self.allow)


def client_settings(uri: str) -> Settings:
    """`modbus-tcp://host[:502][?unit=1&offset=0&word_order=big&byte_order=big&timeout_ms=1000]`.

    Raises InspectError.
    """
    known = settings_of(uri, ("unit", "offset", "word_order", "byte_order", "timeout_ms", "handshake"))
    host, port = _address(uri)
    unit, offset = (
        whole_number(known, "unit", 1, range(256), uri),
        whole_number(known, "offset", 0, OFFSETS, uri),
    )
    return Settings(
        uri, host, port, _order(known, "word_order", uri), unit, offset, timeout_s(known, uri),
        _order(known, "byte_order", uri),
    )  # fmt: skip


def server_settings(uri: str) -> Settings:
    """`modbus-tcp-server://0.0.0.0[:502][?word_order=big&byte_order=big&allow=192.168.0.10]`.

    Raises InspectError.
    """
    known = settings_of(uri, ("word_order", "byte_order", "allow", "handshake"))
    host, port = _address(uri)
    return Settings(
        uri, host, port, _order(known, "word_order", uri), byte_order=_order(known, "byte_order", uri),
        allow=networks_of(known, uri),
    )  # fmt: skip


def rtu_settings(uri: str, is_server: bool) -> Settings:
    """`modbus-rtu:///dev/ttyUSB0[?baud=19200&parity=even&stop=1&unit=1]`, and as the TCP ones but `allow`.

    `modbus-rtu-server:` takes neither offset nor time-out. Raises InspectError.
    """
    of_client = () if is_server else ("offset", "timeout_ms")
    known = settings_of(uri, (*SERIAL, "unit", "word_order", "byte_order", "handshake", *of_client))
    return Settings(
        uri, serial_port(uri), 0, _order(known, "word_order", uri),
        whole_number(known, "unit", 1, range(1, 248), uri), whole_number(known, "offset", 0, OFFSETS, uri),
        timeout_s(known, uri), _order(known, "byte_order", uri), serial=serial_format(known, uri),
    )  # fmt: skip


def io_settings(uri: str, known: dict[str, str]) -> Settings:
    """Where a coil module is: `modbus-tcp-io://host[:502]`, `modbus-rtu-io:///dev/ttyUSB0`; InspectError."""
    unit, within = whole_number(known, "unit", 1, range(256), uri), timeout_s(known, uri)
    if uri.startswith("modbus-rtu-io:"):
        return Settings(
            uri, serial_port(uri), unit=unit, timeout_s=within, serial=serial_format(known, uri)
        )  # fmt: skip
    return Settings(uri, *_address(uri), unit=unit, timeout_s=within)


def timeout_s(known: dict[str, str], uri: str) -> float:
    """`timeout_ms=`; InspectError."""
    return whole_number(known, "timeout_ms", 1000, range(10, 60_001), uri) / 1000


def serial_format(known: dict[str, str], uri: str) -> SerialFormat:
    """`baud=`, `parity=`, `stop=`; InspectError."""
    parity = known.get("parity", "even")
    if parity not in PARITIES:
        raise InspectError(f"parity={parity} is not usable", uri, f"Give one of: {', '.join(PARITIES)}.")
    baud = whole_number(known, "baud", 19_200, range(300, 4_000_001), uri)
    return SerialFormat(baud, PARITIES[parity], whole_number(known, "stop", 1, range(1, 3), uri))


def serial_port(uri: str) -> str:
    """`/dev/ttyUSB0` or `COM3`; InspectError."""
    parts = urlsplit(uri)
    if port := parts.netloc + parts.path:
        return port
    raise InspectError("no serial port given", uri, f"Write for example {parts.scheme}:///dev/ttyUSB0")


def _address(uri: str) -> tuple[str, int]:
    return host_and_port(uri, 502, f"{urlsplit(uri).scheme}://192.168.0.10:502")


def _order(known: dict[str, str], name: str, uri: str) -> Literal["big", "little"]:
    match known.get(name, "big"):
        case "big":
            return "big"
        case "little":
            return "little"
        case other:
            raise InspectError(f"{name}={other} is not usable", uri, "Give big or little.")
