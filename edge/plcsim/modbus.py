"""The PLC's end of Modbus TCP: a server that the station writes into, or a client that reads the station."""

import threading
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from edge.errors import InspectError, OutputLost
from edge.handshake import Mode
from edge.outputs.modbus_settings import Settings, client_settings, server_settings
from edge.outputs.modbus_wire import RegisterServer
from edge.plcsim import Peer
from edge.plcsim.blocks import BlockPlc
from edge.registers import PLC_COUNT, PLC_START, STATION_COUNT, STATION_START

SILENT_S = 3.0  # a station that neither reads nor writes for so long is not there
KEPT = 1000  # blocks between two cycles


def modbus_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError for settings that a simulated PLC does not have."""
    if "byte_order=little" in uri:
        hint = "Leave byte_order= away."
        raise InspectError("the simulated PLC has its bytes as Modbus prescribes", uri, hint)
    if uri.startswith("modbus-tcp-server:"):
        station = server_settings(uri)
        return lambda: BlockPlc(ClientWire(station), mode, station.word_order)
    own = client_settings(uri)
    if own.offset:
        raise InspectError("the simulated PLC keeps the blocks at 0 and 100", uri, "Leave offset= away.")
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
        try:
            self._server = RegisterServer(
                settings.host, settings.port, writable, self._read, self._written, shown_at=PLC_START
            )
        except OSError as error:
            hint = "Give an address of this machine and a free port above 1024: modbus-tcp://127.0.0.1:5020"
            raise OutputLost(f"cannot listen: {error}", settings.uri, hint) from error
        self.station = _with_port(settings.uri, self._server.port)

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
    """The PLC is the client; it connects when it is asked for something."""

    def __init__(self, settings: Settings) -> None:
        self.station = settings.uri
        host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        self._client = ModbusTcpClient(host, port=settings.port, timeout=settings.timeout_s, retries=0)

    def read(self) -> list[list[int]]:
        """One read is one snapshot."""
        try:
            if not self._client.connected and not self._client.connect():  # type: ignore[no-untyped-call]
                raise ConnectionError("no station answers")
            reply = self._client.read_holding_registers(STATION_START, count=STATION_COUNT)
            if reply.isError() or len(reply.registers) != STATION_COUNT:
                raise ConnectionError(f"the station refuses: {reply}")
        except ModbusException as error:
            self._client.close()  # type: ignore[no-untyped-call]
            raise ConnectionError(str(error)) from error
        return [list(reply.registers)]

    def show(self, plc: list[int]) -> None:
        """Write the whole block in one request."""
        try:
            if self._client.connected and self._client.write_registers(PLC_START, plc).isError():
                raise ConnectionError("the station refuses writes to 0..27")
        except ModbusException as error:
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Hang up."""
        self._client.close()  # type: ignore[no-untyped-call]


def _with_port(uri: str, port: int) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=f"{parts.netloc.removesuffix(f':{parts.port}')}:{port}").geturl()
