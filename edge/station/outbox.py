"""The bounded buffer between the station's loop and one output: the loop never waits for a PLC.

    station --put()--> [ up to `capacity` verdicts ] --own thread--> Output --> PLC

While the output is down: try again with growing pauses, keep the newest verdicts, count what was lost, show
an alarm. A verdict that has grown too old is not published any more: its part is long gone, and a late
answer would be taken for the next one's.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from edge.backoff import backoff_s
from edge.errors import NobodyListens
from edge.outputs import Output
from edge.verdict import Verdict

BEAT_S = 0.25  # a PLC that allows three beats to be lost sees within a second that the station has gone
STEADY_S = 5.0  # an output that stands for so long works: the next loss is a new one, tried again at once
JOIN_S = 1.0  # more than close() was given: one blocking call of the output may just have begun


@dataclass(frozen=True, slots=True)
class OutboxCounters:
    """Since start. Every verdict that was put ends in one of sent, dropped, expired, or is still waiting."""

    sent: int = 0
    dropped: int = 0  # the buffer was full, nobody listened, or the station ended first
    expired: int = 0  # too old when its turn came
    retries: int = 0  # openings tried after a failure
    losses: int = 0  # times an open output was lost


def has_expired(verdict: Verdict, now_ns: int, max_age_s: float) -> bool:
    """True when the picture is older than `max_age_s`: too late to be an answer for its part."""
    return now_ns - verdict.captured_ns > max_age_s * 1e9


def _always_healthy(now_ns: int) -> bool:
    return True


class Outbox:
    """One output with its own thread. `alarm` and `last_error` are for the operator.

    `open_output` is called in that thread, again after every loss. `is_healthy(now_ns)` is asked once per
    `beat_s` seconds: where it says False the output takes its verdict back and stops its heartbeat.
    """

    def __init__(
        self,
        open_output: Callable[[], Output],
        capacity: int = 100,
        *,
        max_age_s: float = 2.0,
        beat_s: float = BEAT_S,
        is_healthy: Callable[[int], bool] = _always_healthy,
    ) -> None:
        self.alarm, self.last_error = False, ""
        self._open, self._is_healthy = open_output, is_healthy
        self._capacity, self._max_age_s, self._beat_s = capacity, max_age_s, beat_s
        self._queue: queue.SimpleQueue[Verdict | None] = queue.SimpleQueue()
        self._output: Output | None = None
        self._pending: Verdict | None = None  # taken from the queue, not published yet
        self._heartbeat = self._attempt = self._beat_due_ns = self._close_by_ns = self._opened_ns = 0
        self._pushed_out = self._left = self._sent = self._expired = self._retries = self._losses = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    @property
    def counters(self) -> OutboxCounters:
        """A snapshot."""
        dropped = self._pushed_out + self._left
        return OutboxCounters(self._sent, dropped, self._expired, self._retries, self._losses)

    def put(self, verdict: Verdict) -> None:
        """Hand over; returns at once, whatever the output does. When full, the oldest one is dropped."""
        if self._closing.is_set():
            self._pushed_out += 1
            return
        if self._queue.qsize() >= self._capacity:
            with suppress(queue.Empty):  # the outbox's thread was quicker
                self._queue.get_nowait()
                self._pushed_out += 1
        self._queue.put(verdict)

    def allow(self, max_age_s: float) -> None:
        """How old a picture may be whose verdict is still published, from now on."""
        self._max_age_s = max_age_s

    def close(self, timeout_s: float = 2.0) -> None:
        """Publish what waits, for `timeout_s` at most, withdraw the verdict, end. May be called twice."""
        if not self._closing.is_set():
            self._close_by_ns = time.monotonic_ns() + int(timeout_s * 1e9)
            self._closing.set()
            self._queue.put(None)  # wakes the thread
        self._thread.join(timeout_s + JOIN_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._step()
            except NobodyListens as error:
                self._unheard(error)
            except Exception as error:  # an output that breaks its promise must not end the outbox
                self._lose(error)
        self._finish()

    def _step(self) -> None:
        output = self._output or self._connect()
        now_ns = time.monotonic_ns()
        if now_ns >= self._beat_due_ns:
            self._beat(output, now_ns)
        if self._pending is None:
            self._pending = self._take((self._beat_due_ns - time.monotonic_ns()) / 1e9)
        if self._pending is not None:
            self._deliver(output, self._pending)

    def _connect(self) -> Output:
        self._retries += self._attempt > 0
        self._output = self._open()
        self._opened_ns, self._beat_due_ns = time.monotonic_ns(), 0  # show life at once
        return self._output

    def _beat(self, output: Output, now_ns: int) -> None:
        self._beat_due_ns = now_ns + int(self._beat_s * 1e9)
        healthy = self._is_healthy(now_ns)
        self._heartbeat += healthy
        output.beat(self._heartbeat, healthy)
        if self._pending is None:
            self._works()

    def _take(self, wait_s: float) -> Verdict | None:
        try:
            return self._queue.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            return None

    def _deliver(self, output: Output, verdict: Verdict) -> None:
        if not has_expired(verdict, time.monotonic_ns(), self._max_age_s):
            output.send(verdict)
            self._pending = None
            if not has_expired(verdict, time.monotonic_ns(), self._max_age_s):
                self._sent += 1
                self._works()
                return
        self._pending = None
        self._withdraw_late(output)

    def _withdraw_late(self, output: Output) -> None:
        """No answer is right for a part that has gone; the one that still stands there even less so."""
        self._expired += 1
        self.alarm = True
        self.last_error = f"verdicts reach {output.uri} too late; what it shows was taken back"
        output.beat(self._heartbeat, False)

    def _works(self) -> None:
        self.alarm, self.last_error = False, ""
        if time.monotonic_ns() - self._opened_ns > STEADY_S * 1e9:
            self._attempt = 0

    def _unheard(self, error: Exception) -> None:
        """The output stays open; a verdict that nobody heard is not kept for whoever comes later."""
        self.alarm, self.last_error = True, str(error)
        self._pushed_out += self._pending is not None
        self._pending = None

    def _lose(self, error: Exception) -> None:
        self.alarm, self.last_error = True, str(error)
        if self._output is not None:
            self._losses += 1
            self._let_go()
        self._closing.wait(backoff_s(self._attempt))
        self._attempt += 1

    def _finish(self) -> None:
        """Publish the rest while there is time and an output; what stays behind is counted as dropped."""
        try:
            while self._output is not None and time.monotonic_ns() < self._close_by_ns:
                self._pending = self._pending or self._take(0.0)
                if self._pending is None and self._queue.empty():
                    break
                if self._pending is not None:
                    self._deliver(self._output, self._pending)
        except NobodyListens as error:
            self._unheard(error)
        except Exception as error:
            self.alarm, self.last_error = True, str(error)
            self._losses += 1
        self._let_go()
        self._left += self._count_rest()

    def _count_rest(self) -> int:
        rest = int(self._pending is not None)
        with suppress(queue.Empty):
            while True:
                rest += self._queue.get_nowait() is not None
        return rest

    def _let_go(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            with suppress(Exception):  # it is gone already; that was said before
                output.close()
