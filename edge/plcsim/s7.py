"""The PLC's end of S7: a server with one data block, in which register r stands at byte 2 r."""

import logging
import struct
import time
from collections.abc import Callable

from snap7.error import S7Error
from snap7.server import Server
from snap7.type import SrvArea

from edge.errors import OutputLost
from edge.outputs.plc_address import S7Address, s7_address
from edge.plc.handshake import Mode
from edge.plc.registers import PLC_COUNT, PLC_START, STATION_COUNT, STATION_START
from edge.plcsim import Peer
from edge.plcsim.blocks import BlockPlc

SILENT_S = 3.0  # a station whose heartbeat stands still for so long is not there

logging.getLogger("snap7").addHandler(logging.NullHandler())


def s7_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError; the opener raises OutputLost when it cannot listen."""
    address = s7_address(uri)
    return lambda: BlockPlc(DataBlock(address), mode)


class DataBlock:
    """The memory that the station reads and writes; looked at once a cycle, as a PLC does. A Wire."""

    def __init__(self, address: S7Address) -> None:
        self.station = address.uri
        self._start = address.start
        self._memory = bytearray(address.start + 2 * (STATION_START + STATION_COUNT))
        self._seen, self._changed_s = [0] * STATION_COUNT, -SILENT_S
        self._server = Server(log=False)
        self._server.register_area(SrvArea.DB, address.db, self._memory)
        try:
            self._server.start_to(address.host, address.port)
        except (S7Error, OSError, ValueError) as error:  # the last: a name in place of an address
            hint = "Give an address of this machine and a free port above 1024: s7://127.0.0.1:1102"
            raise OutputLost(f"cannot listen: {error}", address.uri, hint) from error

    def read(self) -> list[list[int]]:
        """What stands there now."""
        block = self._get(STATION_START, STATION_COUNT)
        if block != self._seen:
            self._seen, self._changed_s = block, time.monotonic()
        if time.monotonic() - self._changed_s > SILENT_S:
            raise ConnectionError("no station writes")
        return [block]

    def show(self, plc: list[int]) -> None:
        """At once, for the station's next look."""
        first = self._start + 2 * PLC_START
        self._memory[first : first + 2 * PLC_COUNT] = struct.pack(f">{PLC_COUNT}H", *plc)

    def close(self) -> None:
        """End every connection."""
        self._server.stop()

    def _get(self, register: int, count: int) -> list[int]:
        first = self._start + 2 * register
        return list(struct.unpack(f">{count}H", self._memory[first : first + 2 * count]))
