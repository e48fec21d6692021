"""The doctor looks at the line: camera, links, and whether the engine keeps its deadline.

It disturbs no PLC: it knocks at the door, and writes nothing.
"""

import errno
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edge.cameras import Camera, camera_opener, safe_uri
from edge.doctor.finding import Finding, State
from edge.engines.engine import ISOLATED, open_engine, pace
from edge.errors import CameraTimeout, DataError, EndOfStream, FrameIncomplete
from edge.frame import Pixels
from edge.outputs import output_opener
from edge.paths import check_folder
from edge.picture.health import image_fault

LOOK_S = 2.0  # at a camera: enough to tell 30 pictures a second from 25
FIRST_S = 10.0  # a network camera may take seconds to give its first one
KNOCK_S = 2.0
# Where the address may leave the port out.
PORTS = {
    "modbus-tcp": 502, "modbus-tcp-server": 502, "modbus-tcp-io": 502, "s7": 102, "ethernet-ip": 44818,
    "mqtt": 1883, "mqtts": 8883, "opc-ua": 4840,
}  # fmt: skip


@dataclass
class Seen:
    """What came while we looked."""

    count: int = 0
    seconds: float = 0.0  # from the first to the last one
    live: bool = True
    last: list[Pixels] = field(default_factory=list)  # two at most


def camera(uri: str, look_s: float = LOOK_S) -> Finding:
    """Open, look, count. Raises InspectError."""
    what, source = f"camera {safe_uri(uri)}", camera_opener(uri)()
    try:
        return camera_finding(what, _look(source, look_s))
    finally:
        source.close()


def camera_finding(what: str, seen: Seen) -> Finding:
    """What is to be said of that."""
    if not seen.last:
        return Finding(
            what, State.FAIL, "no picture", "Trigger, exposure, cable? Does it run freely or wait?"
        )
    height, width = seen.last[-1].shape[:2]
    rate = f", {(seen.count - 1) / seen.seconds:.1f} pictures a second" if seen.seconds else ""
    detail, before = f"{width}x{height}{rate}", seen.last[-2] if seen.live and seen.count > 1 else None
    if (fault := image_fault(seen.last[-1], before)) is not None:
        return Finding(
            what, State.WARN, f"{detail}; {fault.name}", "Light, lens cap, exposure? docs/errors.md"
        )
    if seen.live and seen.count == 1:
        return Finding(what, State.WARN, f"{detail}, but only one picture", "Does it wait for a trigger?")
    return Finding(what, State.OK, detail)


def _look(source: Camera, look_s: float) -> Seen:
    """One picture at least, where any comes; then for so long."""
    seen, first, until = Seen(live=source.live), 0.0, time.monotonic() + FIRST_S
    while time.monotonic() < until:
        try:
            pixels = source.read(1.0).pixels
        except (CameraTimeout, FrameIncomplete):
            continue
        except EndOfStream:
            break
        now = time.monotonic()
        if not seen.count:
            first, until = now, now + look_s
        seen.count, seen.seconds, seen.last = seen.count + 1, now - first, [*seen.last[-1:], pixels]
    return seen


def output(uri: str) -> Finding:
    """Whether the other side can be reached. Raises InspectError for a URI that nobody knows."""
    output_opener(uri)
    what, parts = f"output {safe_uri(uri)}", urlsplit(uri)
    if parts.scheme == "jsonl":
        return _file(what, uri.removeprefix("jsonl:"))
    if parts.scheme == "serial" or parts.path.startswith("/dev/"):
        return Finding(what, State.OK, "settings are right; whether anybody listens, a line does not tell")
    host, port = parts.hostname or "", parts.port if parts.port is not None else PORTS.get(parts.scheme)
    if port is None:
        return Finding(what, State.WARN, "the address names no port", "Give one: HOST:PORT.")
    if parts.scheme.endswith("-server") or parts.scheme == "opc-ua":
        return listening(what, host, port)
    return knocking(what, host, port)


def knocking(what: str, host: str, port: int) -> Finding:
    """Somebody listens there; nothing is said to him."""
    begun = time.monotonic()
    try:
        socket.create_connection((host, port), KNOCK_S).close()
    except ConnectionRefusedError:
        todo = f"The machine is there. Does its server run, is port {port} right, is it the firewall?"
        return Finding(what, State.FAIL, "refuses the connection", todo)
    except OSError as error:
        todo = f"ping {host}: cable, address, mask, switch?"
        return Finding(what, State.FAIL, f"cannot be reached: {error.strerror or error}", todo)
    return Finding(what, State.OK, f"answers within {(time.monotonic() - begun) * 1e3:.0f} ms")


def listening(what: str, host: str, port: int) -> Finding:
    """We may listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, port))
        except PermissionError:
            todo = "The service may use it (deploy/systemd); by hand take one above 1023."
            return Finding(what, State.FAIL, f"port {port} is for root alone", todo)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                todo = f"ss -ltnp 'sport = :{port}' tells who; if it is the station, all is well."
                return Finding(what, State.WARN, f"port {port} is taken", todo)
            todo = "ip address: is this address one of this machine's?"
            return Finding(what, State.FAIL, f"cannot listen: {error.strerror}", todo)
    return Finding(what, State.OK, f"port {port} is free")


def _file(what: str, name: str) -> Finding:
    if name != "-":
        try:
            check_folder(Path(name).parent, "--plc")
        except DataError as error:
            return Finding(what, State.FAIL, error.what, error.next_step)
    return Finding(what, State.OK, "can be written")


def engine(path: Path, backend: str) -> Finding:
    """Open it as `run` does, and time it. Raises InspectError."""
    opened = open_engine(path, backend, ISOLATED)
    opened.backend.close()
    told, _, todo = pace(opened.picture_ms, opened.recipe).partition(": ")
    state = State.WARN if todo else State.OK
    return Finding(f"engine {opened.path.name}", state, f"{opened.backend.name}; {told}", todo)
