"""The PLC's end of Modbus, TCP or RTU: a server that the station writes into, or a client that reads it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from edge.errors import InspectError, OutputLost
from edge.outputs.modbus_settings import Settings, client_settings, rtu_settings, server_settings
from edge.outputs.modbus_wire import PORT_HINT, Master, RegisterServer
from edge.plc.handshake import Mode
from edge.plc.registers import PLC_COUNT, PLC_START, STATION_COUNT, STATION_START
from edge.plcsim import Peer
from edge.plcsim.blocks import BlockPlc

SILENT_S = 3.0  # a station that neither reads nor writes for so long is not there
KEPT = 1000  # blocks between two cycles
OTHER_END = "{}://PORT at the other end of the cable, with the same settings"


def modbus_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError for settings that a simulated PLC does not have."""
    match uri.partition(":")[0]:
        case "modbus-tcp-server":
            station = server_settings(uri)
        case "modbus-rtu-server":
            station = rtu_settings(uri, is_server=True)
        case "modbus-rtu":
            return _server(rtu_settings(uri, is_server=False), mode)
        case _:
            return _server(client_settings(uri), mode)
    return lambda: BlockPlc(ClientWire(station), mode, station.word_order)


def _server(own: Settings, mode: Mode) -> Callable[[], Peer]:
    if own.offset:
        raise InspectError("the simulated PLC keeps the blocks at 0 and 100", own.uri, "Leave offset= away.")
    return lambda: BlockPlc(ServerWire(own), mode, own.word_order)


class ServerWire:
    """The PLC is the server. Raises OutputLost when it cannot listen."""

    def __init__(self, settings: Settings) -> None:
        self._plc = [0] * PLC_COUNT
        self._blocks: deque[list[int]] = deque(maxlen=KEPT)
        self._last: list[int] | None = None  # nothing was written yet
        self._heard = 0.0
        self._lock = threading.Lock()
        writable = range(STATION_START, STATION_START + STATION_COUNT)
        self._server = serve(settings, writable, self._read, self._written)
        self.station = where_to(settings, self._server)

    def read(self) -> list[list[int]]:
        """Every write of the station is one block."""
        with self._lock:
            if self._last is None or time.monotonic() - self._heard > SILENT_S:
                self._blocks.clear()
                self._last = None
                raise ConnectionError("no station writes")
            blocks = list(self._blocks) or [self._last]
            self._blocks.clear()
            return blocks

    def show(self, plc: list[int]) -> None:
        """The station reads it when it wants to."""
        with self._lock:
            self._plc = plc

    def close(self) -> None:
        """End every connection."""
        self._server.close()

    def _read(self) -> list[int]:
        with self._lock:
            self._heard = time.monotonic()
            return self._plc

    def _written(self, registers: list[int]) -> None:
        with self._lock:
            self._heard = time.monotonic()
            self._last = registers[STATION_START : STATION_START + STATION_COUNT]
            self._blocks.append(self._last)


class ClientWire:
    """The PLC is the client, or the master of a serial line; it connects when it is asked for something."""

    def __init__(self, settings: Settings) -> None:
        self.station = (
            settings.uri if settings.serial is None else OTHER_END.format(urlsplit(settings.uri).scheme)
        )
        host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        self._settings = replace(settings, host=host)
        self._master: Master | None = None

    def read(self) -> list[list[int]]:
        """One read is one snapshot."""
        try:
            self._master = self._master or Master(self._settings, "the station")
            return [self._master.read_registers(STATION_START, STATION_COUNT, "")]
        except OutputLost as error:
            raise self._lost(error) from error

    def show(self, plc: list[int]) -> None:
        """Write the whole block in one request."""
        try:
            if self._master is not None:
                self._master.write_registers(PLC_START, plc, "")
        except OutputLost as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Hang up."""
        if self._master is not None:
            self._master.close()

    def _lost(self, error: OutputLost) -> ConnectionError:
        self.close()
        self._master = None
        return ConnectionError(error.what)


def serve(
    own: Settings, writable: range, on_read: Callable[[], list[int]], on_write: Callable[[list[int]], None]
) -> RegisterServer:
    """Listen as the station's URI says, on the network or on a serial line. Raises OutputLost."""
    try:
        return RegisterServer(
            own.host, own.port, writable, on_read, on_write, settings=own, shown_at=PLC_START
        )
    except Exception as error:  # beside OSError what the terminal's driver says of a parity
        hint = f"Give an address of this machine and a free port above 1024: {urlsplit(own.uri).scheme}://127.0.0.1:5020"
        hint = hint if own.serial is None else f"Give the PLC's end of the cable. {PORT_HINT}"
        raise OutputLost(f"cannot listen: {error}", own.uri, hint) from error


def where_to(own: Settings, server: RegisterServer) -> str:
    """What the station has to be given as --plc."""
    if own.serial is not None:
        return OTHER_END.format(urlsplit(own.uri).scheme)
    parts = urlsplit(own.uri)
    return parts._replace(netloc=f"{parts.netloc.removesuffix(f':{parts.port}')}:{server.port}").geturl()
