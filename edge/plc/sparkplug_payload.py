"""The Sparkplug B payload on the wire: the few protobuf fields that a station needs, written and read. Pure.

    Payload   1 timestamp  2 metrics*  3 seq
    Metric    1 name  3 timestamp  4 datatype  5 is_historical  7 is_null
              10 int  11 long  12 float  13 double  14 boolean  15 string

Field numbers and datatypes: Sparkplug 3.0 specification, chapter 6. Every field is a tag (number << 3 | kind)
and its value: kind 0 a varint, 1 eight bytes, 2 a length and so many bytes, 5 four bytes. What is not in the
list is skipped when read.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from edge.errors import InspectError

VARINT, EIGHT_BYTES, SIZED, FOUR_BYTES = 0, 1, 2, 5
U64 = 2**64
LONGEST_PAYLOAD = 64 * 1024  # a command is a few dozen bytes

Value = bool | int | float | str | None


class Datatype(IntEnum):
    """Of the metrics that we write."""

    INT32 = 3
    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}  # datatype that somebody may write -> bits of two's complement


@dataclass(frozen=True, slots=True)
class Metric:
    """One named value; `at_ms` is UTC in milliseconds, None where the payload's time holds."""

    name: str
    datatype: int  # a Datatype; any number where it came from outside
    value: Value
    at_ms: int | None = None
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Payload:
    """`seq` is 0..255; None in NDEATH and in commands."""

    at_ms: int
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None


def encode(payload: Payload) -> bytes:
    """The bytes of a message."""
    data = _number(1, payload.at_ms) + b"".join(_sized(2, _metric(each)) for each in payload.metrics)
    return data if payload.seq is None else data + _number(3, payload.seq)


def decode(data: bytes, where: str) -> Payload:
    """Read what somebody sent. Raises InspectError for bytes that are no Sparkplug payload."""
    try:
        if len(data) > LONGEST_PAYLOAD:
            raise ValueError(f"{len(data)} bytes are too many")
        return _payload(data)
    except (ValueError, struct.error) as error:  # UnicodeDecodeError is a ValueError
        raise InspectError(
            f"not a Sparkplug B payload: {error}", where, "Send Sparkplug B, protobuf."
        ) from error


def _metric(metric: Metric) -> bytes:
    data = _sized(1, metric.name.encode())
    if metric.at_ms is not None:
        data += _number(3, metric.at_ms)
    data += _number(4, metric.datatype)
    if metric.historical:
        data += _number(5, 1)
    return data + (_number(7, 1) if metric.value is None else _value(metric.datatype, metric.value))


def _value(datatype: int, value: bool | int | float | str) -> bytes:
    match datatype:
        case Datatype.STRING:
            return _sized(15, str(value).encode())
        case Datatype.BOOLEAN:
            return _number(14, int(value))
        case Datatype.DOUBLE:
            return _tag(13, EIGHT_BYTES) + struct.pack("<d", value)
        case Datatype.INT64:
            return _number(11, int(value) % U64)
    return _number(10, int(value) % 2**32)


def _number(field: int, value: int) -> bytes:
    return _tag(field, VARINT) + _varint(value)


def _sized(field: int, data: bytes) -> bytes:
    return _tag(field, SIZED) + _varint(len(data)) + data


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    """Seven bits a byte, low ones first; the high bit says that more follow."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*data, value))


def _payload(data: bytes) -> Payload:
    at_ms, seq, metrics = 0, None, []
    for field, value in _fields(data):
        match field, value:
            case 1, int():
                at_ms = value
            case 2, bytes():
                metrics.append(_read_metric(value))
            case 3, int():
                seq = value
    return Payload(at_ms, tuple(metrics), seq)


def _read_metric(data: bytes) -> Metric:
    found = dict(_fields(data))
    name, datatype, at_ms = (found.get(field) for field in (1, 4, 3))
    if not isinstance(name, bytes):
        raise ValueError("a metric without a name")
    kind = datatype if isinstance(datatype, int) else 0
    value = None if found.get(7) else _read_value(kind, found)
    return Metric(name.decode(), kind, value, at_ms if isinstance(at_ms, int) else None, bool(found.get(5)))


def _read_value(datatype: int, found: dict[int, int | bytes]) -> Value:
    """The one value field that is there; None where there is none that we know."""
    for field in (10, 11, 12, 13, 14, 15):
        match field, found.get(field):
            case ((10 | 11), int(number)):
                bits = SIGNED_BITS.get(datatype, 65)
                number %= 1 << bits
                return number - (1 << bits) if number >> (bits - 1) else number
            case 12, bytes(raw):
                return float(struct.unpack("<f", raw)[0])
            case 13, bytes(raw):
                return float(struct.unpack("<d", raw)[0])
            case 14, int(number):
                return bool(number)
            case 15, bytes(raw):
                return raw.decode()
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, varint or bytes) one after the other. Raises ValueError where the bytes end early."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            number, at = _read_varint(data, at)
            yield tag >> 3, number
            continue
        if kind == SIZED:
            size, at = _read_varint(data, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"field kind {kind}")
        if size > len(data) - at:
            raise ValueError(f"ends within field {tag >> 3}")
        yield tag >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("ends within a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value % U64, at
    raise ValueError("a number of more than 64 bits")
