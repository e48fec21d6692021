"""The register map as PLC programmers need it: a Siemens data block, and a table of places. Pure.

    python -m edge.plc.source > deploy/plc/edge_inspect.db
    python -m edge.plc.source --table

Tests compare what is printed with the files in deploy/plc and with docs/plc.md.
"""

import sys
from collections.abc import Iterator

from edge.plc.registers import (
    PLC_COUNT,
    PLC_REGISTERS,
    STATION_COUNT,
    STATION_REGISTERS,
    STATION_START,
    Register,
)

S7_TYPES = {"bits": "Word", "u16": "UInt", "u32": "UDInt", "f32": "Real", "ascii": "Array[0..31] of Char"}
HEAD = """\
// The register map of edge-inspect as a data block for S7-1200 and S7-1500.
// TIA Portal: External source files > Add new external file > Generate blocks from source. Give the block the
// number that the station's URI says (db=100) and leave optimized access off. Register r of docs/outputs.md
// stands at byte 2 r. Written by `python -m edge.plc.source`.
DATA_BLOCK "edge_inspect"
{ S7_Optimized_Access := 'FALSE' }
VERSION : 0.1
NON_RETAIN
   STRUCT
"""
TAIL = """\
   END_STRUCT;

BEGIN
END_DATA_BLOCK
"""


def data_block() -> str:
    """The source of the data block: 300 bytes, every register at twice its address."""
    gap = 2 * (STATION_START - PLC_COUNT)
    return (
        HEAD
        + _struct("PLC", "what the PLC writes", PLC_REGISTERS, 0, PLC_COUNT)
        + f"      reserve : Array[0..{gap - 1}] of Byte;\n"
        + _struct("STATION", "what the station writes", STATION_REGISTERS, STATION_START, STATION_COUNT)
        + TAIL
    )


def table() -> str:
    """Markdown: name, byte in the data block, S7 type, element of the tag."""
    rows = ["| Name | Byte of the DB | S7 type | Element of the tag |", "|---|---|---|---|"]
    for tag, start, registers in (
        ("EdgeInspect_Plc", 0, PLC_REGISTERS),
        ("EdgeInspect", STATION_START, STATION_REGISTERS),
    ):
        for r in registers:
            first = r.address - start
            last = f"..{first + r.words - 1}" if r.words > 1 else ""
            rows.append(f"| {r.name} | {2 * r.address} | {S7_TYPES[r.type]} | {tag}[{first}{last}] |")
    return "\n".join(rows) + "\n"


def _struct(name: str, meaning: str, registers: tuple[Register, ...], start: int, count: int) -> str:
    members = "".join(f"         {line}\n" for line in _members(registers, start, start + count))
    return f"      {name} : Struct   // {meaning}\n{members}      END_STRUCT;\n"


def _members(registers: tuple[Register, ...], at: int, end: int) -> Iterator[str]:
    for register in registers:
        yield from _gap(at, register.address)
        yield f"{register.name} : {S7_TYPES[register.type]};   // {2 * register.address}: {register.meaning}"
        at = register.address + register.words
    yield from _gap(at, end)


def _gap(at: int, until: int) -> Iterator[str]:
    if until > at:
        yield f"reserve_{at} : Array[0..{until - at - 1}] of Word;"


if __name__ == "__main__":
    print(table() if "--table" in sys.argv else data_block(), end="")
