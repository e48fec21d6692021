"""What the simulated product is made of: a circuit board on a brushed plate, and the pieces placed on it.

Everything here is drawn once per process and never changes. Coordinates are canvas pixels: the canvas is
twice as large as the picture (shrinking is the anti-aliasing), and shapes are drawn twice as large again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

CANVAS = 640  # pixels, square
PLATE = (56, 88, 584, 552)  # x0, y0, x1, y1
BOARD = (96, 124, 544, 516)
TURNS = 12  # a screw head may stop at any angle: so many are drawn

Float = npt.NDArray[np.float32]
Colour = tuple[float, float, float]  # B, G, R


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A piece with its soft shadow, ready to be laid on the canvas."""

    colour: Float  # (h, w, 3), 0..255, premultiplied by the piece's own alpha
    keep: Float  # (h, w, 1), 0..1: how much of the ground stays visible, shadow included
    body: Float  # (h, w), 0..1: the piece without its shadow


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece belongs; `radius` is the circle that it needs for itself."""

    piece: str
    x: int
    y: int
    radius: int


PLACES = (
    Place("screw", 132, 160, 20),
    Place("screw", 508, 160, 20),
    Place("screw", 132, 480, 20),
    Place("screw", 508, 480, 20),
    Place("chip", 320, 286, 78),
    Place("red_cap", 178, 262, 38),
    Place("blue_cap", 178, 358, 38),
    Place("coil", 458, 370, 46),
    Place("connector", 300, 456, 92),
    Place("label", 314, 168, 92),
    Place("driver", 456, 262, 42),
)
SWAPS = (("red_cap", "blue_cap"), ("red_cap", "coil"), ("blue_cap", "coil"), ("coil", "driver"))


class Pen:
    """Draws on a square at twice the canvas scale; `mask` is where the piece is."""

    SCALE = 2

    def __init__(self, size: int) -> None:
        side = size * self.SCALE
        self.size = size
        self.bgr = np.zeros((side, side, 3), np.uint8)
        self.mask = np.zeros((side, side), np.uint8)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        for plane, value in ((self.bgr, colour), (self.mask, 255.0)):
            cv2.circle(plane, self._at(x, y), round(radius * self.SCALE * 16), value, -1, cv2.LINE_AA, 4)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, corner: float = 0) -> None:
        """A filled rectangle with round corners."""
        c = corner
        for inset_x, inset_y in ((c, 0.0), (0.0, c)):
            first, last = (x0 + inset_x, y0 + inset_y), (x1 - inset_x, y1 - inset_y)
            for plane, value in ((self.bgr, colour), (self.mask, 255.0)):
                cv2.rectangle(plane, self._at(*first), self._at(*last), value, -1, cv2.LINE_AA, 4)
        for x in (x0 + c, x1 - c):
            for y in (y0 + c, y1 - c):
                self.disc(x, y, c, colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> None:
        """A thick line inside what is already drawn."""
        thickness = max(1, round(width * self.SCALE))
        cv2.line(self.bgr, self._at(x0, y0), self._at(x1, y1), colour, thickness, cv2.LINE_AA, 4)

    def text(self, x: float, y: float, text: str, height: float, colour: Colour) -> None:
        """Print on what is already drawn; (x, y) is the lower left corner."""
        size = height * self.SCALE / 22.0  # the font is 22 pixels high at size 1
        origin = (round(x * self.SCALE), round(y * self.SCALE))
        cv2.putText(self.bgr, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 2, cv2.LINE_AA)

    def shade(self, strength: float) -> None:
        """Light from the upper left: brighter there, darker at the lower right."""
        ramp = np.linspace(1 + strength, 1 - strength, len(self.mask), dtype=np.float32)
        factor = (ramp[:, None] + ramp[None, :]) / 2
        self.bgr[:] = np.clip(self.bgr * factor[..., None], 0, 255).astype(np.uint8)

    def sprite(self, height: float) -> Sprite:
        """Shrink to canvas scale and add the shadow of a piece that stands `height` pixels tall."""
        alpha = np.asarray(_shrink(self.mask) / 255, np.float32)
        colour = _shrink(self.bgr) * alpha[..., None]
        shift = np.array([[1, 0, height * 0.6], [0, 1, height * 0.8]], np.float32)
        fallen = cv2.GaussianBlur(cv2.warpAffine(alpha, shift, alpha.shape[::-1]), (0, 0), 1 + height * 0.35)
        keep = (1 - alpha) * (1 - 0.55 * fallen)
        return Sprite(np.asarray(colour, np.float32), np.asarray(keep[..., None], np.float32), alpha)

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self.SCALE * 16), round(y * self.SCALE * 16)


@cache
def sprites(piece: str) -> tuple[Sprite, ...]:
    """The looks of a piece: one, or one for each angle at which a screw may stop."""
    if piece == "screw":
        return tuple(_screw(np.pi / 2 * turn / TURNS) for turn in range(TURNS))
    return (_DRAW[piece](),)


def _shrink(plane: npt.NDArray[np.uint8]) -> Float:
    side = plane.shape[0] // Pen.SCALE
    return np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _screw(angle: float) -> Sprite:
    pen = Pen(56)
    pen.disc(28, 28, 16, (120, 124, 128))
    pen.disc(28, 28, 14, (196, 200, 204))
    pen.disc(26, 26, 9, (222, 225, 228))
    for turn in (angle, angle + np.pi / 2):
        dx, dy = 9 * np.cos(turn), 9 * np.sin(turn)
        pen.line(28 - dx, 28 - dy, 28 + dx, 28 + dy, 4, (52, 54, 58))
    pen.shade(0.15)
    return pen.sprite(5)


def _chip() -> Sprite:
    pen = Pen(168)
    for i in range(9):
        at = 40 + i * 11
        for x0, y0, x1, y1 in ((at - 3, 24, at + 3, 144), (24, at - 3, 144, at + 3)):
            pen.box(x0, y0, x1, y1, (190, 196, 200), 1)
    pen.box(34, 34, 134, 134, (46, 43, 42), 5)
    pen.box(38, 38, 130, 130, (58, 54, 52), 4)
    pen.disc(50, 50, 5, (38, 35, 34))
    pen.text(52, 84, "EI-320", 14, (190, 192, 190))
    pen.text(52, 106, "2611 A", 11, (160, 162, 160))
    pen.shade(0.12)
    return pen.sprite(6)


def _driver() -> Sprite:
    pen = Pen(96)
    for i in range(4):
        at = 24 + i * 16
        pen.box(at - 3, 18, at + 3, 78, (190, 196, 200), 1)
    pen.box(14, 28, 82, 68, (62, 58, 56), 4)
    pen.box(17, 31, 79, 65, (76, 71, 68), 3)
    pen.disc(24, 58, 4, (48, 44, 43))
    pen.text(32, 54, "T7", 14, (180, 182, 180))
    pen.shade(0.12)
    return pen.sprite(5)


def _cap(body: Colour, sleeve: Colour) -> Sprite:
    pen = Pen(104)
    pen.disc(52, 52, 34, sleeve)
    pen.disc(52, 52, 29, body)
    pen.disc(48, 47, 20, (body[0] * 0.7 + 76, body[1] * 0.7 + 76, body[2] * 0.7 + 76))
    pen.disc(52, 51, 20, body)
    for dx, dy in ((18, 0), (0, 18)):
        pen.line(52 - dx, 52 - dy, 52 + dx, 52 + dy, 2.5, sleeve)
    pen.shade(0.22)
    return pen.sprite(11)


def _coil() -> Sprite:
    pen = Pen(124)
    pen.disc(62, 62, 42, (46, 84, 150))
    for turn in np.linspace(0, 2 * np.pi, 32, endpoint=False):
        dx, dy = np.cos(turn), np.sin(turn)
        pen.line(62 + 19 * dx, 62 + 19 * dy, 62 + 41 * dx, 62 + 41 * dy, 3.5, (70, 130, 214))
    pen.disc(62, 62, 18, (38, 40, 40))
    pen.disc(62, 62, 14, (60, 62, 62))
    pen.shade(0.2)
    return pen.sprite(9)


def _connector() -> Sprite:
    pen = Pen(208)
    pen.box(20, 76, 188, 132, (186, 204, 212), 5)
    pen.box(26, 82, 182, 126, (206, 222, 230), 4)
    for i in range(6):
        x = 42 + i * 25
        pen.box(x - 7, 94, x + 7, 114, (92, 104, 110), 2)
        pen.box(x - 3, 98, x + 3, 110, (80, 190, 224), 1)
    pen.box(92, 126, 116, 136, (160, 178, 186), 1)
    pen.shade(0.1)
    return pen.sprite(10)


def _label() -> Sprite:
    pen = Pen(208)
    pen.box(22, 80, 186, 128, (240, 243, 243), 3)
    bars = np.random.default_rng(7).integers(1, 4, 24)
    for x, width in zip(32 + np.cumsum(bars + 1.2), bars, strict=True):
        pen.box(float(x), 86, float(x + width * 0.8), 108, (32, 30, 30))
    pen.text(34, 123, "SN 0042 EDGE", 10, (40, 38, 38))
    pen.box(136, 86, 178, 122, (70, 150, 60), 3)
    pen.text(142, 110, "OK", 15, (240, 244, 240))
    return pen.sprite(1)


_DRAW: dict[str, Callable[[], Sprite]] = {
    "chip": _chip,
    "driver": _driver,
    "red_cap": lambda: _cap((58, 52, 206), (40, 34, 128)),
    "blue_cap": lambda: _cap((198, 124, 46), (120, 66, 24)),
    "coil": _coil,
    "connector": _connector,
    "label": _label,
}
