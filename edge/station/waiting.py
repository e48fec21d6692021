"""The pictures that wait for the loop, and which of them answer a part. Pure; Capture holds the lock.

latest   one picture waits (`keep` of them, where a part has several); a newer one takes the oldest one's
         place, which is counted as dropped. From a trigger on it is the other way round: the part's own
         pictures, the first `keep`, have their place, and what comes while they wait is dropped. However
         late the loop fetches them, no later picture, of another light or another part, stands in for one
every    up to `depth` pictures wait. A live camera cannot be stopped: the picture that finds the queue
         full is dropped and counted, and its turn is answered with STATION_OVERLOADED, so that its
         part gets a fail-safe verdict
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from edge.frame import Pixels, Shot
from edge.trigger import UNASKED, Request
from edge.verdict import Reason

EARLY_NS = 200_000_000  # so long a trigger may take: two polls of a line at 9600 baud, and the PLC's cycle


class Policy(Enum):
    """What happens to pictures that come faster than they are judged."""

    LATEST = "latest"
    EVERY = "every"


@dataclass(frozen=True, slots=True)
class Taken:
    """A picture that waits."""

    shot: Shot
    captured_ns: int | None = None  # None: from a file, which does not age; it is stamped when handed out
    before: Pixels | None = None  # of a live camera: the picture read before this one


@dataclass(frozen=True, slots=True)
class Missing:
    """A picture that nobody will judge, and when it was there."""

    reason: Reason
    at_ns: int


class Waiting:
    """Pictures in the order in which they came. All times are monotonic."""

    def __init__(self, policy: Policy, depth: int, keep: int) -> None:
        self.dropped = 0  # pictures that nobody will judge
        self._policy, self._depth, self._keep = policy, depth, keep
        self._items: deque[Taken | Missing] = deque()
        self._request, self._due = UNASKED, 0  # the newest part, and how many pictures it still gets
        self._passed_ns = -1  # when a camera that a part triggers last gave a picture nobody had asked for
        self._early_ns = -1  # when the part's own picture came, where that was before its trigger
        self._hole_ns = -1  # when the last incomplete picture of a triggered camera came; policy latest

    @property
    def is_full(self) -> bool:
        """Whether a source that waits for us has to wait."""
        return sum(isinstance(item, Taken) for item in self._items) >= self._depth

    def expect(self, request: Request) -> None:
        """A part was triggered; no older picture answers it. What is not newer than the last one is known."""
        if (request.number or 0) <= (self._request.number or 0):
            return
        self._request, self._due, self._early_ns = request, self._keep, -1
        while self._items and _is_before(self._items[0], request.at_ns):
            self._pass_by(self._items.popleft())
        if self._hole_ns < request.at_ns:
            self._passed_ns, self._hole_ns = max(self._passed_ns, self._hole_ns), -1
        self._look_back()

    def forget(self, request: Request) -> None:
        """The part is judged: the newest picture waits again."""
        if request.number == self._request.number:
            self._due = 0

    def has(self, request: Request) -> bool:
        """Whether `take` would give something."""
        return bool(self._items) or self._lost(request) is not None

    def take(self, request: Request) -> Taken | Missing | None:
        """The next one, for this part; None: not yet."""
        if lost := self._lost(request):
            self._hole_ns = -1 if lost.at_ns == self._hole_ns else self._hole_ns  # told once
            return lost
        if not self._items:
            return None
        self._due = max(0, self._due - 1)
        return self._items.popleft()

    def offer(self, item: Taken) -> None:
        """A picture came."""
        if item.captured_ns is None:
            self._items.append(item)
        elif self._due and _is_before(item, self._request.at_ns):
            self._pass_by(item)
            self._look_back()
        elif self._policy is Policy.EVERY:
            self.dropped += self.is_full
            overload = Missing(Reason.STATION_OVERLOADED, item.captured_ns)
            self._items.append(overload if self.is_full else item)
        elif self._due and len(self._items) >= self._due:
            self._pass_by(item)
        else:
            while len(self._items) >= self._keep:
                self._pass_by(self._items.popleft())
            self._items.append(item)

    def hole(self, at_ns: int) -> None:
        """A picture came incomplete that was a part's own."""
        if self._policy is Policy.EVERY:
            self._items.append(Missing(Reason.FRAME_INCOMPLETE, at_ns))
        else:
            self._hole_ns = at_ns

    def leave_out(self, item: Taken | Missing, now_ns: int) -> None:
        """Nobody judges this one; where each is a part, that part must be answered."""
        self.dropped += isinstance(item, Taken)
        if self._policy is Policy.EVERY:
            at_ns = item.at_ns if isinstance(item, Missing) else item.captured_ns or now_ns
            reason = item.reason if isinstance(item, Missing) else Reason.STATION_OVERLOADED
            self._items.append(Missing(reason, at_ns))

    def leave_all(self, now_ns: int) -> None:
        """`leave_out` for all that wait."""
        old, self._hole_ns = [*self._items], -1
        self.clear()
        for item in old:
            self.leave_out(item, now_ns)

    def clear(self) -> None:
        """It is over."""
        self._items.clear()

    def _lost(self, request: Request) -> Missing | None:
        """Why the part's picture will not come, where that is known: what comes now is another part's."""
        if request.number is None:
            return None
        if request.number != self._request.number:  # it was given up, and the next one is there
            return Missing(Reason.CAMERA_TIMEOUT, request.at_ns)
        if self._early_ns >= 0:  # of several, too: which of them is which is not known any more
            return Missing(Reason.FRAME_STALE, self._early_ns)
        first = self._items[0] if self._items else None
        if self._hole_ns < request.at_ns or (first is not None and _is_before(first, self._hole_ns)):
            return None
        return Missing(Reason.FRAME_INCOMPLETE, self._hole_ns)

    def _pass_by(self, item: Taken | Missing) -> None:
        """It answers nobody."""
        if isinstance(item, Taken):
            self.dropped += 1
            if item.captured_ns is not None and item.shot.begun_ns is None:
                self._passed_ns = max(self._passed_ns, item.captured_ns)  # they may come in any order

    def _look_back(self) -> None:
        """A light barrier fires camera and PLC together, and the camera may be faster than the trigger."""
        at_ns = self._request.at_ns
        if max(0, at_ns - EARLY_NS) <= self._passed_ns < at_ns:
            self._early_ns, self._passed_ns = self._passed_ns, -1


def _is_before(item: Taken | Missing, at_ns: int) -> bool:
    """A file has no time: it waits for us. A picture that was dropped was dropped before.

    A picture that was under way when the part was triggered may still show the part before it.
    """
    if isinstance(item, Missing):
        return item.at_ns < at_ns
    begun_ns = item.captured_ns if item.shot.begun_ns is None else item.shot.begun_ns
    return item.captured_ns is not None and begun_ns is not None and begun_ns < at_ns
