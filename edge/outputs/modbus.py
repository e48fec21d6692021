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
from typing import cast

from pymodbus.client import ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.errors import OutputLost
from edge.handshake import Mode
from edge.outputs.modbus_settings import Settings, write_plan
from edge.plc_link import PlcLink
from edge.registers import PLC_COUNT, PLC_START, STATION_COUNT, STATION_START
from edge.verdict import Verdict

SERVED = 200  # registers 0..199 can be read, so that an address that is off by one shows its neighbour
COILS = (5, 15)  # function codes that write bits
POLL_S = (
    0.005  # so often the station as client looks at what the PLC has written; a PLC's cycle is 2 to 10 ms
)

# What pymodbus logs is said by OutputLost, once; without a handler Python would print it on the console.
logging.getLogger("pymodbus").addHandler(logging.NullHandler())


class ModbusClient:
    """The station writes into the PLC. After a loss it stays lost: open a new one.

    With a handshake a thread of its own reads what the PLC has written, and shows what follows from it.
    """

    def __init__(self, settings: Settings, link: PlcLink) -> None:
        self.uri, self._settings, self._link = settings.uri, settings, link
        self._written: list[int] | None = None
        self._using = threading.RLock()  # the library's client is for one thread at a time
        self._closing = threading.Event()
        self._poller: threading.Thread | None = None
        self._client = ModbusTcpClient(
            settings.host, port=settings.port, timeout=settings.timeout_s, retries=0
        )
        if not self._client.connect():  # type: ignore[no-untyped-call]
            hint = f"Try `ping {settings.host}`; then check port, firewall and the PLC's Modbus server."
            raise OutputLost("the PLC does not answer", self.uri, hint)
        self._open = True
        self._link.withdraw()
        self._write()
        if link.mode is not Mode.FREE_RUN:
            self._poller = threading.Thread(target=self._poll, name="modbus-poller", daemon=True)
            self._poller.start()

    def send(self, verdict: Verdict) -> None:
        """Publish. Blocks up to three time-outs. Raises OutputLost."""
        self._link.publish(verdict)
        self._write()

    def beat(self, counter: int, healthy: bool) -> None:
        """Write HEARTBEAT, or take the verdict back. Raises OutputLost."""
        self._link.beat(counter, healthy)
        self._write()

    def close(self) -> None:
        """Clear the block in the PLC where it is still there, then hang up."""
        self._closing.set()
        if self._poller is not None:
            self._poller.join()
        self._link.withdraw()
        if self._open:
            with suppress(OutputLost):
                self._write()
        self._hang_up()

    def _poll(self) -> None:
        with suppress(OutputLost):  # the next send() or beat() says it
            while not self._closing.wait(POLL_S):
                self._link.plc_wrote(self._read_registers(PLC_START, PLC_COUNT), self._settings.word_order)
                if self._link.block(self._settings.word_order) != self._written:
                    self._write()

    def _write(self) -> None:
        with self._using:
            block = self._link.block(self._settings.word_order)
            for address, values in write_plan(self._written, block):
                self._write_registers(address, values)
            self._written = block

    def _write_registers(self, address: int, values: list[int]) -> None:
        address += self._settings.offset
        reply = self._ask(
            lambda: self._client.write_registers(address, values, device_id=self._settings.unit)
        )
        if reply.isError():
            self._hang_up()
            last = address + len(values) - 1
            hint = "Make holding registers 100..149 (+ offset) writable in the PLC; or set unit and offset."
            raise OutputLost(f"the PLC refuses writes to {address}..{last}: {reply}", self.uri, hint)

    def _read_registers(self, address: int, count: int) -> list[int]:
        address += self._settings.offset
        reply = self._ask(
            lambda: self._client.read_holding_registers(address, count=count, device_id=self._settings.unit)
        )
        if reply.isError() or len(reply.registers) != count:
            self._hang_up()
            hint = "A handshake needs holding registers 0..27 (+ offset) in the PLC; or set unit and offset."
            raise OutputLost(f"the PLC refuses to show {address}..: {reply}", self.uri, hint)
        return list(reply.registers)

    def _ask(self, request: Callable[[], ModbusPDU]) -> ModbusPDU:
        try:
            with self._using:
                if not self._open:  # pymodbus would connect again by itself, without clearing the block first
                    raise OutputLost(
                        "the connection was closed", self.uri, "It is opened again by the outbox."
                    )
                return request()
        except (ModbusException, OSError) as error:
            self._hang_up()
            hint = f"Check that the PLC runs and that unit={self._settings.unit} is right."
            raise OutputLost(f"the PLC stopped answering: {error}", self.uri, hint) from error

    def _hang_up(self) -> None:
        self._open = False
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

    `on_read` gives the station's block for each read, `on_write` hears what stands in registers 0..199 after
    each write; both are called in the server's thread, before the answer goes out. Bits are coils too: bit b
    of register r is coil 16 * r + b.
    """

    def __init__(
        self,
        host: str,
        port: int,
        writable: range,
        on_read: Callable[[], list[int]] | None,
        on_write: Callable[[list[int]], None],
    ) -> None:
        self._on_read, self._on_write = on_read, on_write
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
            registers[STATION_START : STATION_START + STATION_COUNT] = self._on_read()
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
