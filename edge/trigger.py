"""Who asks for the next picture: a PLC, or nobody (free run)."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One picture that is asked for. `number` rises by one and is never used again; a part id may be."""

    number: int | None = None  # None: nobody asked, the station runs by its camera
    part_id: int | None = None  # u32, as the PLC calls the part
    at_ns: int = 0  # when it was asked for (monotonic): no older picture may answer it
    encoder: int = 0  # u32, counts of the line's encoder at the trigger
    recipe: int = 0  # number of the one that was active then; 0: whoever asked was not told of any


UNASKED = Request()


def nobody(request: Request) -> None:
    """Who hears of a trigger until somebody has to."""


class Trigger(Protocol):
    """What starts a shot. Waited at by the station's loop alone."""

    def wait(self, timeout_s: float) -> Request | None:
        """The next request, or None when nobody asks within the time."""


class FreeRun:
    """Every picture that the camera gives is judged."""

    def wait(self, timeout_s: float) -> Request | None:
        """At once: whatever picture comes next."""
        return UNASKED
