"""A PLC in a process of its own: a real S7 or EtherNet/IP server, and a program that scans its memory.

    python plc_process.py s7 PORT           python-snap7's server, DB100 of 300 bytes
    python plc_process.py ethernet-ip PORT  cpppo's controller, EdgeInspect INT[50], EdgeInspect_Plc INT[28]

One JSON list per line is a question ["command", arguments...], one JSON value per line its answer. cpppo is
under the GPL: it is used here alone, in a process that the product does not know.
"""

import argparse
import json
import logging
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from structured_text import NAMES, StructuredText, published

from edge.plc.handshake import Mode
from edge.plc.program import PlcProgram
from edge.plc.registers import PLC_COUNT, PLC_START, STATION_COUNT, STATION_START, Status

SCAN_S = 0.002


class Memory(Protocol):
    """The PLC's own view of both blocks."""

    def get(self, register: int, count: int) -> list[int]: ...
    def put(self, register: int, values: list[int]) -> None: ...
    def run(self, runs: bool) -> None: ...


class S7Memory:
    def __init__(self, port: int, size: int) -> None:
        from snap7.server import Server
        from snap7.type import SrvArea

        class Plc(Server):  # the library's server keeps a state and shows it to nobody
            def _get_szl_data(self, szl_id: int, szl_index: int) -> bytes | None:
                if szl_id != 0x0424:
                    return super()._get_szl_data(szl_id, szl_index)
                state = 4 if self.cpu_state.name == "STOP" else 8
                return bytes.fromhex("001400015144ff") + bytes([state]) + bytes(16)

        self._data, self._server = bytearray(size), Plc(log=False)
        self._server.register_area(SrvArea.DB, 100, self._data)
        self._server.start(port)

    def get(self, register: int, count: int) -> list[int]:
        raw = bytes(self._data[2 * register : 2 * (register + count)])
        return list(struct.unpack(f">{count}H", raw))

    def put(self, register: int, values: list[int]) -> None:
        self._data[2 * register : 2 * (register + len(values))] = struct.pack(f">{len(values)}H", *values)

    def run(self, runs: bool) -> None:
        self._server.set_cpu_status(8 if runs else 4)


class LogixMemory:
    def __init__(self, port: int, tags: list[str]) -> None:
        from cpppo.server.enip.device import Attribute
        from cpppo.server.enip.main import main

        self._tags: dict[str, Any] = {}
        owner = self

        class Tag(Attribute):
            def __init__(self, name: str, *more: Any, **settings: Any) -> None:
                super().__init__(name, *more, **settings)
                owner._tags[name] = self

        arguments = ["--address", f"127.0.0.1:{port}", "--route-path", '"1/0"', "--no-udp", *tags]
        server = threading.Thread(
            target=main, args=(arguments,), kwargs={"attribute_class": Tag}, daemon=True
        )
        server.start()

    def get(self, register: int, count: int) -> list[int]:
        name, first = self._place(register)
        return [value & 0xFFFF for value in self._tags[name].value[first : first + count]]

    def put(self, register: int, values: list[int]) -> None:
        name, first = self._place(register)
        signed = [value - 0x10000 * (value > 0x7FFF) for value in values]
        self._tags[name].value[first : first + len(values)] = signed

    def run(self, runs: bool) -> None:
        from cpppo.server.enip.device import lookup

        lookup(1, 1).attribute["5"].value = 0x3160 if runs else 0x3170

    @staticmethod
    def _place(register: int) -> tuple[str, int]:
        if register >= STATION_START:
            return "EdgeInspect", register - STATION_START
        return "EdgeInspect_Plc", register


class Published:
    """A program of deploy/plc with a part sensor: each part is a pulse, as soon as the station is READY."""

    def __init__(self, maker: str) -> None:
        names = NAMES[maker].split()
        self._sensor, self._done, self._good, self._part = names[0], names[1], names[2], names[6]
        self._text = StructuredText(published(maker), lambda: time.monotonic_ns() // 1_000_000)
        self._waiting = 0
        self.taken: list[tuple[int, bool]] = []

    def part_arrives(self, _: int) -> None:
        self._waiting += 1  # it counts its parts itself

    def scan(self, block: list[int]) -> list[int]:
        comes = bool(self._waiting and block[0] & Status.READY and not self._text.values.get(self._sensor))
        self._waiting -= comes
        self._text.values[self._sensor] = comes
        registers = self._text.scan(block)
        if self._text.values[self._done]:
            self.taken.append((self._text.values[self._part], bool(self._text.values[self._good])))
        return registers


class Scanner:
    """Runs a PLC program over the memory, cycle after cycle."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._program = memory, cast(PlcProgram | Published, PlcProgram(Mode.IDS))
        self._lock, self._ended = threading.Lock(), threading.Event()

    def start(self, mode: str) -> None:
        self._program = Published(mode) if mode in NAMES else PlcProgram(Mode(mode), patience=10**9)
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def halt(self) -> None:
        self._ended.set()
        self._thread.join()

    def part(self, part_id: int) -> None:
        with self._lock:
            self._program.part_arrives(part_id)

    def taken(self) -> list[Any]:
        with self._lock:
            return [list(result) for result in self._program.taken]

    def _run(self) -> None:
        while not self._ended.wait(SCAN_S):
            with self._lock:
                block = self._memory.get(STATION_START, STATION_COUNT)
                self._memory.put(PLC_START, self._program.scan(block)[:PLC_COUNT])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["s7", "ethernet-ip"])
    parser.add_argument("port", type=int)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--tags", nargs="*", default=["EdgeInspect=INT[50]", "EdgeInspect_Plc=INT[28]"])
    wanted = parser.parse_args()
    logging.disable()
    memory: Memory = (
        S7Memory(wanted.port, wanted.size) if wanted.kind == "s7" else LogixMemory(wanted.port, wanted.tags)
    )
    scanner = Scanner(memory)
    commands: dict[str, Callable[..., Any]] = {
        "get": memory.get, "put": memory.put, "run": memory.run,
        "program": scanner.start, "halt": scanner.halt, "part": scanner.part, "taken": scanner.taken,
    }  # fmt: skip
    print(json.dumps("up"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(commands[name](*arguments)), flush=True)


if __name__ == "__main__":
    main()
