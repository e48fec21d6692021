"""Logix tag services as bytes: several reads and writes in one request, carried out in their order. Pure.

    request   uint n, n x uint offset, n x service        little-endian; offsets count from n
    service   usint code, path, data
    data      of 4Ch read: uint count                     of 4Dh write: uint type, uint count, values
    reply     uint n, n x uint offset, n x answer
    answer    usint code + 80h, 0, usint status, usint m, m x uint extended status, data
    data      of 4Ch read: uint type, values              of 4Dh write: none

Source: Rockwell publication 1756-PM020 (Logix 5000 data access), CIP volume 1 (Multiple Service Packet, 0Ah).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

READ, WRITE, SEVERAL = 0x4C, 0x4D, 0x0A
INT = 0xC3
REFUSALS = {
    (0x04, None): "there is no such tag",
    (0x05, None): "there is no such tag",
    (0x0F, None): "the controller permits no access to it",
    (0xFF, 0x2104): "the tag is too short",
    (0xFF, 0x2105): "the tag is too short",
    (0xFF, 0x2107): "the tag is no array of INT",
}


@dataclass(frozen=True, slots=True)
class TagRefused:
    """One service of several that was not carried out: its place and why."""

    place: int
    why: str


def read(path: bytes, count: int) -> bytes:
    """Read `count` elements of the array at an encoded path."""
    return bytes([READ]) + path + struct.pack("<H", count)


def write(path: bytes, values: Sequence[int]) -> bytes:
    """Write registers, 0..65535 each, as INT from the element at an encoded path on."""
    return bytes([WRITE]) + path + struct.pack(f"<HH{len(values)}H", INT, len(values), *values)


def several(services: Sequence[bytes]) -> bytes:
    """The data of a Multiple Service Packet."""
    first = 2 + 2 * len(services)
    offsets = [first + sum(map(len, services[:n])) for n in range(len(services))]
    return struct.pack(f"<H{len(services)}H", len(services), *offsets) + b"".join(services)


def answers(reply: bytes, expected: int) -> list[bytes] | TagRefused:
    """The data of each service's answer, or the first that was refused. Raises ValueError for garbage."""
    try:
        (count,) = struct.unpack_from("<H", reply)
        starts = struct.unpack_from(f"<{count}H", reply, 2)
        found = []
        for place, (start, end) in enumerate(zip(starts, (*starts[1:], len(reply)), strict=True)):
            status, extended = reply[start + 2], reply[start + 3]
            if status:
                more = struct.unpack_from("<H", reply, start + 4)[0] if extended else None
                return TagRefused(place, _why(status, more))
            found.append(reply[start + 4 + 2 * extended : end])
    except (struct.error, IndexError) as error:
        raise ValueError(f"an answer that makes no sense: {reply[:40].hex()}") from error
    if len(found) != expected:
        raise ValueError(f"{len(found)} answers to {expected} services make no sense")
    return found


def registers(answer: bytes, count: int) -> list[int]:
    """What a read of `count` INT gave, as 0..65535. Raises ValueError."""
    if len(answer) != 2 + 2 * count or int.from_bytes(answer[:2], "little") != INT:
        raise ValueError(f"not {count} INT: {answer[:40].hex()}")
    return list(struct.unpack_from(f"<{count}H", answer, 2))


def _why(status: int, extended: int | None) -> str:
    known = REFUSALS.get((status, extended)) or REFUSALS.get((status, None))
    return known or f"CIP status {status:02X}h" + (f"/{extended:04X}h" if extended is not None else "")
