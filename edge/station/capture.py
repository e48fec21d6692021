"""The capture thread: it always reads, so that no picture grows old in a driver's queue.

Which pictures wait for the loop, and which of them answer a part, says `waiting.py`. A camera that waits for
us (folder, file) is made to wait, whatever the policy, and the wait is counted.

Another recipe may want other settings: `open_anew` has the camera opened with them, `show` says that the
loop judges by them now. Only pictures of the camera that `show` named are handed out.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Self

from edge.backoff import backoff_s
from edge.cameras import Camera
from edge.errors import CameraLost, CameraTimeout, DataError, EndOfStream, FrameIncomplete
from edge.frame import Frame, Pixels, Shot, make_frame
from edge.station.waiting import Missing, Taken, Waiting
from edge.station.waiting import Policy as Policy
from edge.trigger import UNASKED, Request
from edge.verdict import Reason

HANGS_AFTER_NS = 3_000_000_000  # more than its time-out: a read that has not come back is stuck in the driver
OPEN_ANEW_S = 25.0  # that other settings may take, a second try included: the line is blind meanwhile
JOIN_S = 2.0  # close() waits so long for the thread; one that hangs in a driver is left behind (daemon)


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
        self._read_timeout_s = read_timeout_s
        self._changed = threading.Condition()  # guards everything below
        self._wanted = self._shown = open_source  # what to open the camera with; whose pictures are judged
        self._opened: Callable[[], Camera] | None = None  # what it is open with
        self._change: _Change | None = None
        self._changed_over = False  # once: what a camera does not like any more is no wrong start
        self._shown_ns = 0
        self._waiting = Waiting(policy, depth, keep)
        self._before: Pixels | None = None  # the last picture that was read
        self._runs_free = False  # it said when the last picture was begun: no part triggers this camera
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
            return replace(self._counters, dropped=self._waiting.dropped)

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
        """When the picture was there that `next` last gave another reason for than that none came."""
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
            self._waiting.expect(request)
            self._changed.wait_for(lambda: self._has(request) or self._end or self._news, timeout_s)
            if (item := self._waiting.take(request)) is not None:
                self._changed.notify_all()
                return self._hand_out(item, request)
            if self._end:
                raise self._end
            self._news = False
            return Reason.CAMERA_TIMEOUT if self.connected else Reason.CAMERA_LOST

    def expect(self, request: Request) -> None:
        """A part was triggered: from now on its pictures have their place. From any thread, at once."""
        with self._changed:
            self._waiting.expect(request)
            self._changed.notify_all()  # whoever still waits for a part before it need not any more

    def forget(self, request: Request) -> None:
        """The part is judged, and gets no further picture."""
        with self._changed:
            self._waiting.forget(request)

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
            self._shown, self._shown_ns, self._news = open_source, time.monotonic_ns(), False
            self._waiting.leave_all(self._shown_ns)

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

    def close(self) -> None:
        """Stop reading. Waits JOIN_S at most; may be called twice."""
        self._stop.set()
        with self._changed:
            self._waiting.clear()
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
        """Whether there is an answer; a loss that was over before the request is none."""
        if request.number is not None and self.connected:
            self._news = False
        return self._waiting.has(request)

    def _hand_out(self, item: Taken | Missing, request: Request) -> Frame | Reason:
        """Numbers are given here, so that they rise in the order of the verdicts."""
        if isinstance(item, Missing):
            self._missed_ns = item.at_ns
            return item.reason
        at_ns = item.captured_ns or time.monotonic_ns()
        return make_frame(item.shot, self.new_id(), self.source, at_ns, request, item.before)

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
            if not self._may_recover():
                raise
            with self._changed:
                if self._change is not None and self._change.source is source:
                    self._change.refused = error
            self._lose(error)
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

    def _may_recover(self) -> bool:
        """One that did work may have come back in another mode; one that never did has a wrong setting."""
        return self._changed_over or (self._live and self._counters.frames > 0)

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
            if isinstance(error, DataError) and not self._may_recover():
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
            if self.policy is Policy.EVERY or (not self._runs_free and source is self._shown):
                self._waiting.hole(self._read_ns)
            self._changed.notify_all()

    def _offer(self, shot: Shot, read_ns: int, live: bool, source: Callable[[], Camera]) -> None:
        with self._changed:
            self._counters.frames += 1
            self._error, self._read_ns = None, read_ns
            captured_ns = min(read_ns, shot.taken_ns or read_ns)
            taken = Taken(shot, captured_ns, self._before) if live else Taken(shot)
            self._before, self._runs_free = shot.pixels, shot.begun_ns is not None
            if not live:
                self._wait_for_room()
            if source is self._shown:
                self._waiting.offer(taken)
            else:
                self._waiting.leave_out(taken, read_ns)
            self._changed.notify_all()

    def _wait_for_room(self) -> None:
        if self._waiting.is_full:
            self._counters.waits += 1
            self._changed.wait_for(lambda: not self._waiting.is_full or self._stop.is_set())

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
