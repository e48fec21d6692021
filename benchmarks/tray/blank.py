"""A pen for things that lie about: drawn flat, turned, then lit: light comes from the upper left."""

import cv2
import numpy as np
import numpy.typing as npt

from edge.cameras.pieces import Colour, Pen


class Blank(Pen):
    """A pen that can also cut, turn and light what it has drawn."""

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """A filled polygon."""
        for plane, value in ((self.bgr, colour), (self.mask, 255.0)):
            cv2.fillPoly(plane, [self._corners(points)], value, cv2.LINE_AA, 4)

    def cut(self, points: list[tuple[float, float]]) -> None:
        """Take a polygon away."""
        cv2.fillPoly(self.mask, [self._corners(points)], 0, cv2.LINE_AA, 4)

    def hole(self, x: float, y: float, radius: float) -> None:
        """Take a disc away."""
        cv2.circle(self.mask, self._at(x, y), round(radius * self.SCALE * 16), 0, -1, cv2.LINE_AA, 4)

    def turn(self, degrees: float) -> None:
        """Turn about the middle."""
        side = len(self.mask)
        about = cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), degrees, 1.0)
        self.bgr, self.mask = (
            np.asarray(cv2.warpAffine(plane, about, (side, side)), np.uint8)
            for plane in (self.bgr, self.mask)
        )

    def bend(self, far: float) -> None:
        """Bend the right half sideways, `far` at the end."""
        y, x = np.mgrid[: len(self.mask), : len(self.mask)].astype(np.float32)
        reach = np.maximum(x / len(self.mask) - 0.4, 0) / 0.6
        source = np.asarray(y - far * self.SCALE * reach**2, np.float32)
        self.bgr, self.mask = (
            np.asarray(cv2.remap(plane, x, source, cv2.INTER_LINEAR), np.uint8)
            for plane in (self.bgr, self.mask)
        )

    def light(self, bevel: float, gloss: float) -> None:
        """Light on a rounded edge of this width: bright towards the upper left, and a glint where glossy."""
        lean = _lean(self.mask, bevel * self.SCALE)[..., None]
        lit = self.bgr * (1 + 0.55 * lean) + 170 * gloss * np.maximum(lean - 0.25, 0) ** 2
        self.bgr = np.clip(lit, 0, 255).astype(np.uint8)

    def _corners(self, points: list[tuple[float, float]]) -> npt.NDArray[np.int32]:
        return np.array([self._at(x, y) for x, y in points], np.int32)


def _lean(mask: npt.NDArray[np.uint8], bevel: float) -> npt.NDArray[np.float32]:
    """-1..1: how far the surface of a body with a round edge leans towards the light."""
    inside = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
    depth = 1 - np.minimum(inside / bevel, 1)
    height = cv2.GaussianBlur(np.sqrt(1 - depth**2) * bevel, (0, 0), 1.5)
    dx, dy = (
        cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    return np.asarray((0.6 * dx + 0.8 * dy) / np.sqrt(1 + dx**2 + dy**2), np.float32)
