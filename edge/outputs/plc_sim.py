"""A simulated PLC on loopback: a Modbus TCP server that keeps every result written into it.

For the demo and for trying an integration without a PLC. It decodes the registers by the published map and
takes a result as a PLC program would: when STATUS has RESULT_VALID and SEQUENCE has changed.
"""

import threading
from collections import deque

from edge.outputs.modbus_wire import RegisterServer
from edge.plc.registers import STATION_COUNT, STATION_START, Status, decode

KEPT = 100_000  # results; at 50 parts/s half an hour

Result = tuple[int, int, int]  # RESULT_ID, VERDICT, SEQUENCE


class SimulatedPlc:
    """Holding registers 100..149 for a station that writes (`modbus-tcp://`)."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host, self._port = host, port
        self._server: RegisterServer | None = None
        self._block = [0] * STATION_COUNT
        self._results: deque[Result] = deque(maxlen=KEPT)
        self._changed = threading.Condition()

    def start(self) -> str:
        """Listen and give the URI for the station. After close() it comes back on the same port."""
        block = range(STATION_START, STATION_START + STATION_COUNT)
        self._server = RegisterServer(self._host, self._port, block, None, self._written)
        self._port = self._server.port
        return f"modbus-tcp://{self._host}:{self._port}"

    def results(self) -> list[Result]:
        """Every result received so far, oldest first."""
        with self._changed:
            return list(self._results)

    def register(self, name: str) -> float:
        """What stands in a register of the map now, for example "VERDICT"."""
        with self._changed:
            return decode(name, self._block)

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """True as soon as `count` results have come."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._results) >= count, timeout_s)

    def close(self) -> None:
        """Hang up on the station; may be called twice."""
        if self._server is not None:
            self._server.close()

    def _written(self, registers: list[int]) -> None:
        with self._changed:
            self._block = registers[STATION_START : STATION_START + STATION_COUNT]
            self._take()
            self._changed.notify_all()

    def _take(self) -> None:
        names = ("RESULT_ID", "VERDICT", "SEQUENCE")
        result_id, verdict, sequence = (int(decode(name, self._block)) for name in names)
        result = (result_id, verdict, sequence)
        known = bool(self._results) and self._results[-1] == result  # the same one, or sent again
        if self._block[0] & Status.RESULT_VALID and not known:
            self._results.append(result)
