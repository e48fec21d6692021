"""Modbus on the wire: TCP and RTU, master and slave. The only file that knows pymodbus.

    Master          asks a device: the PLC that holds the block, a module with coils
    RegisterServer  answers: the PLC asks the station; the simulated PLC is asked by the station

Of pymodbus only classes without a deprecation note are used (SimDevice with an action; the synchronous
clients). Where the library's own behaviour would not do on a line, the reason stands beside the few lines.
"""

import asyncio
import copy
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, cast

from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.framer import FramerRTU
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.errors import OutputLost
from edge.outputs.callers import MOST_CALLERS, watch_cable
from edge.outputs.modbus_settings import Settings
from edge.plc.registers import STATION_START

SERVED = 200  # registers 0..199 can be read, so that an address that is off by one shows its neighbour
COILS = (5, 15)  # function codes that write bits
LONGEST_FRAME = 256  # bytes, of Modbus RTU
SHORTEST_FRAME = 4
NOISE_REPEATS = 1  # a garbled frame on a serial line costs a repetition; TCP repeats by itself

# What pymodbus logs is said by OutputLost, once; without a handler Python would print it on the console.
logging.getLogger("pymodbus").addHandler(logging.NullHandler())


class Master:
    """One device that is asked. After a fault the connection is let go and stays so: make a new one.

    All methods raise OutputLost, also where the device refuses (with the hint given). One thread at a time.
    """

    def __init__(self, settings: Settings, device: str = "the PLC") -> None:
        self._settings, self._device, self._open = settings, device, True
        self._client = _client_of(settings)
        if not self._client.connect():
            if settings.serial is not None:
                raise OutputLost("the serial port cannot be opened", settings.uri, PORT_HINT)
            hint = f"Try `ping {settings.host}`; then check port, firewall and {device}'s Modbus server."
            raise OutputLost(f"{device} does not answer", settings.uri, hint)

    def read_registers(self, address: int, count: int, hint: str) -> list[int]:
        """Holding registers, in one request (FC03)."""
        reply = self._ask(lambda to: self._client.read_holding_registers(address, count=count, device_id=to))
        if (reply.function_code, len(reply.registers)) != (3, count):
            raise self._lost(f"{self._device} refuses to show {address}..: {reply}", hint)
        return list(reply.registers)

    def write_registers(self, address: int, values: list[int], hint: str) -> None:
        """Holding registers, in one request (FC16)."""
        reply = self._ask(lambda to: self._client.write_registers(address, values, device_id=to))
        if (reply.function_code, reply.address, reply.count) != (16, address, len(values)):
            last = address + len(values) - 1
            raise self._lost(f"{self._device} refuses writes to {address}..{last}: {reply}", hint)

    def read_input(self, address: int, hint: str) -> bool:
        """One discrete input (FC02)."""
        reply = self._ask(lambda to: self._client.read_discrete_inputs(address, count=1, device_id=to))
        if reply.function_code != 2 or not reply.bits:
            raise self._lost(f"{self._device} refuses to show input {address}: {reply}", hint)
        return bool(reply.bits[0])

    def write_coil(self, address: int, on: bool, hint: str) -> None:
        """One coil (FC05)."""
        reply = self._ask(lambda to: self._client.write_coil(address, on, device_id=to))
        if (reply.function_code, reply.address, list(reply.bits)) != (5, address, [on]):
            raise self._lost(f"{self._device} refuses to switch coil {address}: {reply}", hint)

    def close(self) -> None:
        """Hang up; may be called twice."""
        self._open = False
        self._client.close()  # type: ignore[no-untyped-call]

    def _ask(self, request: Callable[[int], ModbusPDU]) -> ModbusPDU:
        if not self._open:  # pymodbus would connect again by itself, without clearing the block first
            hint = "It is opened again by the outbox."
            raise OutputLost("the connection was closed", self._settings.uri, hint)
        try:
            return request(self._settings.unit)
        # Not the library's errors alone: a peer that sends nonsense makes it raise what it does not declare.
        except Exception as error:
            hint = f"Check that {self._device} runs and that unit={self._settings.unit} is right."
            raise self._lost(f"{self._device} stopped answering: {self._why(error)}", hint) from error

    def _why(self, error: Exception) -> str:
        """The library's own texts speak of its internals."""
        if isinstance(error, ConnectionException):
            line = self._settings.serial is not None
            return "the port is gone or takes no data" if line else "it closed the connection"
        if isinstance(error, ModbusIOException):
            return "no answer that can be read"
        return f"{type(error).__name__}: {error}"

    def _lost(self, what: str, hint: str) -> OutputLost:
        self.close()
        return OutputLost(what, self._settings.uri, hint)


PORT_HINT = (
    "Check cable and name (`ls /dev/serial/by-id`), your rights (group dialout), parity, "
    "and that no other program holds the port."
)


def _client_of(settings: Settings) -> ModbusTcpClient | ModbusSerialClient:
    trace = _swapped if settings.byte_order == "little" else None
    line = settings.serial
    if line is None:
        return ModbusTcpClient(
            settings.host, port=settings.port, timeout=settings.timeout_s, retries=0, trace_pdu=trace
        )
    return ModbusSerialClient(
        settings.host, baudrate=line.baud, parity=line.parity, stopbits=line.stop_bits,
        timeout=settings.timeout_s, retries=NOISE_REPEATS, trace_pdu=trace,
    )  # fmt: skip


class RegisterServer:
    """Serve registers 0..199 from a thread of its own; port 0 takes a free one. Raises OSError.

    `on_read` gives the block that begins at `shown_at` for each read, `on_write` hears what stands in 0..199
    after each write, `on_hang_up` that one who has written is gone; all are called in the server's thread,
    the first two before the answer goes out. Bit b of register r is coil 16 * r + b.
    `settings` says more of the line: serial or not, who may call, which byte comes first.
    """

    def __init__(
        self,
        host: str,
        port: int,
        writable: range,
        on_read: Callable[[], list[int]] | None,
        on_write: Callable[[list[int]], None],
        on_hang_up: Callable[[], None] = lambda: None,
        settings: Settings | None = None,
        shown_at: int = STATION_START,
    ) -> None:
        self.settings = settings or Settings("", host, port)
        self.on_hang_up = on_hang_up
        self.calling: _Caller | None = None  # whose request is being answered
        self.callers: set[_Caller] = set()
        self._on_read, self._on_write, self._shown_at = on_read, on_write, shown_at
        self._where = host, port
        _try_out(self.settings)
        unit = 0 if self.settings.serial is None else self.settings.unit  # 0: whatever unit is asked for
        self._device = SimDevice(unit, _layout(writable), use_bit_addressing=True, action=self._access)
        self._started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="modbus-server", daemon=True)
        self._thread.start()
        self.port = self._started.result(timeout=5)

    @property
    def alive(self) -> bool:
        """False when its thread has ended, for whatever reason."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End every connection; may be called twice."""
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self.end)
        self._thread.join(timeout=5)

    def end(self) -> None:
        """From the server's own thread: stop serving."""
        self._stop.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = self._listener()
        if not await server.listen():
            raise OSError(f"cannot listen on {self._where[0]}:{self._where[1]}")
        listener = server.transport if isinstance(server.transport, asyncio.Server) else None
        self._started.set_result(listener.sockets[0].getsockname()[1] if listener else 0)
        await self._stop.wait()
        await _shut_down(server, listener)

    def _listener(self) -> "_TcpListener | _SerialListener":
        line = self.settings.serial
        if line is None:
            tcp = _TcpListener(self._device, address=self._where)
            tcp.owner = self
            return tcp
        rtu = _SerialListener(
            self._device, port=self._where[0], baudrate=line.baud, parity=line.parity,
            stopbits=line.stop_bits, reconnect_delay=0.0,
        )  # fmt: skip
        rtu.owner = self
        return rtu

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
            if self.calling is not None:
                self.calling.has_written = True
            self._on_write(_after(registers, function, address, values))
        elif self._on_read is not None:
            shown = self._on_read()
            registers[self._shown_at : self._shown_at + len(shown)] = shown
        return None


class _Caller(ServerRequestHandler):
    """One connection, or the serial line: who it is, whether it has written, when it goes."""

    def __init__(self, listener: "_TcpListener | _SerialListener", owner: RegisterServer) -> None:
        trace = _swapped if owner.settings.byte_order == "little" else None
        super().__init__(listener, None, trace, None)  # type: ignore[no-untyped-call]
        self._owner, self._heard, self.has_written = owner, b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.callers.add(self)
        peer = transport.get_extra_info("peername")
        refused = peer is not None and not self._owner.settings.lets_in(peer[0])
        if refused or len(self._owner.callers) > MOST_CALLERS:
            cast(asyncio.Transport, transport).abort()
            return
        if (connection := transport.get_extra_info("socket")) is not None:
            watch_cable(connection)

    def data_received(self, data: bytes) -> None:
        """pymodbus answers for units that it is not, and loses its place on a line with others."""
        if self._owner.settings.serial is None:
            super().data_received(data)
            return
        self._heard = (self._heard + data)[-LONGEST_FRAME:]
        if frame := own_frame(self._heard, self._owner.settings.unit):
            self.recv_buffer = b""
            super().data_received(frame)
            if self.last_pdu is not None:  # else the checksum of half a frame was right by chance
                self._heard = b""

    async def handle_request(self) -> None:
        self._owner.calling = self
        await super().handle_request()  # type: ignore[no-untyped-call]

    def callback_disconnected(self, exc: Exception | None) -> None:
        super().callback_disconnected(exc)
        self._owner.callers.discard(self)
        if self.has_written:
            self._owner.on_hang_up()
        if self._owner.settings.serial is not None:
            self._owner.end()  # the port is gone; whoever owns the server opens it again


class _TcpListener(ModbusTcpServer):
    owner: RegisterServer

    def callback_new_connection(self) -> _Caller:
        return _Caller(self, self.owner)


class _SerialListener(ModbusSerialServer):
    owner: RegisterServer

    def callback_new_connection(self) -> _Caller:
        return _Caller(self, self.owner)


def own_frame(heard: bytes, unit: int) -> bytes:
    """The RTU frame for `unit` that the bytes heard so far end with; b"" where there is none.

    A master falls silent after a request until it is answered: what is ours ends what was heard, whatever
    stands before it (other units' requests and answers, noise). The checksum tells.
    """
    for start in range(len(heard) - SHORTEST_FRAME + 1):
        body, checksum = heard[start:-2], int.from_bytes(heard[-2:], "big")
        if heard[start] == unit and FramerRTU.check_CRC(body, checksum):
            return heard[start:]
    return b""


def _swapped(sending: bool, pdu: ModbusPDU) -> ModbusPDU:
    """The same request or answer with the two bytes of each register the other way round; bits stay."""
    twin: Any = copy.copy(pdu)
    for name in ("registers", "write_registers"):
        if hasattr(twin, name):
            setattr(twin, name, [_swap(word) for word in getattr(twin, name)])
    for name in ("and_mask", "or_mask"):
        if hasattr(twin, name):
            setattr(twin, name, _swap(getattr(twin, name)))
    return cast(ModbusPDU, twin)


def _swap(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8


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


def _try_out(settings: Settings) -> None:
    """pymodbus hides why it cannot listen, or open a port: this says it. Raises OSError."""
    if settings.serial is None:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        socket.create_server((settings.host, settings.port), family=family).close()
    elif os.name == "posix":
        os.close(os.open(settings.host, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))


async def _shut_down(server: ModbusTcpServer | ModbusSerialServer, listener: asyncio.Server | None) -> None:
    """Stop accepting first: pymodbus forgets a connection that is just being made; its socket stays open."""
    with suppress(NotImplementedError):  # Windows
        for each in listener.sockets if listener else ():
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
