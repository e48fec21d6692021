"""The line of the soak: parts, a PLC over another library's Modbus, and hands that break things."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyModbusTCP.client import ModbusClient
from soak_faults import Fault, Plan
from soak_judge import Counts, Part, Sample
from soak_stage import CameraState, Stage, make_engine

from edge.plc.handshake import Mode
from edge.plc.program import PlcProgram
from edge.plc.registers import Status

PLC_TIMEOUT_S = 0.3  # an answer that takes longer is none
PART_S = 4.0  # a part is before the camera no longer: what has no result then is rejected
UP_S = 60.0  # a station that is not READY again by then has failed
STRANGER = 1 << 31  # added to a part's number: an id that belongs to no part
UNLIMITED = resource.RLIM_INFINITY
CAMERA = {
    Fault.CAMERA_UNPLUGGED: CameraState.UNPLUGGED, Fault.CAMERA_FROZEN: CameraState.FROZEN,
    Fault.CAMERA_BLACK: CameraState.BLACK, Fault.CAMERA_STALE: CameraState.STALE,
    Fault.CAMERA_STUCK: CameraState.STUCK, Fault.BACKEND_NAN: CameraState.NAN,
}  # fmt: skip
BLINDING = {*CAMERA} - {Fault.CAMERA_STALE}  # what it gives is old, but honest about its time
DANGEROUS = {
    *CAMERA, Fault.BACKEND_HANGS, Fault.BACKEND_CRASHES, Fault.PLC_SILENT, Fault.STATION_STALLS,
    Fault.STATION_KILLED,
}  # fmt: skip


class StationDied(Exception):
    """The station's process ended though nobody killed it, or did not come back."""


class BrokerProcess:
    """A real MQTT broker, where there is one; for information, so its faults may cost no part anything."""

    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")

    def __init__(self) -> None:
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.program:
            command = [self.program, "-p", str(self.port)]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def hit(self, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT. Raises StationDied where there is no broker to hit."""
        if self._process is None:
            raise StationDied("no broker: install mosquitto, or leave BROKER_GONE and BROKER_FROZEN out")
        self._process.send_signal(number)
        if number is signal.SIGKILL:
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class StationProcess:
    """The station as the operating system sees it."""

    def __init__(self, folder: Path, port: int, broker: BrokerProcess) -> None:
        self.archive, self.port, self.lives = folder / "verdicts.jsonl", port, 0
        self._log = folder / "station.log"
        uris = [f"modbus-tcp-server://127.0.0.1:{port}?handshake=ids", f"jsonl:{self.archive}"]
        uris += [f"mqtt://127.0.0.1:{broker.port}/soak"] if broker.program else []
        script = str(Path(__file__).with_name("soak_station.py"))
        words = [str(os.getpid()), str(folder / "stage"), str(make_engine(folder)), *uris]
        self._command = [sys.executable, script, *words]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """A new life."""
        self.lives += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        if self._process.poll() is not None:
            raise StationDied(
                f"the station ended by itself with code {self._process.returncode}: see {self._log}"
            )
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def engine_pid(self) -> int | None:
        """The process that runs the engine; None where the station does so itself."""
        return next(iter(_children(self.pid)), None)

    def disk(self, full: bool) -> None:
        """The archive may grow no more, or as it likes: the kernel itself refuses the next line."""
        limit = self.archive.stat().st_size if full and self.archive.exists() else UNLIMITED
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, UNLIMITED))

    def sample(self, parts: int) -> Sample:
        """Memory and handles now."""
        pids = [self.pid, *_children(self.pid)]
        handles = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
        return Sample(self.lives, parts, sum(map(_resident, pids)), handles)


class Line:
    """Brings parts before the camera, triggers the station, takes its results, breaks what it is told to."""

    def __init__(self, folder: Path, counts: Counts, samples: list[Sample]) -> None:
        """`counts` and `samples` of the parts before, where a run goes on; both are added to."""
        folder.mkdir(parents=True, exist_ok=True)
        self.counts, self.samples = counts, samples
        self._stage = Stage(folder / "stage")
        self._broker = BrokerProcess()
        self._station = StationProcess(folder, _free_port(), self._broker)
        self._station.lives = samples[-1].life if samples else 0
        self._client = self._connection()
        self._program = PlcProgram(Mode.IDS, patience=10**9)
        self._read_to, self._rows = 0, dict[int, list[dict[str, Any]]]()
        self._waiting: list[Part] = []  # for late rows
        self._fault: Fault | None = None
        self._left = self._born = self._judged = 0
        self._safe_from: float | None = None
        self._slow_s = 0.0
        self._undo: Callable[[], None] = _nothing
        self._open_sockets: list[socket.socket] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """With a station that is READY."""
        self._stage.camera, self._stage.clock_step_s = CameraState.WORKS, 0.0
        self._station.archive.unlink(missing_ok=True)
        self._broker.start()
        self._station.start()
        try:
            self._until_ready()
            yield
            self._finish(all_of_them=True)
        finally:
            self._client.close()
            self._station.stop()
            self._broker.stop()

    def bring(self, number: int, plan: Plan) -> None:
        """One part: it arrives, is inspected or not, and goes."""
        starts = plan.fault is not None and self._fault is None
        if starts:
            self._fault, self._left = plan.fault, plan.parts
        at_once = starts and plan.delay_s == 0.0 and plan.fault in CAMERA  # before the part is there
        blind = self._fault in BLINDING and (at_once or not starts)
        if at_once:
            self._break(plan, number)
        self._stage.part = (number, plan.good)
        verdicts = self._serve(number, plan if starts and not at_once else None)
        self._waiting.append(Part(number, plan.good, not blind, verdicts))
        self._left -= 1
        if self._fault is not None and self._left <= 0:
            self._mend()
        self._finish()

    def take_sample(self) -> None:
        """Memory and handles, where no fault is under way."""
        if self._fault is None:
            self.samples.append(self._station.sample(self._judged - self._born))

    def settle(self) -> bool:
        """Judge all that is gone and empty the archive, where no fault is under way."""
        if self._fault is not None:
            return False
        self._finish(all_of_them=True)
        os.truncate(self._station.archive, 0)
        self._read_to = 0
        return True

    # The PLC

    def _serve(self, number: int, later: Plan | None) -> tuple[int, ...]:
        arrived = time.monotonic()
        self._program.part_arrives(number)
        found: list[int] = []
        while not found and number not in self._program.rejected:
            if later is not None and time.monotonic() - arrived >= later.delay_s:
                self._break(later, number)
                later = None
            self._scan()
            found = self._taken(number)
            if time.monotonic() - arrived > PART_S:
                self._program.abandon()
        if later is not None:
            self._break(later, number)
        self._program.rejected.clear()
        self._judged += 1
        if self._safe_from is not None and 1 not in found:
            self._is_safe()
        return tuple(found)

    def _scan(self) -> list[int] | None:
        """One cycle; None where the station does not answer: then every open part is rejected."""
        time.sleep(self._slow_s)
        block = self._client.read_holding_registers(100, 50)
        status = Status(block[0]) if block else Status(0)
        if self._safe_from is not None and (not status & Status.ONLINE or status & Status.ERROR):
            self._is_safe()
        if not block:
            self._program.abandon()
            time.sleep(0.002)
            return None
        self._client.write_multiple_registers(0, self._program.scan(block))
        return block

    def _taken(self, number: int) -> list[int]:
        results, self._program.taken[:] = list(self._program.taken), []
        for part_id, verdict, _ in results:
            if (
                part_id != number
                and not part_id & STRANGER
                and part_id not in {p.number for p in self._waiting}
            ):
                self.counts.add_stranger(part_id, verdict)
            for i, part in enumerate(self._waiting):  # asked for twice, answered twice
                if part.number == part_id:
                    self._waiting[i] = Part(part_id, part.good, part.seen, (*part.verdicts, verdict))
        return [verdict for part_id, verdict, _ in results if part_id == number]

    def _until_ready(self) -> None:
        until = time.monotonic() + UP_S
        while True:
            block = self._client.read_holding_registers(100, 50)
            if block:
                self._client.write_multiple_registers(0, self._program.scan(block))
                self._taken(0)
                if Status(block[0]) & Status.READY:
                    return
            if time.monotonic() > until:
                raise StationDied(f"the station is not READY again after {UP_S:g} s, after {self._fault}")
            _ = self._station.pid
            time.sleep(0.005)

    def _connection(self) -> ModbusClient:
        return ModbusClient("127.0.0.1", self._station.port, timeout=PLC_TIMEOUT_S)

    # Faults

    def _break(self, plan: Plan, number: int) -> None:
        fault = plan.fault
        assert fault is not None
        self.counts.faults[fault.words] = self.counts.faults.get(fault.words, 0) + 1
        self._safe_from = time.monotonic() if fault in DANGEROUS else None
        if fault in CAMERA:
            self._stage.camera = CAMERA[fault]
            return
        match fault:
            case Fault.BACKEND_HANGS | Fault.BACKEND_CRASHES:
                self._hit_the_engine(signal.SIGSTOP if fault is Fault.BACKEND_HANGS else signal.SIGSEGV)
            case Fault.PLC_GONE:
                self._client.close()
                self._program.abandon()
                time.sleep(plan.amount * 0.3)
            case Fault.PLC_SILENT:
                self._keep_silent()
            case Fault.PLC_SLOW:
                self._slow_s = 0.02 + 0.08 * plan.amount
            case Fault.PLC_GARBAGE:
                self._send(random.Random(number).randbytes(1 + int(plan.amount * 600)))
            case Fault.PLC_HALF_FRAME:
                self._send(bytes.fromhex("00010000000601030064")[: 1 + int(plan.amount * 9)])
            case Fault.PLC_TRIGGERS_TWICE:
                self._scan()
                self._trigger_id(0)
                self._trigger_id(number)
            case Fault.PLC_TRIGGERS_WHILE_BUSY:
                self._scan()
                self._trigger_id(number | STRANGER)
            case Fault.BROKER_GONE:
                self._broker.hit(signal.SIGKILL)
                self._undo = self._broker.start
            case Fault.BROKER_FROZEN:
                self._broker.hit(signal.SIGSTOP)
                self._undo = lambda: self._broker.hit(signal.SIGCONT)
            case Fault.DISK_FULL:
                self._station.disk(full=True)
            case Fault.CLOCK_STEP:
                self._stage.clock_step_s = (plan.amount - 0.5) * 10**7
            case Fault.STATION_STALLS:
                self._stall(0.1 + 1.5 * plan.amount)
            case Fault.STATION_KILLED:
                self._station.kill()

    def _mend(self) -> None:
        fault, self._fault = self._fault, None
        self._stage.camera, self._stage.clock_step_s, self._slow_s = CameraState.WORKS, 0.0, 0.0
        self._undo()
        self._undo = _nothing
        for each in self._open_sockets:
            each.close()
        self._open_sockets.clear()
        if fault is Fault.STATION_KILLED:
            self._station.start()
            self._born = self._judged
            self._read_rows()
        if fault is Fault.DISK_FULL:
            self._station.disk(full=False)
        self._until_ready()
        self._safe_from = None

    def _is_safe(self) -> None:
        assert self._fault is not None and self._safe_from is not None
        waited_ms = (time.monotonic() - self._safe_from) * 1e3
        self.counts.safe_state_ms.setdefault(self._fault.words, []).append(round(waited_ms, 2))
        self._safe_from = None

    def _hit_the_engine(self, number: signal.Signals) -> None:
        if (pid := self._station.engine_pid()) is None:
            raise StationDied("the engine runs in the station's own process: it cannot be hit alone")
        os.kill(pid, number)

        def let_go() -> None:
            with suppress(ProcessLookupError):  # it was replaced
                os.kill(pid, signal.SIGCONT)

        self._undo = let_go

    def _keep_silent(self) -> None:
        """The connection stands, the PLC's program does not run: until READY goes, or too long."""
        until = time.monotonic() + 6.0
        while time.monotonic() < until:
            block = self._client.read_holding_registers(100, 50)
            if block and not Status(block[0]) & (Status.READY | Status.RESULT_VALID | Status.BUSY):
                break
            time.sleep(0.02)
        self._is_safe()

    def _stall(self, seconds: float) -> None:
        pid = self._station.pid
        os.kill(pid, signal.SIGSTOP)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._scan()
        os.kill(pid, signal.SIGCONT)

    def _trigger_id(self, part_id: int) -> None:
        self._client.write_multiple_registers(1, [part_id >> 16, part_id & 0xFFFF])

    def _send(self, data: bytes) -> None:
        """On a connection of its own, which stays open for as long as the fault lasts."""
        with suppress(OSError):
            peer = socket.create_connection(("127.0.0.1", self._station.port), timeout=1.0)
            self._open_sockets.append(peer)
            peer.sendall(data)

    # The archive

    def _finish(self, all_of_them: bool = False) -> None:
        """Judge the parts that are long gone, so that no row is still on its way."""
        keep = 0 if all_of_them else 8
        if len(self._waiting) <= keep or (self._fault is not None and not all_of_them):
            return
        gone, self._waiting = (
            self._waiting[: len(self._waiting) - keep],
            self._waiting[len(self._waiting) - keep :],
        )
        self._read_rows_of(gone)
        for part in gone:
            self.counts.add_part(part, self._rows.pop(part.number, []))
        oldest = self._waiting[0].number if self._waiting else 0
        for part_id in [key for key in self._rows if key < oldest or key & STRANGER]:
            del self._rows[part_id]

    def _read_rows_of(self, parts: list[Part]) -> None:
        """What a full disk held back comes with the next tries."""
        until = time.monotonic() + 10.0
        self._read_rows()
        while any(p.verdicts and p.number not in self._rows for p in parts) and time.monotonic() < until:
            time.sleep(0.01)
            self._read_rows()

    def _read_rows(self) -> None:
        with self._station.archive.open("rb") as file:
            file.seek(self._read_to)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            self._rows.setdefault(row["part_id"] or 0, []).append(row)


def _children(pid: int) -> list[int]:
    found = set[int]()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found |= {int(child) for child in (task / "children").read_text().split()}
    return sorted(found)


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _nothing() -> None:
    pass
