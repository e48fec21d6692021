"""The faults of the soak and when they come: drawn from seed and part number, so that a run can go on."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

EVERY = 150  # parts between two faults, on average
BAD_SHARE = 0.3


class Fault(Enum):
    """What goes wrong, and how often beside the others."""

    CAMERA_UNPLUGGED = "camera unplugged", 3
    CAMERA_FROZEN = "camera frozen", 6
    CAMERA_BLACK = "camera black", 6
    CAMERA_STALE = "camera gives old pictures", 2
    CAMERA_STUCK = "camera driver hangs", 0.5
    BACKEND_NAN = "engine answers NaN", 6
    BACKEND_HANGS = "engine hangs", 0.7
    BACKEND_CRASHES = "engine crashes", 0.7
    PLC_GONE = "PLC disconnects", 4
    PLC_SILENT = "PLC heartbeat stops", 0.7
    PLC_SLOW = "PLC slow", 3
    PLC_GARBAGE = "garbage on the line", 4
    PLC_HALF_FRAME = "half a frame", 4
    PLC_TRIGGERS_TWICE = "trigger twice", 6
    PLC_TRIGGERS_WHILE_BUSY = "trigger while busy", 6
    BROKER_GONE = "broker gone", 3
    BROKER_FROZEN = "broker frozen", 2
    DISK_FULL = "disk full", 4
    CLOCK_STEP = "clock steps", 4
    STATION_STALLS = "station stalls", 2
    STATION_KILLED = "station killed", 0.6

    def __init__(self, words: str, weight: float) -> None:
        self.words, self.weight = words, weight


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens with one part."""

    good: bool
    fault: Fault | None
    parts: int  # that the fault lasts, this one included
    delay_s: float  # from the arrival of the part to the fault
    amount: float  # 0..1: how much of it, where that means something


def plan(seed: int, number: int, kinds: tuple[Fault, ...] = tuple(Fault)) -> Plan:
    """The same for the same seed and part, wherever a run begins."""
    draw = np.random.default_rng((seed, number))
    good = bool(draw.random() >= BAD_SHARE)
    if not kinds or draw.random() >= 1 / EVERY:
        return Plan(good, None, 0, 0.0, 0.0)
    weights = np.array([kind.weight for kind in kinds])
    fault = kinds[int(draw.choice(len(kinds), p=weights / weights.sum()))]
    return Plan(
        good, fault, int(draw.integers(1, 4)), float(draw.choice([0.0, draw.random() * 0.004])), draw.random()
    )
