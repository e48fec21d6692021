"""Lines that are coils of a Modbus module: outputs by FC05, the trigger a discrete input by FC02.

modbus-tcp-io://192.168.0.20?ready=0&ok=1&ng=2&fault=3         a module on the network
modbus-rtu-io:///dev/ttyUSB0?ready=0&ok=1&ng=2&fault=3&unit=1  one on a serial line
"""

import threading
import time
from dataclasses import dataclass

from edge.outputs import settings_of
from edge.outputs.discrete_io import KNOWN, Wiring, wiring_of
from edge.outputs.modbus_settings import SERIAL, Settings, io_settings
from edge.outputs.modbus_wire import Master
from edge.plc.discrete import Levels

COIL_HINT = "Check the module's address of its outputs (0-based) and unit=."
INPUT_HINT = "Check the module's address of its inputs (0-based) and unit=."


@dataclass(frozen=True, slots=True)
class ModuleSettings:
    """Where the module is, and what is wired to it."""

    peer: Settings
    wiring: Wiring


def module_settings(uri: str) -> ModuleSettings:
    """Raises InspectError."""
    on_a_line = SERIAL if uri.startswith("modbus-rtu-io:") else ()
    known = settings_of(uri, (*KNOWN, "unit", "timeout_ms", *on_a_line))
    return ModuleSettings(io_settings(uri, known), wiring_of(uri, known, range(65_536)))


class CoilModule:
    """One connected module. Raises OutputLost when it does not answer or refuses."""

    def __init__(self, settings: ModuleSettings) -> None:
        self._wiring, self._using = settings.wiring, threading.Lock()
        self._master = Master(settings.peer, "the module")
        self._stood = self._stands()  # the trigger, at the last look; what stands at the start is no edge

    def write(self, levels: Levels) -> None:
        """One request a line."""
        with self._using:
            for line, on in levels.items():
                self._master.write_coil(self._wiring.lines[line], on, COIL_HINT)

    def rises(self, within_s: float) -> list[int]:
        """Looks once, after the time given: what is shorter than that and a round trip may be missed."""
        time.sleep(within_s)
        with self._using:
            at_ns = time.monotonic_ns()
            stands = self._stands()
        rises, self._stood = stands and not self._stood, stands
        return [at_ns] if rises else []

    def close(self) -> None:
        """Hang up."""
        with self._using:
            self._master.close()

    def _stands(self) -> bool:
        wired = self._wiring.trigger
        return wired is not None and self._master.read_input(wired, INPUT_HINT)
