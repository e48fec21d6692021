"""What belongs into the tray, and the ways in which a packer gets it wrong.

+-----------+---------------+-----------+      The cap, the cable and the label of one tray
| 4 washers |   3 screws    |   label   |      have the same colour: red, blue or yellow.
+-----------+---------------+-----------+      All of a kind look alike; two clips are black,
| cap,      |    cable      | 2 black   |      one is white. Place and angle within a
| 2 nuts    |               | clips, 1  |      compartment are free.
|           |               | white     |
+-----------+---------------+-----------+
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

COLOURS = ("red", "blue", "yellow")
COLOURED = ("cap", "cable", "label")  # have the tray's colour
WASHERS, SCREWS, LABEL, CAP, CABLE, CLIPS = range(6)  # compartments, by rows
T = TypeVar("T")


class Item(NamedTuple):
    """One thing in a compartment; `wrong` where the packer's mistake is seen."""

    kind: str
    colour: str = ""
    wrong: bool = False


@dataclass(slots=True)
class Packing:
    """What lies in the six compartments, and what is wrong with it."""

    cells: list[list[Item]]
    defect: str = ""  # one of the names in DEFECTS, or empty
    lacking: int | None = None  # the compartment in which something is missed


def good_packing(chance: np.random.Generator) -> Packing:
    """A tray as it has to be, of any colour."""
    colour = _any(chance, COLOURS)
    clips = [Item("clip", "black"), Item("clip", "black"), Item("clip", "white")]
    return Packing(
        [
            [Item("washer")] * 4,
            [Item("screw")] * 3,
            [Item("label", colour)],
            [Item("cap", colour), Item("nut"), Item("nut")],
            [Item("cable", colour)],
            clips,
        ]
    )


def broken_rules(packing: Packing) -> list[str]:
    """The rules that a tray breaks, in words; empty for a good one."""
    cells = packing.cells
    wanted = good_packing(np.random.default_rng(0)).cells
    broken = []
    for cell, (found, right) in enumerate(zip(cells, wanted, strict=True)):
        if Counter(i.kind for i in found) != Counter(i.kind for i in right):
            broken.append(f"contents of compartment {cell}")
    if len({i.colour for cell in cells for i in cell if i.kind in COLOURED}) != 1:
        broken.append("one colour")
    if Counter(i.colour for cell in cells for i in cell if i.kind == "clip") != {"black": 2, "white": 1}:
        broken.append("two black clips and a white one")
    return broken


def _any(chance: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(chance.integers(len(choices)))]


def _miscount(packing: Packing, chance: np.random.Generator) -> None:
    """One of the counted things too few or too many."""
    cell = _any(chance, (WASHERS, SCREWS))
    kind = packing.cells[cell][0].kind
    packing.defect = f"count_{kind}"
    if chance.random() < 0.5:
        packing.cells[cell].pop()
        packing.lacking = cell
    else:
        packing.cells[cell] = [Item(kind, "", True)] * (len(packing.cells[cell]) + 1)


def _forget(packing: Packing, chance: np.random.Generator) -> None:
    """One of the single things is not there."""
    cell = packing.lacking = _any(chance, (LABEL, CAP, CABLE))
    packing.defect = f"missing_{packing.cells[cell].pop(0).kind}"


def _add(packing: Packing, chance: np.random.Generator) -> None:
    """Something lies in a compartment in addition to what belongs there."""
    extra, cells = _any(chance, _SURPLUS)
    item = extra if extra.kind not in COLOURED else Item(extra.kind, packing.cells[LABEL][0].colour, True)
    packing.cells[_any(chance, cells)].append(item)
    packing.defect = "surplus"


def _misplace(packing: Packing, chance: np.random.Generator) -> None:
    """Two things have changed places."""
    first, second = _any(chance, _TRADES)
    a, b = packing.cells[first[0]], packing.cells[second[0]]
    i, k = (_index(cell, kind) for cell, kind in ((a, first[1]), (b, second[1])))
    a[i], b[k] = b[k]._replace(wrong=True), a[i]._replace(wrong=True)
    packing.defect = "position"


def _mismatch(packing: Packing, chance: np.random.Generator) -> None:
    """One of the three coloured things belongs to a tray of another colour."""
    odd = _any(chance, COLOURED)
    packing.defect = f"combination_{odd}"
    for cell in packing.cells:
        for i, item in enumerate(cell):
            if item.kind in COLOURED:
                other = [c for c in COLOURS if c != item.colour]
                colour = _any(chance, other) if item.kind == odd else item.colour
                cell[i] = item._replace(colour=colour, wrong=True)


def _recolour(packing: Packing, chance: np.random.Generator) -> None:
    """A clip of the other colour: a second white one, or a third black one."""
    colours = _any(chance, (("black", "white", "white"), ("black", "black", "black")))
    excess = max(set(colours), key=colours.count)
    packing.cells[CLIPS] = [Item("clip", c, c == excess) for c in colours]
    packing.defect = "colour_clip"


def _index(cell: list[Item], kind: str) -> int:
    return next(i for i, item in enumerate(cell) if item.kind == kind)


_SURPLUS = [  # what, and where it may come to lie
    (Item("nut", "", True), (WASHERS, CLIPS, CAP, SCREWS)),
    (Item("washer", "", True), (CAP, CLIPS, SCREWS)),
    (Item("clip", "black", True), (CAP, WASHERS, CLIPS)),
    (Item("clip", "white", True), (CAP, WASHERS, CLIPS)),
    (Item("cap", "", True), (CAP, WASHERS, CLIPS)),
]
_TRADES = [  # (compartment, kind) for each of the two
    ((WASHERS, "washer"), (CAP, "nut")),
    ((WASHERS, "washer"), (CLIPS, "clip")),
    ((CAP, "nut"), (CLIPS, "clip")),
    ((WASHERS, "washer"), (CAP, "cap")),
    ((CLIPS, "clip"), (CAP, "cap")),
    ((LABEL, "label"), (CABLE, "cable")),
]

MISTAKES: dict[str, Callable[[Packing, np.random.Generator], None]] = {
    "count": _miscount,
    "missing": _forget,
    "surplus": _add,
    "position": _misplace,
    "combination": _mismatch,
    "colour": _recolour,
}
