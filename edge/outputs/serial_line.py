"""A serial port that speaks the line protocol. The only file that knows pyserial.

Two threads use the port: the outbox's writes results, our reader answers the PLC's commands at once. Without
flow control nobody can tell whether a PLC is listening; what is noticed is a port that has gone.
"""

import threading
import time
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import serial

from edge.errors import InspectError, OutputLost
from edge.line_protocol import Received, answer, receive, result_line
from edge.outputs import settings_of, whole_number
from edge.plc_link import PlcLink
from edge.verdict import Verdict

BAUD_RATES = range(300, 4_000_001)
READ_S = 0.2  # how long one read waits; close() interrupts it
WRITE_S = 1.0


@dataclass(frozen=True, slots=True)
class PortSettings:
    """From `serial:///dev/ttyUSB0?baud=115200` or `serial://COM3`; 8 data bits, no parity, 1 stop bit."""

    uri: str
    port: str
    baud: int


def port_settings(uri: str) -> PortSettings:
    """Raises InspectError when the port is missing or a setting is unknown."""
    parts = urlsplit(uri)
    port = parts.netloc + parts.path
    if not port:
        raise InspectError("no serial port given", uri, "Write for example serial:///dev/ttyUSB0?baud=115200")
    baud = whole_number(settings_of(uri, ("baud", "handshake")), "baud", 115_200, BAUD_RATES, uri)
    return PortSettings(uri, port, baud)


class SerialLine:
    """One open port."""

    def __init__(self, settings: PortSettings, link: PlcLink) -> None:
        self.uri = settings.uri
        self._link = link
        self._link.withdraw()
        self._writing = threading.RLock()
        self._closing = threading.Event()
        self._broken: Exception | None = None
        try:
            self._port = serial.Serial(
                settings.port, settings.baud, timeout=READ_S, write_timeout=WRITE_S, exclusive=True
            )
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise self._lost(error) from error
        self._reader = threading.Thread(target=self._read, name="serial-reader", daemon=True)
        self._reader.start()

    def send(self, verdict: Verdict) -> None:
        """Write one RES line, with a handshake when its turn comes. Raises OutputLost."""
        self._check()
        self._link.publish(verdict)
        self._write_results()

    def beat(self, counter: int, healthy: bool) -> None:
        """The PLC asks for life with HB and ST; here its answer is prepared. Raises OutputLost."""
        self._check()
        self._link.beat(counter, healthy)
        self._write_results()  # of triggers that had no verdict in time

    def close(self) -> None:
        """Stop answering and free the port."""
        self._link.withdraw()
        self._closing.set()
        if self._port.is_open:
            self._port.cancel_read()
            self._reader.join(timeout=2 * READ_S + WRITE_S)
            self._port.close()

    def _read(self) -> None:
        received = Received()
        while not self._closing.is_set():
            try:
                data = self._port.read(1) + self._port.read(self._port.in_waiting)
                received, lines = receive(received, data, time.monotonic_ns())
                for line in lines:
                    self._write(self._link.act(partial(answer, line)))
                    self._write_results()
            except Exception as error:  # whatever ends this thread ends the link: the next send() says so
                self._broken = error
                return

    def _write_results(self) -> None:
        with self._writing:  # two threads come here: what is shown first is written first
            for verdict in self._link.take_shown():
                self._write(result_line(verdict, self._link.recipe_number))

    def _write(self, data: bytes) -> None:
        try:
            with self._writing:
                self._port.write(data)
        except OSError as error:
            self._broken = error
            raise self._lost(error) from error

    def _check(self) -> None:
        if self._broken is not None or self._closing.is_set():
            raise self._lost(self._broken or "the port is closed") from self._broken

    def _lost(self, error: Exception | str) -> OutputLost:
        hint = (
            "Check cable and name (`ls /dev/serial/by-id`), your rights (group dialout) "
            "and that no other program holds the port."
        )
        return OutputLost(f"serial port lost: {error}", self.uri, hint)
