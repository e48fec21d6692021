"""Self-made anomalies on good pictures: a signal for comparing two engines, never a test figure."""

from collections.abc import Iterator

import cv2
import numpy as np

from edge.frame import Pixels


def make_anomalies(images: Pixels, seed: int = 0) -> Pixels:
    """Two damaged copies of each picture, a moved patch and a scratch: (N, H, W, 3) -> (2 N, H, W, 3)."""
    return np.stack(list(each_anomaly(images, seed)))


def each_anomaly(images: Pixels, seed: int = 0) -> Iterator[Pixels]:
    """The same one by one, (H, W, 3): hundreds of large pictures need not be there at once."""
    rng = np.random.default_rng(seed)
    yield from (damage(image, rng) for damage in (_moved_patch, _scratch) for image in images)


def _moved_patch(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A patch of 5 to 20 % of the side, copied to another place (CutPaste, arXiv 2104.04015)."""
    height, width = image.shape[:2]
    h, w = (int(side * rng.uniform(0.05, 0.2)) for side in (height, width))
    (y, to_y), (x, to_x) = rng.integers(0, height - h, 2), rng.integers(0, width - w, 2)
    damaged = image.copy()
    damaged[to_y : to_y + h, to_x : to_x + w] = image[y : y + h, x : x + w]
    return damaged


def _scratch(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A thin straight line, clearly lighter or darker than what it crosses."""
    side = min(image.shape[:2])
    start = rng.uniform(0.2, 0.8, 2) * image.shape[1::-1]
    angle, length = rng.uniform(0, 2 * np.pi), side * rng.uniform(0.1, 0.3)
    end = start + length * np.array([np.cos(angle), np.sin(angle)])
    damaged = image.copy()
    grey = int(np.clip(image[int(start[1]), int(start[0])].mean() + rng.choice([-70, 70]), 0, 255))
    ends = [tuple(int(v) for v in point) for point in (start, end)]
    cv2.line(damaged, ends[0], ends[1], (grey, grey, grey), max(1, side // 128), cv2.LINE_AA)
    return damaged
