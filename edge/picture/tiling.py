"""A large picture as overlapping tiles of the engine's size, and their maps as one map without a seam.

+---------+--+---------+
|         |//|         |    neighbours share at least an eighth of a tile; there their maps change places
+---------+--+---------+    smoothly, so that neither's edge is seen
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edge.frame import AnomalyMap, Pixels

LARGE = 1024  # pixels of the longer side: up to here an engine with a larger input does as well
MOST_TILES = 32  # a picture costs this many inferences at most, and its canvas about 14 MB at 384 pixels
OVERLAP = (
    1 / 8
)  # of a tile's side, at least: a defect on a border lies whole in one of the two, unless larger

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)  # no slots: corners and weights are computed once
class Tiling:
    """Where the tiles lie on a canvas; both sizes are (height, width)."""

    canvas: tuple[int, int]
    tile: tuple[int, int]

    @cached_property
    def corners(self) -> list[tuple[int, int]]:
        """(y, x) of every tile, row by row; the outer ones touch the canvas's edges."""
        rows, columns = (_starts(whole, side) for whole, side in zip(self.canvas, self.tile, strict=True))
        return [(y, x) for y in rows for x in columns]

    @cached_property
    def weights(self) -> Weights:
        """(h, w): how much a tile's map counts, 1 in its middle and falling smoothly towards its edges."""
        return np.asarray(np.outer(*(_ramp(side) for side in self.tile)), np.float32)

    def cut(self, picture: Pixels, chosen: list[int] | None = None) -> Pixels:
        """(H, W, ...) of the canvas -> (tiles, h, w, ...), of all tiles or the chosen ones."""
        return np.stack([picture[place] for place in self._places(chosen)])

    def join(self, maps: AnomalyMap, chosen: list[int] | None = None) -> AnomalyMap:
        """Maps (tiles, h, w) -> one map (H, W): the weighted mean of the tiles, 0 where there is none."""
        total, weight = np.zeros(self.canvas, np.float32), np.zeros(self.canvas, np.float32)
        for tile, place in zip(maps, self._places(chosen), strict=True):
            total[place] += tile * self.weights
            weight[place] += self.weights
        return np.divide(total, weight, out=total, where=weight > 0)

    def _places(self, chosen: list[int] | None) -> list[tuple[slice, slice]]:
        height, width = self.tile
        corners = self.corners if chosen is None else [self.corners[i] for i in chosen]
        return [(slice(y, y + height), slice(x, x + width)) for y, x in corners]


def canvas_for(picture: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    """The picture's size (height, width), halved until MOST_TILES tiles cover it; never below a tile."""
    canvas = (max(picture[0], tile[0]), max(picture[1], tile[1]))
    while len(Tiling(canvas, tile).corners) > MOST_TILES:
        canvas = (max(-(-canvas[0] // 2), tile[0]), max(-(-canvas[1] // 2), tile[1]))
    return canvas


def _starts(whole: int, side: int) -> list[int]:
    """Evenly spaced starts of the fewest tiles that cover `whole` pixels and overlap enough."""
    stride = side - round(side * OVERLAP)
    count = 1 + -(-(whole - side) // stride)
    return [round(start) for start in np.linspace(0, whole - side, count).tolist()]


def _ramp(side: int) -> npt.NDArray[np.float64]:
    """(side,): a smooth step up over the overlap, and down again; never quite 0."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    x = np.minimum(distance / (side * OVERLAP), 1.0)
    return np.asarray(x * x * (3 - 2 * x), np.float64)
