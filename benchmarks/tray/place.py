"""Where things come to lie in a compartment: anywhere, at any angle, but never on top of each other."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tray.floor import CELLS
from tray.items import LOOKS, SHAPES, angle_of
from tray.rules import Item, Packing

_GAP, _MARGIN = 6, 10  # canvas pixels to the next thing, to the wall
_TRIES = 100  # places looked at for one thing, and beginnings for one compartment

Circles = npt.NDArray[np.float64]  # (N, 3): x, y, radius


class Laid(NamedTuple):
    """A thing as it lies in the tray; (x, y) is its middle."""

    item: Item
    x: int
    y: int
    look: int


def lay_out(packing: Packing, chance: np.random.Generator) -> list[Laid]:
    """A place for everything in the packing."""
    return [
        laid for items, box in zip(packing.cells, CELLS, strict=True) for laid in _fill(items, box, chance)
    ]


def _fill(items: list[Item], box: tuple[int, int, int, int], chance: np.random.Generator) -> list[Laid]:
    for _ in range(_TRIES):
        laid = _try_to_fill(items, box, chance)
        if laid is not None:
            return laid
    raise RuntimeError(f"no room for {items} in {box}")


def _try_to_fill(
    items: list[Item], box: tuple[int, int, int, int], chance: np.random.Generator
) -> list[Laid] | None:
    """The largest first; None where one finds no room."""
    taken, laid = np.zeros((0, 3)), []
    for item in sorted(items, key=lambda i: -SHAPES[i.kind].size):
        middle, half = np.add(box[:2], box[2:]) / 2, np.subtract(box[2:], box[:2]) / 2
        places = middle + chance.uniform(-1, 1, (_TRIES, 2)) * np.minimum(half, SHAPES[item.kind].stray)
        looks = chance.integers(0, LOOKS, _TRIES)
        circles = _circles(item.kind, places, looks)
        free = np.flatnonzero(_inside(circles, box) & _apart(circles, taken))
        if not len(free):
            return None
        x, y = places[free[0]].astype(int)
        laid.append(Laid(item, int(x), int(y), int(looks[free[0]])))
        taken = np.vstack([taken, circles[free[0]]])
    return laid


def _circles(kind: str, places: npt.NDArray[np.float64], looks: npt.NDArray[np.int64]) -> Circles:
    """(N, circles, 3): the room a thing would need at each place."""
    along, radius = np.array(SHAPES[kind].room).T
    angle = np.radians([angle_of(kind, int(look)) for look in looks])[:, None]
    x, y = places[:, :1] + along * np.cos(angle), places[:, 1:] - along * np.sin(angle)
    return np.stack([x, y, np.broadcast_to(radius, x.shape)], axis=2)


def _inside(circles: Circles, box: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    x, y, reach = circles[..., 0], circles[..., 1], circles[..., 2] + _MARGIN
    fits = (x - reach > box[0]) & (x + reach < box[2]) & (y - reach > box[1]) & (y + reach < box[3])
    return fits.all(axis=1)


def _apart(circles: Circles, taken: Circles) -> npt.NDArray[np.bool_]:
    far = np.hypot(circles[..., None, 0] - taken[:, 0], circles[..., None, 1] - taken[:, 1])
    return (far > circles[..., None, 2] + taken[:, 2] + _GAP).all(axis=(1, 2))
