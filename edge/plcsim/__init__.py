"""A PLC for trying a station without one: `edge-inspect plc-sim URI`, the other side of the station's --plc.

To add a protocol: a file here with a Peer, one `case` below, one line in tests/test_plcsim.py. Where the
protocol carries the two register blocks, only a Wire has to be written (blocks.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from edge.errors import InspectError
from edge.outputs import extra
from edge.plc.handshake import Mode
from edge.plc.registers import VerdictCode
from edge.plc.timing_chart import Sample

SCHEMES = (
    "modbus-tcp://",
    "modbus-tcp-server://",
    "modbus-rtu://",
    "modbus-rtu-server://",
    "modbus-tcp-io://",
    "modbus-rtu-io://",
    "s7://",
    "serial://",
    "serial:pty",
    "tcp://",
    "tcp-server://",
    "mqtt://",
    "mqtts://",
    "opc-ua://",
)


RUNS_FREE = "start the station with handshake= as here"


class Mistake(Enum):
    """What a station must not do, in the words of docs/plc-sim.md."""

    UNASKED = "result before any trigger: the station runs free"
    OTHER_PART = "verdict for another part"
    EARLY = "RESULT_VALID before the data"
    CHANGED = "result changed while it was valid"
    SKIPPED = "SEQUENCE jumped"
    CONTRADICTION = "PASS, FAIL, VERDICT and REASON do not fit"
    NOT_CLEARED = "result not cleared after the acknowledge"
    NO_TRIGGER_ACK = "trigger not answered"
    NOT_READY = "ONLINE, but never READY"
    NO_HEARTBEAT = "no heartbeat"
    READY_OFFLINE = "READY without ONLINE"
    LAYOUT = "test registers are wrong"
    CHECKSUM = "wrong checksum"
    BAD_LINE = "line that fits nothing"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One mistake, once, with the values."""

    what: Mistake
    detail: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A result that the PLC has taken."""

    part_id: int
    verdict: VerdictCode
    detail: str = ""  # reason, sequence, the line: what this protocol says beside it


@dataclass(frozen=True, slots=True)
class Ended:
    """A command of the PLC's: done, failed or no answer."""

    command: str
    how: str

    @property
    def ok(self) -> bool:
        """The station has done it."""
        return self.how == "done"

    def __str__(self) -> str:
        return f"{self.command}: {self.how}"


@dataclass(frozen=True, slots=True)
class Scan:
    """One cycle of the PLC: what stands on the signals now, and what happened since the last one."""

    connected: bool
    sample: Sample
    triggered: tuple[int, ...] = ()
    taken: tuple[Taken, ...] = ()
    rejected: tuple[int, ...] = ()  # parts without a result
    complaints: tuple[Complaint, ...] = ()
    ended: tuple[Ended, ...] = ()
    stopped: int = 0  # ERROR_CODE while the station has stopped the line


class Peer(Protocol):
    """The PLC's end of one protocol. Used from one thread."""

    @property
    def station(self) -> str:
        """What the station has to be given as --plc."""

    def part_arrives(self, part_id: int) -> None:
        """Trigger it as soon as the station can take it."""

    def scan(self, now_ns: int) -> Scan:
        """One cycle; returns soon, station or not. Whatever a station does is no error here."""

    def close(self) -> None:
        """Hang up, free everything."""


def peer_opener(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Check the URI, which is the station's; listen or open when called. Raises InspectError, OutputLost."""
    match uri.partition(":")[0]:
        case "modbus-tcp" | "modbus-tcp-server" | "modbus-rtu" | "modbus-rtu-server":
            from edge.plcsim.modbus import modbus_plc

            return modbus_plc(uri, mode)
        case "modbus-tcp-io" | "modbus-rtu-io":
            from edge.plcsim.coils import coil_plc

            return coil_plc(uri, mode)
        case "s7":
            with extra("s7", uri):
                from edge.plcsim.s7 import s7_plc

            return s7_plc(uri, mode)
        case "mqtt" | "mqtts":
            with extra("mqtt", uri):
                from edge.plcsim.mqtt import mqtt_plc

            return mqtt_plc(uri, mode)
        case "opc-ua":
            with extra("opcua", uri):
                from edge.plcsim.opcua import opcua_plc

            return opcua_plc(uri, mode)
        case "serial" | "tcp" | "tcp-server":
            from edge.plcsim.lines import line_plc

            return line_plc(uri, mode)
    raise InspectError(f"plc-sim does not speak {uri!r}", "plc-sim", f"Known are: {', '.join(SCHEMES)}")
