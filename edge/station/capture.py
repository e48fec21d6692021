"""The capture thread: it always reads, so that no picture grows old in a driver's queue.

latest   one picture waits (`keep` of them, where a part has several); a newer one takes the oldest one's
         place, which is counted as dropped
every    up to `depth` pictures wait. A live camera cannot be stopped: the picture that finds the queue
         full is dropped and counted, and its turn is answered with STATION_OVERLOADED, so that its
         part gets a fail-safe verdict. A camera that waits for us (folder, file) is made to wait,
         whatever the policy, and the wait is counted.

Another recipe may want other settings: `open_anew` has the camera opened with them, `show` says that the
loop judges by them now. Only pictures of the camera that `show` named are handed out.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Self

from edge.backoff import backoff_s
from edge.cameras import Camera
from edge.errors import CameraLost, CameraTimeout, DataError, EndOfStream, FrameIncomplete
from edge.frame import Frame, Pixels, Shot, make_frame
from edge.trigger import UNASKED, Request
from edge.verdict import Reason

HANGS_AFTER_NS = 3_000_000_000  # more than its time-out: a read that has not come back is stuck in the driver
OPEN_ANEW_S = 25.0  # that other settings may take, a second try included: the line is blind meanwhile
JOIN_S = 2.0  # close() waits so long for the thread; one that hangs in a driver is left behind (daemon)


class Policy(Enum):
    """What happens to pictures that come faster than they are judged."""

    LATEST = "latest"
    EVERY = "every"


@dataclass(slots=True)
class CaptureCounters:
    """What happened since the start; a copy, it does not change any more."""

    frames: int = 0  # pictures read
    dropped: int = 0  # pictures that nobody will judge
    waits: int = 0  # times a folder or file had to wait for a place in the queue
    timeouts: int = 0
    incomplete: int = 0  # pictures that came with holes; nobody judges them
    losses: int = 0  # times an open camera went away
    failed_opens: int = 0
    reconnects: int = 0  # times it came back


@dataclass(frozen=True, slots=True)
class _Taken:
    """A picture that waits."""

    shot: Shot
    captured_ns: int | None = None  # None: from a file, which does not age; it is stamped when handed out
    before: Pixels | None = None  # of a live camera: the picture read before this one


@dataclass(frozen=True, slots=True)
class _Missing:
    """A picture that nobody will judge, and when it was there."""

    reason: Reason
    at_ns: int


@dataclass(slots=True, eq=False)
class _Change:
    """Other settings that the camera is to take, and what it says to them."""

    source: Callable[[], Camera]
    before: Callable[[], Camera] | None = None  # None: the old camera is still in use
    refused: DataError | None = None


class _Link(Enum):
    OPENING = 0
    UP = 1
    DOWN = 2


class Capture:
    """Reads a camera in its own thread and opens it again when it was lost.

    `open_source` comes from `camera_opener(uri)` and is called in the thread; `source` is the URI without
    password. Starts at once; use it with `with`, or call close().
    """

    def __init__(
        self,
        open_source: Callable[[], Camera],
        source: str,
        policy: Policy = Policy.LATEST,
        depth: int = 8,
        read_timeout_s: float = 1.0,
        keep: int = 1,
    ) -> None:
        self.source, self.policy = source, policy
        self._depth, self._read_timeout_s = depth, read_timeout_s
        self._keep = keep
        self._changed = threading.Condition()  # guards everything below
        self._wanted = self._shown = open_source  # what to open the camera with; whose pictures are judged
        self._opened: Callable[[], Camera] | None = None  # what it is open with
        self._change: _Change | None = None
        self._changed_over = False  # once: what a camera does not like any more is no wrong start
        self._shown_ns = 0
        self._queue: deque[_Taken | _Missing] = deque()
        self._before: Pixels | None = None  # the last picture that was read
        self._runs_free = False  # it said when the last picture was begun: no part triggers this camera
        self._hole_ns = -1  # when the last incomplete picture of a triggered camera came; policy latest
        self._missed_ns = 0
        self._counters, self._last_id = CaptureCounters(), 0
        self._link, self._news = _Link.OPENING, False  # news: a loss that next() has not told yet
        self._live = True
        self._end: EndOfStream | DataError | None = None
        self._error: Exception | None = None
        self._read_ns = time.monotonic_ns()  # when the last read, or the opening, came back
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture {source}", daemon=True)
        self._thread.start()

    @property
    def counters(self) -> CaptureCounters:
        """A snapshot."""
        with self._changed:
            return replace(self._counters)

    @property
    def live(self) -> bool:
        """Whether parts go by whether we look or not; True until the camera is open."""
        return self._live

    @property
    def error(self) -> Exception | None:
        """Why there is no picture, in words; None while the camera gives pictures."""
        return self._error

    @property
    def connected(self) -> bool:
        """True while the camera is open, with the settings that the loop judges by."""
        return self._link is _Link.UP and self._wanted is self._opened is self._shown

    @property
    def shown_ns(self) -> int:
        """Since when these settings hold; an older picture may have been taken with others. 0: always."""
        return self._shown_ns

    @property
    def missed_ns(self) -> int:
        """When the picture was there that `next` last gave STATION_OVERLOADED or FRAME_INCOMPLETE for."""
        return self._missed_ns

    def hangs(self, now_ns: int) -> bool:
        """True when a live camera's driver does not come back from a read, not even with a time-out."""
        over_ns = now_ns - self._read_ns - int(self._read_timeout_s * 1e9)
        return self.connected and self._live and over_ns > HANGS_AFTER_NS

    def new_id(self) -> int:
        """The next number, for a verdict without a picture; shared with the frames, never used again."""
        with self._changed:
            self._last_id += 1
            return self._last_id

    def next(self, timeout_s: float, request: Request = UNASKED) -> Frame | Reason:
        """The next frame, or the reason why there is none within `timeout_s`; for a request no older picture.

        A loss is told at once, and then once every `timeout_s` while it lasts. Raises EndOfStream when a
        finite source is done and everything was handed out (or after close), DataError when the source
        cannot be used. Returns in time even when the driver hangs.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has(request) or self._end or self._news, timeout_s)
            if self._has_hole(request):
                return self._miss(_Missing(Reason.FRAME_INCOMPLETE, self._hole_ns))
            if self._queue:
                self._changed.notify_all()
                return self._hand_out(self._queue.popleft(), request)
            if self._end:
                raise self._end
            self._news = False
            return Reason.CAMERA_TIMEOUT if self.connected else Reason.CAMERA_LOST

    def open_anew(
        self, open_source: Callable[[], Camera], between_parts: Callable[[Callable[[], None]], None]
    ) -> None:
        """Have the camera opened by `open_source`; comes back when it is. One thread at a time.

        `between_parts` says when the old one may be closed. Until `show` no picture of the new one is handed
        out. Raises what the camera says to it, CameraLost where it is not open after OPEN_ANEW_S; the old one
        is then opened again, and goes on being tried.
        """
        with self._changed:
            if open_source is self._wanted:
                return
            self._change = change = _Change(open_source)
        between_parts(lambda: self._begin(change))
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_open(open_source) or change.refused or self._end, OPEN_ANEW_S
            )
            self._change = None  # one that has not begun never will
            if not self._is_open(open_source):
                raise self._go_back(change)

    def show(self, open_source: Callable[[], Camera]) -> None:
        """From now on pictures are judged that were taken with these settings, and no others."""
        with self._changed:
            if open_source is self._shown:
                return
            self._shown, self._shown_ns = open_source, time.monotonic_ns()
            old, self._hole_ns, self._news = [*self._queue], -1, False
            self._queue.clear()
            for item in old:
                self._leave_out(item)

    def _is_open(self, source: Callable[[], Camera]) -> bool:
        return self._wanted is self._opened is source

    def _go_back(self, change: _Change) -> Exception:
        """To the camera before, and why."""
        hint = "Load it again when the camera is there and the line runs."
        late = CameraLost("the camera is not open with the recipe's settings", self.source, hint)
        if change.before is None:
            return late
        self._wanted = change.before
        self._changed.notify_all()
        return change.refused or self._error or late

    def _begin(self, change: _Change) -> None:
        with self._changed:
            if self._change is change:
                change.before, self._wanted, self._changed_over = self._wanted, change.source, True
                self._changed.notify_all()

    def _leave_out(self, item: _Taken | _Missing) -> None:
        """A picture with another recipe's settings; where each is a part, that part must be answered."""
        self._counters.dropped += isinstance(item, _Taken)
        if self.policy is Policy.EVERY:
            at_ns = item.at_ns if isinstance(item, _Missing) else item.captured_ns or time.monotonic_ns()
            reason = item.reason if isinstance(item, _Missing) else Reason.STATION_OVERLOADED
            self._queue.append(_Missing(reason, at_ns))

    def close(self) -> None:
        """Stop reading. Waits JOIN_S at most; may be called twice."""
        self._stop.set()
        with self._changed:
            self._queue.clear()
        self._finish(EndOfStream("closed"))
        if self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _has(self, request: Request) -> bool:
        """Whether a picture waits; those that came before the request, and their losses, answer nobody."""
        while request.number is not None and self._queue and _is_before(self._queue[0], request.at_ns):
            self._counters.dropped += isinstance(self._queue.popleft(), _Taken)
        if request.number is not None and self.connected:
            self._news = False
        return bool(self._queue) or self._has_hole(request)

    def _has_hole(self, request: Request) -> bool:
        """The part's own picture came incomplete, and what comes now is the next part's."""
        if request.number is None or self._hole_ns < request.at_ns:
            return False
        return not self._queue or not _is_before(self._queue[0], self._hole_ns)

    def _hand_out(self, item: _Taken | _Missing, request: Request) -> Frame | Reason:
        """Numbers are given here, so that they rise in the order of the verdicts."""
        if isinstance(item, _Missing):
            return self._miss(item)
        at_ns = item.captured_ns or time.monotonic_ns()
        return make_frame(item.shot, self.new_id(), self.source, at_ns, request, item.before)

    def _miss(self, missing: _Missing) -> Reason:
        """Tell it once."""
        self._missed_ns, self._hole_ns = missing.at_ns, -1
        return missing.reason

    def _run(self) -> None:
        """The thread: open, read until it breaks, wait, again."""
        attempt = 0
        try:
            while not self._stop.is_set():
                source = self._wanted
                camera = self._open(source)
                got_pictures = camera is not None and self._drain(camera, source)
                attempt = 0 if got_pictures or self._is_left(source) else attempt + 1
                self._wait(source, backoff_s(attempt))
        except (EndOfStream, DataError) as end:
            self._finish(end)

    def _is_left(self, source: Callable[[], Camera]) -> bool:
        return self._stop.is_set() or self._wanted is not source

    def _wait(self, source: Callable[[], Camera], seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_left(source), seconds)

    def _open(self, source: Callable[[], Camera]) -> Camera | None:
        try:
            camera = source()
        except DataError as error:
            if not (self._changed_over or (self._live and self._counters.frames)):
                raise  # it never worked: a wrong setting
            with self._changed:
                if self._change is not None and self._change.source is source:
                    self._change.refused = error
            self._lose(error)  # it did work: a camera that comes back in another mode may yet recover
            return None
        except Exception as error:  # whatever a driver throws: the station must know that it is blind
            self._lose(error)
            return None
        with self._changed:
            self._counters.reconnects += self._link is _Link.DOWN and self._counters.frames > 0
            self._link, self._live, self._error = _Link.UP, camera.live, None
            self._opened, self._read_ns = source, time.monotonic_ns()
            self._changed.notify_all()
        return camera

    def _drain(self, camera: Camera, source: Callable[[], Camera]) -> bool:
        """Read until the camera is lost or wanted otherwise; True when it gave at least one picture."""
        got_pictures = False
        try:
            while not self._is_left(source):
                got_pictures = self._read_one(camera, source) or got_pictures
            self._leave()
        except EndOfStream:
            raise
        except Exception as error:
            if isinstance(error, DataError) and not self._changed_over:
                raise
            self._lose(error)
        finally:
            with contextlib.suppress(Exception):  # it is gone anyway
                camera.close()
        return got_pictures

    def _leave(self) -> None:
        """It is closed on purpose, which is no loss, but there is no picture either."""
        with self._changed:
            self._link, self._opened = _Link.OPENING, None
            self._changed.notify_all()

    def _read_one(self, camera: Camera, source: Callable[[], Camera]) -> bool:
        try:
            shot = camera.read(self._read_timeout_s)
        except CameraTimeout as error:
            with self._changed:
                self._counters.timeouts += 1
                self._error, self._read_ns = error, time.monotonic_ns()
            return False
        except FrameIncomplete as error:
            self._take_incomplete(error, source)
            return False
        self._offer(shot, time.monotonic_ns(), camera.live, source)
        return True

    def _take_incomplete(self, error: FrameIncomplete, source: Callable[[], Camera]) -> None:
        """Where one picture is one part, that part must be answered; else the next picture will do."""
        with self._changed:
            self._counters.incomplete += 1
            self._error, self._read_ns = error, time.monotonic_ns()
            if self.policy is Policy.EVERY:
                self._queue.append(_Missing(Reason.FRAME_INCOMPLETE, self._read_ns))
            elif not self._runs_free and source is self._shown:
                self._hole_ns = self._read_ns
            self._changed.notify_all()

    def _offer(self, shot: Shot, read_ns: int, live: bool, source: Callable[[], Camera]) -> None:
        with self._changed:
            self._counters.frames += 1
            self._error, self._read_ns = None, read_ns
            captured_ns = min(read_ns, shot.taken_ns or read_ns)
            taken = _Taken(shot, captured_ns, self._before) if live else _Taken(shot)
            self._before, self._runs_free = shot.pixels, shot.begun_ns is not None
            if not live:
                self._wait_for_room()
            if source is not self._shown:
                self._leave_out(taken)
            elif not live:
                self._queue.append(taken)
            elif self.policy is Policy.LATEST:
                while len(self._queue) >= self._keep:
                    self._queue.popleft()
                    self._counters.dropped += 1
                self._queue.append(taken)
            elif self._is_full():
                self._counters.dropped += 1
                self._queue.append(_Missing(Reason.STATION_OVERLOADED, captured_ns))
            else:
                self._queue.append(taken)
            self._changed.notify_all()

    def _is_full(self) -> bool:
        return sum(isinstance(item, _Taken) for item in self._queue) >= self._depth

    def _wait_for_room(self) -> None:
        if self._is_full():
            self._counters.waits += 1
            self._changed.wait_for(lambda: not self._is_full() or self._stop.is_set())

    def _lose(self, error: Exception) -> None:
        with self._changed:
            was = self._link
            self._counters.losses += was is _Link.UP
            self._counters.failed_opens += was is not _Link.UP
            self._news = self._news or was is not _Link.DOWN
            self._link, self._opened, self._error = _Link.DOWN, None, error
            self._changed.notify_all()

    def _finish(self, end: EndOfStream | DataError) -> None:
        with self._changed:
            self._end = self._end or end
            self._changed.notify_all()


def _is_before(item: _Taken | _Missing, at_ns: int) -> bool:
    """A file has no time: it waits for us. A picture that was dropped was dropped before.

    A picture that was under way when the part was triggered may still show the part before it.
    """
    if isinstance(item, _Missing):
        return item.at_ns < at_ns
    begun_ns = item.captured_ns if item.shot.begun_ns is None else item.shot.begun_ns
    return item.captured_ns is not None and begun_ns is not None and begun_ns < at_ns
