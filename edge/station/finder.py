"""In free run nobody asks: which of the camera's pictures are parts, and which number has each?

every picture   each one is judged, without a part id
counted         a camera that a light barrier triggers: each one is a part, and no picture is no fault
presence        a camera that runs freely: one picture of each part, the belt between them is nothing
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from edge.frame import Frame, Pixels
from edge.picture.health import image_fault
from edge.plc.registers import U32_MASK
from edge.station.presence import Look, PartWatch, Reference
from edge.trigger import UNASKED, Request
from edge.verdict import Reason

LEARN_FROM = 10  # pictures of the empty belt at the start
STANDS_NS = 10_000_000_000  # a part that stands for so long may be the light: no other one could be seen
FAULT_EVERY_NS = 1_000_000_000  # a camera that gives only bad pictures says so once a second

Found = tuple[Frame | Reason, Request]


class Finder(Protocol):
    """Called by the station's loop alone, with every picture or the reason why there was none."""

    def find(self, item: Frame | Reason) -> Found | None:
        """What is to be judged, and whose answer it is; None: no part, and no fault."""


class EveryPicture:
    """Whatever comes."""

    def find(self, item: Frame | Reason) -> Found | None:
        """As it is."""
        return item, UNASKED


class PartCounter:
    """Part ids from 1 on, u32; 0 is no part."""

    def __init__(self) -> None:
        self._last = 0

    def number(self, item: Frame | Reason) -> Found:
        """The next part."""
        self._last = self._last % U32_MASK + 1
        if isinstance(item, Frame):
            item = replace(item, part_id=self._last)
        return item, Request(None, self._last, time.monotonic_ns())


class CountedPictures:
    """Each picture is a part, also one that found no place in the queue."""

    def __init__(self) -> None:
        self._counter = PartCounter()

    def find(self, item: Frame | Reason) -> Found | None:
        """A lost camera is told; that no part comes by is none of our business."""
        if item is Reason.CAMERA_TIMEOUT:
            return None
        return (item, UNASKED) if item is Reason.CAMERA_LOST else self._counter.number(item)


class PresenceFinder:
    """Looks at every picture; the belt has to be empty at the start where no reference is given."""

    def __init__(self, watch: PartWatch, reference: Reference | None = None) -> None:
        self._watch, self._reference = watch, reference
        self._learning: list[Pixels] = []
        self._before: Frame | None = None
        self._counter = PartCounter()
        self._told_ns = self._empty_ns = 0

    def find(self, item: Frame | Reason) -> Found | None:
        """One picture a part. A picture that shows nothing at all is a fault: parts may be going by."""
        if isinstance(item, Reason):
            return item, UNASKED
        before, self._before = self._before, item
        fault = image_fault(item.pixels, item.before)
        if fault is not None:
            return self._tell(fault, item.captured_ns)
        if self._reference is None:
            self._learn(item.pixels)
            self._empty_ns = item.captured_ns
            return None
        changed = self._reference.changed(item.pixels)
        if changed is None:
            return self._tell(Reason.RECIPE_MISMATCH, item.captured_ns)
        look = self._watch.look(changed)
        if look is not Look.NONE:
            return self._counter.number(before if before and look is Look.BEFORE else item)
        if self._watch.empty:
            self._empty_ns = item.captured_ns
            self._reference.follow(item.pixels)
        elif item.captured_ns - self._empty_ns > STANDS_NS:
            return self._tell(Reason.PART_NOT_FOUND, item.captured_ns)
        return None

    def _learn(self, pixels: Pixels) -> None:
        self._learning.append(pixels)
        if len(self._learning) == LEARN_FROM:
            self._reference = empty_belt(self._learning)
            self._learning.clear()

    def _tell(self, fault: Reason, now_ns: int) -> Found | None:
        if now_ns - self._told_ns < FAULT_EVERY_NS:
            return None
        self._told_ns = now_ns
        return fault, UNASKED


def empty_belt(pictures: Sequence[Pixels]) -> Reference:
    """The reference from pictures of the empty belt, all of one size; the first one's size counts."""
    return Reference([picture for picture in pictures if picture.shape == pictures[0].shape])
