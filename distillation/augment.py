"""Light augmentation that keeps a good part good: what a camera and a fixture do, nothing that moves pieces
against each other. Flips and quarter turns would make a mirrored part normal, so flips are only on request.
"""

import cv2
import numpy as np

from edge.frame import Pixels

# Our choice, small enough that a part moved this far would not be called misplaced by a person.
MAX_SHIFT = 0.015  # of the picture's side
MAX_TURN_DEGREES = 1.0
MAX_GAIN = 0.06
MAX_OFFSET = 5.0  # grey levels


def augment(pixels: Pixels, rng: np.random.Generator, flips: bool = False) -> Pixels:
    """One light variation of a picture: uint8 (H, W, 3) -> uint8 (H, W, 3)."""
    h, w = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(-1, 1) * MAX_TURN_DEGREES, 1.0)
    turn[:, 2] += rng.uniform(-1, 1, 2) * MAX_SHIFT * (w, h)
    moved = cv2.warpAffine(pixels, turn, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    gain, offset = 1 + rng.uniform(-1, 1) * MAX_GAIN, rng.uniform(-1, 1) * MAX_OFFSET
    lit = np.clip(moved.astype(np.float32) * gain + offset, 0, 255).round().astype(np.uint8)
    if flips:
        lit = lit[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
    return np.ascontiguousarray(lit)


def with_variants(images: Pixels, variants: int, seed: int, flips: bool = False) -> Pixels:
    """The pictures and `variants` light variations of each: (N, H, W, 3) -> (N * (1 + variants), H, W, 3)."""
    rng = np.random.default_rng(seed)
    copies = [np.stack([augment(image, rng, flips) for image in images]) for _ in range(variants)]
    return np.concatenate([images, *copies])
