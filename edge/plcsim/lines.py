"""The PLC's end of the ASCII lines: a serial port, a pseudo-terminal, a TCP client or server."""

import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from edge.errors import InspectError, OutputLost
from edge.handshake import Mode
from edge.line_protocol import Language, Received, receive
from edge.outputs.ascii_line import Stream
from edge.outputs.serial_line import PortSettings, SerialStream, port_settings
from edge.outputs.tcp_line import LineSettings, TcpStream, client_settings, server_settings
from edge.plcsim import Complaint, Mistake, Peer, Scan, Taken
from edge.plcsim.phrases import Heard, phrases_of
from edge.registers import VerdictCode
from edge.timing_chart import Sample

PATIENCE_NS = 10_000_000_000  # a part waits so long for its result
AGAIN_NS = 20_000_000  # before a refused trigger is sent again
CONNECT_S = 0.5


class Door(Protocol):
    """Where a station comes in."""

    station: str  # what the station has to be given as --plc

    def meet(self) -> Stream | None:
        """The station, when it is there; None or OSError when not."""

    def close(self) -> None:
        """Shut."""


def line_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError; the opener raises OutputLost when it cannot open or listen."""
    if mode is Mode.BITS:
        raise InspectError("lines of characters have no bits", uri, "Give handshake=ids.")
    match urlsplit(uri).scheme:
        case "tcp":
            plc = client_settings(uri)
            return lambda: LinePlc(Listener(plc), mode, plc.language)
        case "tcp-server":
            station = server_settings(uri)
            return lambda: LinePlc(Caller(station), mode, station.language)
    port = port_settings(uri)
    if port.port == "pty":
        return lambda: LinePlc(Terminal(port), mode, port.language)
    return lambda: LinePlc(SerialPort(port), mode, port.language)


class LinePlc:
    """One part after the other: trigger, result, acknowledge. A Peer."""

    def __init__(self, door: Door, mode: Mode, language: Language) -> None:
        self._door, self._mode, self._language = door, mode, language
        self._stream: Stream | None = None
        self._arrived: deque[int] = deque()
        self._open: int | None = None  # triggered, no result yet
        self._open_ns = self._again_ns = 0
        self._received, self._phrases = Received(), phrases_of(language)
        self._shown = {"RESULT_ID": "0", "VERDICT": VerdictCode.NONE.name}
        self._results = 0

    @property
    def station(self) -> str:
        """What the station has to be given as --plc."""
        return self._door.station

    def part_arrives(self, part_id: int) -> None:
        """It is triggered when the one before it has its result."""
        self._arrived.append(part_id)

    def scan(self, now_ns: int) -> Scan:
        """Read what has come, answer, ask."""
        try:
            self._stream = self._stream or self._door.meet()
            if self._stream is not None:
                return self._converse(self._stream, now_ns)
            return Scan(False, {})
        except OSError:
            return Scan(False, {}, rejected=self._hang_up())

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        self._door.close()

    def _converse(self, stream: Stream, now_ns: int) -> Scan:
        data = stream.read(wait_s=0)
        self._received, lines = receive(self._received, data, now_ns, self._phrases.ends)
        taken, complaints = [], list[Complaint]()
        for line in lines:
            heard = self._phrases.hear(line, now_ns)
            complaints += heard.complaints
            if heard.refused and self._open is not None:
                self._arrived.appendleft(self._open)
                self._open, self._again_ns = None, now_ns + AGAIN_NS
            if heard.verdict is not None:
                part = self._pair(heard, line, complaints)
                taken.append(Taken(part, heard.verdict, line))
                self._shown = {"RESULT_ID": str(part), "VERDICT": heard.verdict.name}
                self._say(stream, self._phrases.acknowledge(part, now_ns))
        said, more = self._phrases.idle(now_ns)
        self._say(stream, said)
        overdue = self._open is not None and now_ns - self._open_ns > PATIENCE_NS
        rejected = self._give_up() if overdue else () if self._phrases.alive else self._abandon()
        triggered = self._trigger(stream, now_ns)
        found = (*complaints, *more)
        return Scan(self._phrases.alive, self._sample(), triggered, tuple(taken), rejected, found)

    def _pair(self, heard: Heard, line: str, complaints: list[Complaint]) -> int:
        """The part that a result is for."""
        self._results += 1
        part, waits = heard.part_id, self._open
        if self._mode is Mode.FREE_RUN:
            return self._results if part is None else part
        if waits is not None and part in (None, self._phrases.wire_id(waits)):
            self._open = None
            return waits
        who = "no part" if waits is None else f"part {waits}"
        complaints.append(Complaint(Mistake.OTHER_PART, f"{line!r}, {who} waits for a result"))
        return -1 if part is None else part

    def _trigger(self, stream: Stream, now_ns: int) -> tuple[int, ...]:
        idle = self._open is None and now_ns >= self._again_ns and self._phrases.ready is not False
        if not idle or not self._arrived:
            return ()
        self._open, self._open_ns = self._arrived.popleft(), now_ns
        self._say(stream, self._phrases.trigger(self._open, now_ns))
        return (self._open,)

    def _give_up(self) -> tuple[int, ...]:
        lost, self._open = self._open, None
        return () if lost is None else (lost,)

    def _say(self, stream: Stream, text: bytes) -> None:
        if text:
            stream.write(text)

    def _sample(self) -> Sample:
        known = {"READY": self._phrases.ready, "BUSY": self._phrases.busy}
        seen: Sample = {name: bit for name, bit in known.items() if bit is not None}
        waits = {} if self._mode is Mode.FREE_RUN else {"TRIGGER_ID": str(self._open or 0)}
        return seen | waits | self._shown

    def _hang_up(self) -> tuple[int, ...]:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        self._received, self._phrases = Received(), phrases_of(self._language)
        return self._abandon()

    def _abandon(self) -> tuple[int, ...]:
        """The station is gone: whatever has no result has gone by."""
        rejected = (*self._give_up(), *self._arrived)
        self._arrived.clear()
        return rejected


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
