"""Siemens S7 as client: the register map as a data block. The only file that knows python-snap7.

Register r of the map stands at byte 2 r of the data block, high byte first as everything in an S7: u32 is
UDINT and f32 is REAL there. The library's own reconnect stays off: a new connection clears the block first.
"""

import logging
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from snap7.client import Client
from snap7.connection import ISOTCPConnection
from snap7.error import S7Error, S7ProtocolError

from edge.errors import OutputLost
from edge.outputs.block_client import BlockClient, Step
from edge.outputs.exactly import exactly
from edge.outputs.plc_address import S7Address
from edge.plc.link import PlcLink

STATE_LIST, STATE_BYTE = 0x0424, 7  # system status list "current mode", and where it says it
STOPPED = {1, 2, 3, 4, 10, 13}  # STOP for four reasons, HOLD, DEFECT
GONE = (S7Error, OSError, ValueError, IndexError, struct.error)  # the last three: what answers is no S7
Answer = TypeVar("Answer")

# What the library logs is said by OutputLost, once; without a handler Python would print it on the console.
logging.getLogger("snap7").addHandler(logging.NullHandler())


class S7Client(BlockClient):
    """The station writes into one data block of the PLC and reads the PLC's half of it."""

    def __init__(self, address: S7Address, link: PlcLink) -> None:
        self._address = address
        self._client = _connect(address)
        self._tells_state = True
        super().__init__(address.uri, link)

    def _write_registers(self, steps: Sequence[Step]) -> None:
        for register, values in steps:
            data = bytearray(struct.pack(f">{len(values)}H", *values))
            self._ask(partial(self._client.db_write, self._address.db, self._byte(register), data))

    def _read_registers(self, address: int, count: int) -> list[int]:
        data = self._ask(partial(self._client.db_read, self._address.db, self._byte(address), 2 * count))
        return list(struct.unpack(f">{count}H", data))

    def _byte(self, register: int) -> int:
        return self._address.start + 2 * register

    def _check_running(self) -> None:
        """A PLC in STOP takes what is written and does nothing with it."""
        if self._tells_state and self._state() in STOPPED:
            hint = "No part is sorted now: switch the PLC to RUN."
            raise OutputLost("the PLC is in STOP", self._address.uri, hint)

    def _state(self) -> int:
        """The library's get_cpu_state() says RUN whatever the PLC says."""
        try:
            with self._using:
                return int(self._client.read_szl(STATE_LIST).Data[STATE_BYTE])
        except (S7ProtocolError, RuntimeError):  # a PLC that does not tell; its PLC_HEARTBEAT does
            self._tells_state = False
            return 0
        except GONE as error:
            raise self._gone(error) from error

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        try:
            return request()
        except S7ProtocolError as error:
            first, last = self._byte(0), self._byte(149) + 1
            hint = (
                f"It needs bytes {first}..{last} (deploy/plc/edge_inspect.db), 'optimized block access' off, "
                "and PUT/GET permitted in the CPU's protection settings."
            )
            raise self._fail(f"the PLC refuses DB{self._address.db}: {error}", hint) from error
        except GONE as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> OutputLost:
        return self._fail(f"the PLC stopped answering: {error}", "Check cable and PLC; is it switched on?")

    def _disconnect(self) -> None:
        self._client.disconnect()


class _Connection(ISOTCPConnection):
    """The library waits anew for each byte of an answer."""

    def _recv_exact(self, size: int) -> bytes:
        try:
            if self.socket is None:
                raise ConnectionError("it is closed")
            return exactly(self.socket, size, self.timeout)
        except OSError:
            self.connected = False
            raise


class _Client(Client):
    """The library's connect() waits five seconds for each answer, whatever one wants."""

    def connect_within(self, address: S7Address) -> None:
        tsap = (self.connection_type << 8) | (address.rack << 5) | address.slot
        self.connection = _Connection(address.host, address.port, self.local_tsap, tsap)
        self.connection.connect(timeout=address.timeout_s)
        self._setup_communication()
        self.connected = True


def _connect(address: S7Address) -> Client:
    client = _Client()
    try:
        client.connect_within(address)
    except GONE as error:
        client.disconnect()
        hint = (
            f"Try `ping {address.host}`; then check rack={address.rack}, slot={address.slot} "
            "(S7-1200/1500: slot 1, S7-300: slot 2), firewall and PUT/GET."
        )
        raise OutputLost(f"the PLC does not answer: {error}", address.uri, hint) from error
    return client
