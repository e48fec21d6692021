"""Where an S7 or EtherNet/IP PLC is and where its blocks stand in it. Pure; knows no library."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge.errors import InspectError
from edge.outputs import settings_of, whole_number
from edge.outputs.addresses import host_and_port

TIMEOUT_MS = range(10, 60_001)
PORTS = range(1, 65_535)  # pycomm3 takes no 65535
TAG = re.compile(r"(Program:)?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class S7Address:
    """One data block of a Siemens PLC."""

    uri: str
    host: str
    port: int
    rack: int
    slot: int
    db: int
    start: int  # byte of the data block where register 0 stands
    timeout_s: float


@dataclass(frozen=True, slots=True)
class TagAddress:
    """Two arrays of a Rockwell PLC."""

    uri: str
    host: str
    port: int
    slot: int  # of the controller in its chassis
    tag: str  # INT[50], written by the station
    plc_tag: str  # INT[28], written by the PLC; looked at with a handshake only
    timeout_s: float


def s7_address(uri: str) -> S7Address:
    """`s7://host[:102][?rack=0&slot=1&db=100&start=0&timeout_ms=1000]`. Raises InspectError."""
    known = settings_of(uri, ("rack", "slot", "db", "start", "timeout_ms", "handshake"))
    host, port = _ipv4_and_port(uri, 102, "s7://192.168.0.1?rack=0&slot=1&db=100")
    return S7Address(
        uri, host, port,
        rack=whole_number(known, "rack", 0, range(8), uri),
        slot=whole_number(known, "slot", 1, range(32), uri),
        db=whole_number(known, "db", 100, range(1, 65_536), uri),
        start=whole_number(known, "start", 0, range(65_000), uri),
        timeout_s=whole_number(known, "timeout_ms", 1000, TIMEOUT_MS, uri) / 1000,
    )  # fmt: skip


def tag_address(uri: str) -> TagAddress:
    """`ethernet-ip://host[:44818][/SLOT][?tag=EdgeInspect&plc_tag=EdgeInspect_Plc&timeout_ms=1000]`.

    A tag inside a program is written `Program:Main.EdgeInspect`. Raises InspectError.
    """
    known = settings_of(uri, ("tag", "plc_tag", "timeout_ms", "handshake"))
    host, port = _ipv4_and_port(uri, 44_818, "ethernet-ip://192.168.0.1/0?tag=EdgeInspect")
    tag = _tag(known, "tag", "EdgeInspect", uri)
    return TagAddress(
        uri, host, port,
        slot=whole_number({"slot": urlsplit(uri).path.strip("/") or "0"}, "slot", 0, range(18), uri),
        tag=tag,
        plc_tag=_tag(known, "plc_tag", f"{tag}_Plc", uri),
        timeout_s=whole_number(known, "timeout_ms", 1000, TIMEOUT_MS, uri) / 1000,
    )  # fmt: skip


def _ipv4_and_port(uri: str, default: int, example: str) -> tuple[str, int]:
    host, port = host_and_port(uri, default, example)
    if ":" in host or port not in PORTS:
        hint = f"Give an IPv4 address and a port from 1 to {PORTS.stop - 1}."
        raise InspectError("this address is not usable", uri, hint)
    return host, port


def _tag(settings: dict[str, str], name: str, default: str, uri: str) -> str:
    tag = settings.get(name, default)
    if not TAG.fullmatch(tag):
        raise InspectError(
            f"{name}={tag} is not usable", uri, "Give a tag's name: letters, digits, underscores."
        )
    return tag
