"""Real peers for the output tests: independent Modbus ends, a wire that breaks, a pseudo-terminal pair."""

import os
import pty
import select
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minimalmodbus import Instrument
from modbus_tk import defines, modbus_rtu
from modbus_tk.modbus import Slave
from pyModbusTCP.client import ModbusClient
from pyModbusTCP.server import DataBank, ModbusServer
from serial import Serial

from edge.verdict import Outcome, Reason, Verdict

JUDGED = {
    Outcome.PASS: (Reason.WITHIN_LIMITS, 0.1234),
    Outcome.FAIL: (Reason.ANOMALY, 1.5),
    Outcome.REVIEW: (Reason.BORDERLINE, 0.6),
}


def a_verdict(number: int, outcome: Outcome = Outcome.PASS, reason: Reason | None = None) -> Verdict:
    """A verdict of this moment, 38 ms after its picture; without a score where the reason is a fault."""
    usual, score = JUDGED[outcome]
    reason = usual if reason is None else reason
    now = time.monotonic_ns()
    return Verdict(
        frame_id=number, part_id=None, outcome=outcome, reason=reason,
        score=None if reason.is_fault else score, threshold=0.5, recipe="widget@abcd12345678",
        captured_ns=now - 38_000_000, decided_ns=now, preprocess_ms=2.0, infer_ms=30.0,
    )  # fmt: skip


def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Ask again and again, up to the time given; True as soon as it holds."""
    ends, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        if time.monotonic() > ends:
            return False
        pause.wait(0.005)
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def plc_client(port: int) -> Iterator[ModbusClient]:
    """The PLC as a client that reads the station; another library than the product's."""
    client = ModbusClient("127.0.0.1", port, timeout=2.0)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def plc_server(port: int) -> Iterator[ModbusServer]:
    """The PLC as a server that the station writes into; another library than the product's."""
    before = set(threading.enumerate())
    server = ModbusServer("127.0.0.1", port, no_block=True)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        assert until(lambda: set(threading.enumerate()) <= before)


class TcpPlc:
    """A PLC that talks lines over TCP, as client (`connect`) or as server (`listen`), with sockets alone."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._received = b""

    def say(self, line: str, end: str = "\r") -> None:
        self.socket.sendall(f"{line}{end}".encode())

    def line(self, timeout_s: float = 5.0, end: bytes = b"\r") -> str | None:
        """The next line without its end; None when none comes in time, or the station has hung up."""
        ends = time.monotonic() + timeout_s
        while end not in self._received:
            if not select.select([self.socket], [], [], max(0.0, ends - time.monotonic()))[0]:
                return None
            if not (data := self._receive()):
                return None
            self._received += data
        line, _, self._received = self._received.partition(end)
        return line.decode()

    def ask(self, line: str) -> str | None:
        self.say(line)
        return self.line()

    def hung_up(self) -> bool:
        """True as soon as the station has ended the connection; what it said before is thrown away."""
        return bool(select.select([self.socket], [], [], 5.0)[0]) and not self._receive()

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(4096)
        except ConnectionError:
            return b""


@contextmanager
def tcp_plc(port: int) -> Iterator[TcpPlc]:
    """It connects to a station that listens."""
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
        yield TcpPlc(connection)


class LineReader:
    """A PLC that keeps every line of every connection, as server or as a client that comes back for ever."""

    def __init__(self, port: int | None = None) -> None:
        self._data = b""
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0)) if port is None else None
        self.port = int(self._listener.getsockname()[1] if self._listener else port or 0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> "LineReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=5)
        if self._listener:
            self._listener.close()

    @property
    def lines(self) -> list[str]:
        """All that have come, oldest first."""
        return self._data.decode().split("\r")[:-1]

    def _run(self) -> None:
        while not self._closing.wait(0.005):
            with open_or_closed(), self._meet() as connection:
                while not self._closing.is_set() and self._take(connection):
                    pass

    def _take(self, connection: socket.socket) -> bool:
        """False when the station has hung up."""
        if not select.select([connection], [], [], 0.02)[0]:
            return True
        data = connection.recv(4096)
        self._data += data
        return bool(data)

    def _meet(self) -> socket.socket:
        if self._listener is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout=5.0)
        if not select.select([self._listener], [], [], 0.05)[0]:
            raise TimeoutError
        return self._listener.accept()[0]


@contextmanager
def plc_master(port: str, unit: int = 1) -> Iterator[Instrument]:
    """The PLC as master of a serial line, which asks the station; another library than the product's."""
    plc = Instrument(port, unit)
    plc.serial.baudrate, plc.serial.timeout = 115_200, 5.0
    try:
        yield plc
    finally:
        plc.serial.close()


@contextmanager
def slave_line(port: str, unit: int) -> Iterator[Slave]:
    """A slave on a serial line, with no registers yet; another library than the product's."""
    # Frames end in a pause; a busy machine makes pauses within them, too.
    server = modbus_rtu.RtuServer(Serial(port, 115_200), interchar_multiplier=20, interframe_multiplier=40)
    server.start()
    try:
        yield server.add_slave(unit)
    finally:
        server.stop()


@contextmanager
def plc_slave(port: str, unit: int, registers: int) -> Iterator[Callable[[int, int], list[int]]]:
    """The PLC as slave, which the station writes into; what comes out reads its registers."""
    with slave_line(port, unit) as slave:
        slave.add_block("all", defines.HOLDING_REGISTERS, 0, registers)
        slave.set_values("all", 0, [0xAAAA] * registers)
        yield lambda start, count: list(slave.get_values("all", start, count))


class CoilBank(DataBank):  # type: ignore[misc]
    """What is wired to a coil module: OK on coil 0, NG on coil 1. Keeps their rising edges, in order."""

    def __init__(self) -> None:
        super().__init__(coils_size=32, d_inputs_size=32, h_regs_size=0, i_regs_size=0)
        self.pulses: list[int] = []
        self.met = False  # OK and NG were on together
        self.looks = 0  # at the inputs

    def coils(self, count: int) -> list[bool]:
        return list(self.get_coils(0, count))

    def input(self, number: int, on: bool) -> None:
        self.set_discrete_inputs(number, [on])

    def switch_off(self) -> None:
        """The module loses its power and has it again."""
        self.set_coils(0, [False] * 32)

    def get_discrete_inputs(self, *args: object, **kwargs: object) -> object:
        bits = super().get_discrete_inputs(*args, **kwargs)
        self.looks += 1
        return bits

    def on_coils_change(self, address: int, from_value: bool, to_value: bool, srv_info: object) -> None:
        self.met |= self.coils(2) == [True, True]
        if to_value and address in (0, 1):
            self.pulses.append(address)


@contextmanager
def coil_module(port: int) -> Iterator[CoilBank]:
    """A module with coils and inputs on the network; another library than the product's."""
    before, bank = set(threading.enumerate()), CoilBank()
    server = ModbusServer("127.0.0.1", port, no_block=True, data_bank=bank)
    server.start()
    try:
        yield bank
    finally:
        server.stop()
        assert until(lambda: set(threading.enumerate()) <= before)


@contextmanager
def silent_peer() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@contextmanager
def answering_peer(answer: bytes) -> Iterator[int]:
    """A port that answers the first request with these bytes; without any it hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(300)
                peer.sendall(answer)
                while answer and peer.recv(300):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


@contextmanager
def serial_pair() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal: the PLC's end as a file descriptor, the station's end as a port name."""
    plc, station = pty.openpty()
    tty.setraw(plc)
    name = os.ttyname(station)
    os.close(station)
    try:
        yield plc, name
    finally:
        with open_or_closed():
            os.close(plc)


@contextmanager
def null_modem(change: Callable[[bytes], bytes] = bytes) -> Iterator[tuple[str, str]]:
    """Two serial port names that are wired to each other: the PLC's and the station's.

    What the PLC sends goes through `change`: noise on the line.
    """
    ends = [pty.openpty() for _ in range(2)]
    for pair in ends:
        for end in pair:
            tty.setraw(end)
    stop_read, stop_write = os.pipe()
    masters = [master for master, _ in ends]
    pump = threading.Thread(target=_pump, args=(masters, stop_read, change), daemon=True)
    pump.start()
    try:
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        os.write(stop_write, b"x")
        pump.join()
        for end in (stop_read, stop_write, *ends[0], *ends[1]):
            os.close(end)


def _pump(masters: list[int], stop: int, change: Callable[[bytes], bytes]) -> None:
    while stop not in (ready := select.select([*masters, stop], [], [])[0]):
        for master in ready:
            data = os.read(master, 4096)
            os.write(masters[1 - masters.index(master)], change(data) if master == masters[0] else data)


@contextmanager
def open_or_closed() -> Iterator[None]:
    """A peer that has gone is no error here: the fault tests close both ends of everything."""
    try:
        yield
    except OSError:
        return


class Wire:
    """A TCP proxy that can be cut after any byte the station sends. Use as a context manager."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._bytes_left: int | None = None
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut_after(self, count: int) -> None:
        """Let `count` more bytes through to the PLC, then close both sides; a reply to them is lost."""
        self._bytes_left = count

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._close(*self._sockets)
        for thread in self._threads:
            thread.join(timeout=5)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                station, _ = self._listener.accept()
                plc = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                return
            self._sockets += [station, plc]
            mute = threading.Event()
            self._start(lambda s=station, p=plc, m=mute: self._pump(s, p, m))
            self._start(lambda s=station, p=plc, m=mute: self._pump_back(s, p, m))

    def _pump(self, station: socket.socket, plc: socket.socket, mute: threading.Event) -> None:
        with open_or_closed():
            while data := station.recv(4096):
                if self._bytes_left is not None and len(data) >= self._bytes_left:
                    mute.set()
                    data, self._bytes_left = data[: self._bytes_left], None
                elif self._bytes_left is not None:
                    self._bytes_left -= len(data)
                plc.sendall(data)
                if mute.is_set():
                    break
        self._close(station, plc)

    def _pump_back(self, station: socket.socket, plc: socket.socket, mute: threading.Event) -> None:
        with open_or_closed():
            while (data := plc.recv(4096)) and not mute.is_set():
                station.sendall(data)
        self._close(station, plc)

    @staticmethod
    def _close(*sockets: socket.socket) -> None:
        for each in sockets:
            with open_or_closed():
                each.shutdown(socket.SHUT_RDWR)
            each.close()
