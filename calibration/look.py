"""What one picture's pixels say before any network has seen them: size, light, sharpness, likeness."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Pixels
from edge.picture.health import BRIGHT, is_blank
from edge.picture.images import read_image
from edge.picture.preprocess import preprocess
from edge.picture.view import View

SMALL = 64  # pixels a side: noise and compression are averaged away, another part is still another picture

Thumbnails = npt.NDArray[np.float32]  # (N, SMALL * SMALL), grey levels


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One readable picture. Sizes are the file's; all else is of the pixels that the view looks at."""

    path: Path
    size: tuple[int, int]  # height, width in pixels
    digest: bytes  # sha256 of the file
    blank: bool  # nothing to see: edge.picture.health.is_blank
    level: float  # mean grey level, 0..255
    darkest: float  # grey level of the darkest hundredth
    brightest: float  # grey level of the brightest hundredth
    saturated: float  # share of pixels at the upper end of all three channels
    sharpness: float  # variance of the Laplacian over that of the grey levels: the light cancels out
    small: npt.NDArray[np.float32]  # (SMALL * SMALL,), grey levels


def look_at(path: Path, view: View | None = None) -> Look:
    """Read and measure one picture. Raises DataError where it cannot be read or does not fit the view."""
    pixels, view = read_image(path), view or View((SMALL, SMALL))
    part = np.ascontiguousarray(view.window(pixels, view.pose(pixels)))
    shown = view.masked(part)  # raises where the mask does not fit
    edges = cv2.Laplacian(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), cv2.CV_32F)  # unmasked: its rim is no edge
    if view.mask is not None:
        part, edges = _block(part[view.mask > 0]), edges[view.mask > 0]
    grey = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    darkest, brightest = np.quantile(grey, [0.01, 0.99])
    return Look(
        path=path,
        size=(pixels.shape[0], pixels.shape[1]),
        digest=_digest(path),
        blank=is_blank(part),
        level=float(grey.mean()),
        darkest=float(darkest),
        brightest=float(brightest),
        saturated=float((part.min(axis=2) >= BRIGHT).mean()),
        sharpness=float(edges.var() / max(float(grey.var()), 1.0)),
        small=thumbnails([shown], view.mask)[0],
    )


def thumbnails(pictures: Iterable[Pixels], seen: npt.NDArray[np.generic] | None = None) -> Thumbnails:
    """Pictures uint8 (H, W, 3), of any sizes -> small grey ones, each with its own mean taken off.

    With `seen` (h, w) what is 0 there counts for nothing, and the rest for as much more: `differences` are
    then those of what is looked at.
    """
    rows = [cv2.cvtColor(preprocess(p, (SMALL, SMALL)), cv2.COLOR_BGR2GRAY).ravel() for p in pictures]
    grey = np.array(rows, np.float32).reshape(-1, SMALL * SMALL)
    weights = np.ones(SMALL * SMALL, np.float32) if seen is None else _weights(seen)
    centred: Thumbnails = (grey - np.average(grey, axis=1, weights=weights)[:, None]) * np.sqrt(weights)
    return centred


def _weights(seen: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """How much of each small pixel is looked at, (SMALL * SMALL,), with a mean of 1."""
    shares = cv2.resize((seen > 0).astype(np.float32), (SMALL, SMALL), interpolation=cv2.INTER_AREA).ravel()
    weights: npt.NDArray[np.float32] = shares / shares.mean()
    return weights


def _block(colours: Pixels) -> Pixels:
    """Pixels (N, 3) in rows, as a picture that is about as wide as high; less than one row is left out."""
    width = math.isqrt(len(colours))
    return colours[: len(colours) // width * width].reshape(-1, width, 3)


def differences(small: Thumbnails, others: Thumbnails) -> npt.NDArray[np.float32]:
    """How far pictures are apart: root mean square in grey levels, (N, d) and (M, d) -> (N, M)."""
    squares = (small**2).sum(1)[:, None] + (others**2).sum(1) - 2 * small @ others.T
    apart: npt.NDArray[np.float32] = np.sqrt(np.maximum(squares, 0) / small.shape[1])
    return apart


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
