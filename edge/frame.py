"""What travels through the station before it is judged: Shot -> Frame -> Inspection.

All times are `time.monotonic_ns()`: wall clocks step, and a step must never make an old frame young.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.trigger import UNASKED, Request

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), BGR, as OpenCV gives them
AnomalyMap = npt.NDArray[np.float32]  # (h, w) of the model's input; larger is worse; not bounded


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One picture as a camera gives it; it has no time or number of its own yet."""

    pixels: Pixels
    device_ns: int | None = None  # the camera's own clock, where it has one; never compared with ours
    label: str | None = None  # what the source knows (file name, simulated defect): shown, never judged by
    begun_ns: int | None = None  # monotonic: from here on a camera that runs by itself may have exposed
    taken_ns: int | None = None  # monotonic, where the source can tell; else the time after the read counts


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A shot that the station has accepted. Ids rise by one and are never used again."""

    id: int
    source: str  # camera URI without password
    captured_ns: int  # taken after the read returned, so that it is never too young
    pixels: Pixels  # read-only
    device_ns: int | None = None
    part_id: int | None = None
    label: str | None = None
    request: int | None = None  # number of the Request that it answers
    before: Pixels | None = None  # that a live camera gave, judged or not: a frozen one repeats it


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What the model says about one frame."""

    frame_id: int
    score: float  # larger is worse; the recipe's thresholds are on this scale
    anomaly_map: AnomalyMap
    model_sha256: str
    preprocess_ns: int
    infer_ns: int


def make_frame(
    shot: Shot,
    frame_id: int,
    source: str,
    captured_ns: int,
    request: Request = UNASKED,
    before: Pixels | None = None,
) -> Frame:
    """Stamp a shot. The pixels become read-only: three threads see them."""
    shot.pixels.flags.writeable = False
    return Frame(
        frame_id,
        source,
        captured_ns,
        shot.pixels,
        shot.device_ns,
        request.part_id,
        shot.label,
        request.number,
        before,
    )


def no_frame(frame_id: int, source: str, now_ns: int, request: Request = UNASKED) -> Frame:
    """Stand for the picture that did not come, so that "blind" is judged on the same way as everything."""
    return make_frame(Shot(np.empty((0, 0, 3), np.uint8)), frame_id, source, now_ns, request)
