"""The things in the trays.

Coordinates are canvas pixels: twice the picture's, as in edge/cameras/pieces.py, whose pen draws here too.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from edge.cameras.pieces import Colour, Sprite
from tray.blank import Blank
from tray.rules import Item

LOOKS = 24  # angles at which a thing is drawn, over a whole turn

_PAINT: dict[str, Colour] = {
    "red": (70, 64, 178),
    "blue": (172, 112, 58),
    "yellow": (78, 178, 208),
    "black": (60, 56, 54),
    "white": (208, 213, 215),
    "": (0, 0, 0),
}
_ZINC, _BRASS, _STEEL = (186.0, 192.0, 194.0), (92.0, 168.0, 206.0), (150.0, 154.0, 158.0)


class Shape(NamedTuple):
    """How a thing is drawn and how much room it needs."""

    draw: Callable[[Blank, Colour], None]
    size: int  # side of its square
    bevel: float  # width of its rounded edge
    height: float  # how far it stands above the floor: length of its shadow
    gloss: float  # 0..1
    room: tuple[tuple[float, float], ...]  # (offset along its axis, radius) of circles that cover it
    turn: float = 180.0  # degrees to either side
    stray: float = np.inf  # from the middle of its compartment, at most


@cache
def sprite(item: Item, look: int) -> Sprite:
    """A whole thing at angle `look` of LOOKS."""
    return _finish(_draw(item), SHAPES[item.kind], look)


def broken_sprite(item: Item, look: int, chance: np.random.Generator) -> Sprite:
    """A screw that is bent, or anything else with a piece broken off."""
    blank = _draw(item)
    if item.kind == "screw":
        blank.bend(float(chance.choice([-1, 1]) * chance.uniform(32, 50)))
    else:
        blank.cut(_jagged(item, blank.size, chance))
    return _finish(blank, SHAPES[item.kind], look)


def angle_of(kind: str, look: int) -> float:
    """Degrees, anticlockwise."""
    return (look / LOOKS * 2 - 1) * SHAPES[kind].turn


def area_of(kind: str) -> int:
    """Size of a whole thing in pixels of the picture."""
    return int(sprite(Item(kind, "black" if kind == "clip" else ""), LOOKS // 2).body.sum() / 4)


def _draw(item: Item) -> Blank:
    shape = SHAPES[item.kind]
    blank = Blank(shape.size)
    shape.draw(blank, _PAINT[item.colour])
    return blank


def _finish(blank: Blank, shape: Shape, look: int) -> Sprite:
    blank.turn((look / LOOKS * 2 - 1) * shape.turn)
    blank.light(shape.bevel, shape.gloss)
    return blank.sprite(shape.height)


def _jagged(item: Item, size: int, chance: np.random.Generator) -> list[tuple[float, float]]:
    """A polygon that takes nearly half of the thing away on one side."""
    reach = sum(SHAPES[item.kind].room[-1]) * 0.1
    ys = np.linspace(0, size, 9)
    xs = size / 2 + reach + chance.uniform(-9, 9, 9)
    return [*zip(xs.tolist(), ys.tolist(), strict=True), (size, size), (size, 0)]


def _mix(colour: Colour, other: Colour, share: float) -> Colour:
    b, g, r = (c * (1 - share) + o * share for c, o in zip(colour, other, strict=True))
    return b, g, r


def _screw(pen: Blank, _: Colour) -> None:
    pen.box(34, 90, 164, 110, _STEEL, 2)
    pen.polygon([(164, 90), (188, 100), (164, 110)], _STEEL)
    for x in range(72, 168, 8):
        pen.line(x, 88, x + 5, 112, 3, (84, 88, 92))
        pen.line(x + 4, 88, x + 9, 112, 2, (196, 200, 202))
    pen.box(14, 76, 32, 124, _ZINC, 8)
    pen.box(24, 78, 34, 122, _ZINC, 2)
    pen.line(14, 100, 20, 100, 6, (60, 62, 66))


def _washer(pen: Blank, _: Colour) -> None:
    pen.disc(56, 56, 44, _ZINC)
    pen.disc(56, 56, 36, _mix(_ZINC, (255, 255, 255), 0.2))
    pen.disc(56, 56, 27, _ZINC)
    pen.hole(56, 56, 21)


def _nut(pen: Blank, _: Colour) -> None:
    corners = [(60 + 48 * np.cos(a), 60 + 48 * np.sin(a)) for a in np.arange(6) * np.pi / 3]
    pen.polygon(corners, _BRASS)
    pen.disc(60, 60, 39, _mix(_BRASS, (255, 255, 255), 0.18))
    pen.disc(60, 60, 27, _mix(_BRASS, (0, 0, 0), 0.45))
    pen.disc(60, 60, 23, _mix(_BRASS, (0, 0, 0), 0.2))
    pen.hole(60, 60, 20)


def _clip(pen: Blank, colour: Colour) -> None:
    pen.box(44, 42, 118, 78, colour, 8)
    pen.disc(42, 60, 34, colour)
    pen.line(80, 46, 80, 74, 3, _mix(colour, (128, 128, 128), 0.4))
    pen.hole(42, 60, 20)
    pen.hole(100, 60, 8)


def _cap(pen: Blank, colour: Colour) -> None:
    rim = _mix(colour, (0, 0, 0), 0.25)
    pen.disc(64, 64, 46, rim)
    for a in np.arange(24) * np.pi / 12:
        pen.disc(64 + 46 * np.cos(a), 64 + 46 * np.sin(a), 5, colour)
    pen.disc(64, 64, 38, rim)
    pen.disc(64, 64, 35, _mix(colour, (255, 255, 255), 0.12))
    pen.box(60, 34, 68, 94, _mix(colour, (0, 0, 0), 0.25), 3)
    pen.box(34, 60, 94, 68, _mix(colour, (0, 0, 0), 0.25), 3)


def _cable(pen: Blank, colour: Colour) -> None:
    for radius in (84, 76, 68, 60):
        for step, share in ((0, 0.35), (1.5, 0.12), (3, 0.0)):
            pen.disc(112, 112, radius - step, _mix(colour, (0, 0, 0), share))
        pen.disc(112, 112, radius - 4, _mix(colour, (255, 255, 255), 0.2))
        pen.disc(112, 112, radius - 5.5, colour)
    pen.hole(112, 112, 52)
    for a in (0.3, 2.4, 4.5):
        c, s = np.cos(a), np.sin(a)
        pen.line(112 + 50 * c, 112 + 50 * s, 112 + 86 * c, 112 + 86 * s, 8, _mix(colour, (60, 60, 60), 0.4))
    pen.box(84, 18, 116, 40, (78, 74, 72), 3)
    pen.box(74, 22, 86, 36, _STEEL, 2)


def _label(pen: Blank, colour: Colour) -> None:
    pen.box(20, 48, 180, 152, (216, 220, 220), 5)
    pen.box(20, 48, 180, 88, colour, 5)
    pen.box(20, 76, 180, 90, colour)
    bars = np.random.default_rng(7).integers(1, 4, 20)
    for x, width in zip(30 + np.cumsum(bars + 2.2), bars, strict=True):
        pen.box(float(x), 100, float(x + width), 128, (54, 52, 52))
    pen.text(30, 146, "KIT 27-B", 13, (40, 38, 38))
    pen.text(34, 78, "SET", 20, (244, 246, 246))


SHAPES = {
    "screw": Shape(
        _screw, 200, 9, 6, 1.0, tuple((float(x), 26.0 if x < -60 else 13.0) for x in range(-74, 90, 16)), 35.0
    ),
    "washer": Shape(_washer, 112, 5, 3, 0.8, ((0.0, 44.0),)),
    "nut": Shape(_nut, 120, 8, 8, 0.8, ((0.0, 46.0),)),
    "clip": Shape(_clip, 120, 9, 8, 0.5, ((-18.0, 34.0), (14.0, 22.0), (38.0, 22.0)), 60.0),
    "cap": Shape(_cap, 128, 9, 11, 0.7, ((0.0, 51.0),)),
    "cable": Shape(_cable, 224, 5, 8, 0.4, ((0.0, 88.0), (-26.0, 94.0)), 40.0, 36.0),
    "label": Shape(_label, 200, 2, 1.5, 0.0, ((-50.0, 52.0), (0.0, 56.0), (50.0, 52.0)), 10.0, 36.0),
}
