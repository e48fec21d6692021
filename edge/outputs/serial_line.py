"""A serial port that speaks the line protocol, or a dialect. The only file that knows pyserial.

Without flow control nobody can tell whether a PLC is listening; what is noticed is a port that has gone.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

import serial

from edge.errors import InspectError, OutputLost
from edge.outputs import settings_of, whole_number
from edge.outputs.ascii_line import READ_S, WRITE_S, AsciiLine
from edge.outputs.languages import KNOWN, language_of
from edge.plc.line_protocol import Language
from edge.plc.link import PlcLink

BAUD_RATES = range(300, 4_000_001)


@dataclass(frozen=True, slots=True)
class PortSettings:
    """From `serial:///dev/ttyUSB0?baud=115200` or `serial://COM3`; 8 data bits, no parity, 1 stop bit."""

    uri: str
    port: str
    baud: int
    language: Language


def port_settings(uri: str) -> PortSettings:
    """Raises InspectError when the port is missing or a setting is unknown."""
    parts = urlsplit(uri)
    port = parts.netloc + parts.path
    if not port:
        raise InspectError("no serial port given", uri, "Write for example serial:///dev/ttyUSB0?baud=115200")
    settings = settings_of(uri, ("baud", "handshake", *KNOWN))
    baud = whole_number(settings, "baud", 115_200, BAUD_RATES, uri)
    return PortSettings(uri, port, baud, language_of(settings, uri))


class SerialStream:
    """One open port, for us alone. Raises OSError or ValueError."""

    def __init__(self, port: str, baud: int) -> None:
        self._port = serial.Serial(port, baud, timeout=READ_S, write_timeout=WRITE_S, exclusive=True)

    def read(self, wait_s: float = READ_S) -> bytes:
        """Waits for the first character (READ_S, or 0 not at all), then takes all that are there."""
        first = self._port.read(1) if wait_s else b""
        return bytes(first + self._port.read(self._port.in_waiting))

    def write(self, data: bytes) -> None:
        """All of it."""
        self._port.write(data)

    def interrupt(self) -> None:
        """Where the port is still there."""
        if self._port.is_open:
            self._port.cancel_read()

    def close(self) -> None:
        """Free the port."""
        self._port.close()


def open_serial(settings: PortSettings, link: PlcLink) -> AsciiLine:
    """Open the port and answer on it. Raises OutputLost."""

    def lost(error: Exception | str) -> OutputLost:
        hint = (
            "Check cable and name (`ls /dev/serial/by-id`), your rights (group dialout) "
            "and that no other program holds the port."
        )
        return OutputLost(f"serial port lost: {error}", settings.uri, hint)

    try:
        stream = SerialStream(settings.port, settings.baud)
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise lost(error) from error
    return AsciiLine(settings.uri, stream, link, settings.language, lost)
