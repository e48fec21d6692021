"""Can this picture be judged at all? Pure judgement, cheap enough for every frame."""

import numpy as np

from edge.frame import Pixels
from edge.verdict import Reason

DARK = 24  # grey levels: a picture without a pixel above it shows nothing; dark sensor noise stays below
BRIGHT = 250  # a picture without a pixel below it is washed out
FLAT = 2  # grey levels between the ends of every channel: only a decoder or a dead sensor gives less
STRAY = 0.005  # share of pixels at each end that do not count: hot pixels, a reflection
SAMPLES = 32  # pixels looked at along each side


def image_fault(pixels: Pixels, previous: Pixels | None) -> Reason | None:
    """FRAME_FROZEN, FRAME_BLANK, or None for a picture that shows something new.

    `pixels` and `previous` are uint8 (H, W, 3). Give `previous` only for live cameras: two sensor pictures
    are never equal byte for byte, two files may well be. A strong video codec can repeat a still scene
    exactly; such a stream looks frozen, and as nobody can tell the two apart, it is.
    """
    if previous is not None and is_same(pixels, previous):
        return Reason.FRAME_FROZEN
    return Reason.FRAME_BLANK if is_blank(pixels) else None


def age_fault(captured_ns: int, now_ns: int, max_age_ms: float) -> Reason | None:
    """FRAME_STALE when a picture is older than its limit before it is judged: it may show another part."""
    return Reason.FRAME_STALE if now_ns - captured_ns > max_age_ms * 1_000_000 else None


def is_same(pixels: Pixels, previous: Pixels) -> bool:
    """Equal in every byte; the whole picture is compared only when the samples are equal."""
    if pixels.shape != previous.shape or not np.array_equal(_sample(pixels), _sample(previous)):
        return False
    return np.array_equal(pixels, previous)


def is_blank(pixels: Pixels) -> bool:
    """All but black, all but white, or one colour; an empty picture is blank."""
    if not pixels.size:
        return True
    channels = np.sort(_sample(pixels).reshape(-1, 3).T, axis=1, kind="stable")  # (3, n); stable is fastest
    stray = int(channels.shape[1] * STRAY)
    low, high = channels[:, stray], channels[:, -1 - stray]
    return bool(high.max() <= DARK or low.min() >= BRIGHT or (high - low).max() < FLAT)


def _sample(pixels: Pixels) -> Pixels:
    """Evenly strided, at most about SAMPLES x SAMPLES pixels."""
    step_y, step_x = (max(1, side // SAMPLES) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[step_y // 2 :: step_y, step_x // 2 :: step_x])
