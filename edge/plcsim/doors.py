"""Where a station comes in that speaks lines: by TCP in either role, a serial port, a pseudo-terminal."""

import os
import select
import socket
from typing import Protocol
from urllib.parse import urlsplit

from edge.errors import InspectError, OutputLost
from edge.outputs.ascii_line import Stream
from edge.outputs.serial_line import PortSettings, SerialStream
from edge.outputs.tcp_line import LineSettings, TcpStream

CONNECT_S = 0.5


class Door(Protocol):
    """Where a station comes in."""

    station: str  # what the station has to be given as --plc

    def meet(self) -> Stream | None:
        """The station, when it is there; None or OSError when not."""

    def close(self) -> None:
        """Shut."""


class Listener:
    """The PLC is the TCP server; the station connects, one at a time. Raises OutputLost."""

    def __init__(self, settings: LineSettings) -> None:
        try:
            self._socket = socket.create_server((settings.host, settings.port))
        except OSError as error:
            hint = "Give an address of this machine and a free port: tcp://127.0.0.1:2115"
            raise OutputLost(f"cannot listen: {error}", settings.uri, hint) from error
        parts, port = urlsplit(settings.uri), self._socket.getsockname()[1]
        self.station = parts._replace(netloc=f"{parts.netloc.removesuffix(f':{parts.port}')}:{port}").geturl()

    def meet(self) -> Stream | None:
        """Whoever waits; None when nobody does."""
        if not select.select([self._socket], [], [], 0)[0]:
            return None
        return TcpStream(self._socket.accept()[0])

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Caller:
    """The PLC is the TCP client of a station that listens."""

    def __init__(self, settings: LineSettings) -> None:
        self.station = settings.uri
        self._address = ("127.0.0.1" if settings.host == "0.0.0.0" else settings.host, settings.port)

    def meet(self) -> Stream | None:
        """Connect. Raises OSError."""
        return TcpStream(socket.create_connection(self._address, CONNECT_S))

    def close(self) -> None:
        """Nothing is open."""


class SerialPort:
    """The PLC's end of a cable. Raises OutputLost when the port is not there."""

    def __init__(self, settings: PortSettings) -> None:
        self.station = "serial://PORT at the other end of the cable, with the same settings"
        self._settings = settings
        try:
            self._first: Stream | None = self._open()
        except (OSError, ValueError) as error:
            hint = "Give the PLC's end of the cable, or serial:pty for a port that is made for you."
            raise OutputLost(f"cannot open: {error}", settings.uri, hint) from error

    def meet(self) -> Stream | None:
        """The port; opened again after it was lost. Raises OSError."""
        stream, self._first = self._first, None
        return stream or self._open()

    def close(self) -> None:
        """A port that was never used."""
        if self._first is not None:
            self._first.close()

    def _open(self) -> Stream:
        return SerialStream(self._settings.port, self._settings.baud)


class Terminal:
    """A pseudo-terminal in place of a cable: this end is ours, its name is for the station."""

    def __init__(self, settings: PortSettings) -> None:
        if not hasattr(os, "openpty"):
            hint = "Give both ends of a real or virtual cable instead."
            raise InspectError("this system has no pseudo-terminals", settings.uri, hint)
        import tty

        self._ours, self._theirs = os.openpty()
        tty.setraw(self._ours)
        tty.setraw(self._theirs)
        _, _, query = settings.uri.partition("?")
        self.station = f"serial://{os.ttyname(self._theirs)}" + (f"?{query}" if query else "")

    def meet(self) -> Stream | None:
        """Always there, as a cable is."""
        return TerminalStream(self._ours)

    def close(self) -> None:
        """Both ends."""
        os.close(self._ours)
        os.close(self._theirs)


class TerminalStream:
    """Our end of a pseudo-terminal, which stays open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, wait_s: float = 0.0) -> bytes:
        """What the station has written."""
        ready = select.select([self._descriptor], [], [], wait_s)[0]
        return os.read(self._descriptor, 4096) if ready else b""

    def write(self, data: bytes) -> None:
        """Thrown away while the station does not read and the line is full."""
        if select.select([], [self._descriptor], [], 0)[1]:
            os.write(self._descriptor, data)

    def interrupt(self) -> None:
        """No read waits here."""

    def close(self) -> None:
        """The terminal lives on."""
