"""Modbus TCP in both roles over one register image. The only file that knows pymodbus.

modbus-tcp://PLC            the station is the client and writes its block into the PLC's holding registers
modbus-tcp-server://0.0.0.0 the station is the server, the PLC reads the block and writes its own

Only pymodbus classes without a deprecation note are used (SimDevice with an action; the synchronous client).
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import cast

from pymodbus.client import ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.errors import OutputLost
from edge.outputs.block_client import BlockClient, Step
from edge.outputs.modbus_settings import Settings
from edge.plc_link import PlcLink
from edge.registers import PLC_COUNT, PLC_START, STATION_START
from edge.verdict import Verdict

SERVED = 200  # registers 0..199 can be read, so that an address that is off by one shows its neighbour
COILS = (5, 15)  # function codes that write bits

# What pymodbus logs is said by OutputLost, once; without a handler Python would print it on the console.
logging.getLogger("pymodbus").addHandler(logging.NullHandler())


class ModbusClient(BlockClient):
    """The station writes into the PLC's holding registers, with FC16."""

    def __init__(self, settings: Settings, link: PlcLink) -> None:
        self._settings = settings
        self._client = ModbusTcpClient(
            settings.host, port=settings.port, timeout=settings.timeout_s, retries=0
        )
        if not self._client.connect():  # type: ignore[no-untyped-call]
            hint = f"Try `ping {settings.host}`; then check port, firewall and the PLC's Modbus server."
            raise OutputLost("the PLC does not answer", settings.uri, hint)
        super().__init__(settings.uri, link, settings.word_order)

    def _write_registers(self, steps: Sequence[Step]) -> None:
        for register, values in steps:
            address, unit = register + self._settings.offset, self._settings.unit
            reply = self._ask(partial(self._client.write_registers, address, values, device_id=unit))
            if reply.isError():
                last = address + len(values) - 1
                hint = (
                    "Make holding registers 100..149 (+ offset) writable in the PLC; or set unit and offset."
                )
                raise self._fail(f"the PLC refuses writes to {address}..{last}: {reply}", hint)

    def _read_registers(self, address: int, count: int) -> list[int]:
        address, unit = address + self._settings.offset, self._settings.unit
        reply = self._ask(partial(self._client.read_holding_registers, address, count=count, device_id=unit))
        if reply.isError() or len(reply.registers) != count:
            hint = "A handshake needs holding registers 0..27 (+ offset) in the PLC; or set unit and offset."
            raise self._fail(f"the PLC refuses to show {address}..: {reply}", hint)
        return list(reply.registers)

    def _ask(self, request: Callable[[], ModbusPDU]) -> ModbusPDU:
        try:
            return request()
        except (ModbusException, OSError) as error:
            hint = f"Check that the PLC runs and that unit={self._settings.unit} is right."
            raise self._fail(f"the PLC stopped answering: {error}", hint) from error

    def _disconnect(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]


class ModbusServer:
    """The PLC reads from the station. Every read is one snapshot, by FC03 or FC04, whatever the unit id."""

    def __init__(self, settings: Settings, link: PlcLink) -> None:
        self._settings, self._link = settings, link
        link.withdraw()
        try:
            self._server = RegisterServer(
                settings.host, settings.port, range(PLC_START, PLC_COUNT), self._read, self._written
            )
        except OSError as error:
            hint = "Choose a free port (`ss -ltn`); one below 1024 needs rights (cap_net_bind_service)."
            raise OutputLost(f"cannot listen: {error}", settings.uri, hint) from error
        self.uri = settings.uri
        self.port = self._server.port

    def send(self, verdict: Verdict) -> None:
        """Show it to whoever reads. Raises OutputLost when the server has ended."""
        self._check()
        self._link.publish(verdict)

    def beat(self, counter: int, healthy: bool) -> None:
        """Count HEARTBEAT, or take the verdict back. Raises OutputLost when the server has ended."""
        self._check()
        self._link.beat(counter, healthy)

    def close(self) -> None:
        """Take the verdict back and end every connection."""
        self._link.withdraw()
        self._server.close()

    def _check(self) -> None:
        if not self._server.alive:
            raise OutputLost("the Modbus server has ended", self.uri, "It is opened again by the outbox.")

    def _read(self) -> list[int]:
        return self._link.block(self._settings.word_order)

    def _written(self, registers: list[int]) -> None:
        self._link.plc_wrote(registers[PLC_START:PLC_COUNT], self._settings.word_order)


class RegisterServer:
    """Serve registers 0..199 from a thread of its own; port 0 takes a free one. Raises OSError.

    `on_read` gives the block that begins at `shown_at` for each read, `on_write` hears what stands in
    registers 0..199 after each write; both are called in the server's thread, before the answer goes out.
    Bits are coils too: bit b of register r is coil 16 * r + b.
    """

    def __init__(
        self,
        host: str,
        port: int,
        writable: range,
        on_read: Callable[[], list[int]] | None,
        on_write: Callable[[list[int]], None],
        shown_at: int = STATION_START,
    ) -> None:
        self._on_read, self._on_write, self._shown_at = on_read, on_write, shown_at
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()  # pymodbus hides why it cannot listen
        self._device = SimDevice(0, _layout(writable), use_bit_addressing=True, action=self._access)
        self._started: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(host, port), name="modbus-server", daemon=True
        )
        self._thread.start()
        self.port = self._started.result(timeout=5)

    @property
    def alive(self) -> bool:
        """False when its thread has ended, for whatever reason."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End every connection; may be called twice."""
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=5)

    def _run(self, host: str, port: int) -> None:
        try:
            asyncio.run(self._serve(host, port))
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self, host: str, port: int) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = ModbusTcpServer(self._device, address=(host, port))
        if not await server.listen():
            raise OSError(f"cannot listen on {host}:{port}")
        listener = cast(asyncio.Server, server.transport)
        self._started.set_result(listener.sockets[0].getsockname()[1])
        await self._stop.wait()
        await _shut_down(server, listener)

    async def _access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: Sequence[int] | None,
    ) -> ExcCodes | None:
        """pymodbus asks before every access; between this and its copy nothing else runs: one snapshot."""
        if values is not None:
            self._on_write(_after(registers, function, address, values))
        elif self._on_read is not None:
            shown = self._on_read()
            registers[self._shown_at : self._shown_at + len(shown)] = shown
        return None


def _after(registers: list[int], function: int, address: int, values: Sequence[int]) -> list[int]:
    """The registers as they will be after a write that pymodbus is about to do."""
    after = list(registers)
    if function not in COILS:
        after[address : address + len(values)] = values
        return after
    for coil, on in enumerate(values, address):
        register, bit = coil // 16, 1 << coil % 16
        after[register] = after[register] | bit if on else after[register] & ~bit
    return after


async def _shut_down(server: ModbusTcpServer, listener: asyncio.Server) -> None:
    """Stop accepting first: pymodbus forgets a connection that is just being made; its socket stays open."""
    with suppress(NotImplementedError):  # Windows
        for each in listener.sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
    await _settle()
    await server.shutdown()  # type: ignore[no-untyped-call]
    await _settle()


async def _settle() -> None:
    """Give what is already under way in the loop its few turns (accept, connect; close, free)."""
    for _ in range(5):
        await asyncio.sleep(0)


def _layout(writable: range) -> list[SimData]:
    """Registers 0..199, all 0; only `writable` takes writes."""
    parts = ((0, writable.start, True), (writable.start, writable.stop, False), (writable.stop, SERVED, True))
    return [
        SimData(start, count=stop - start, datatype=DataType.REGISTERS, readonly=readonly)
        for start, stop, readonly in parts
        if stop > start
    ]
