"""The archive: every verdict lies in the file before any PLC is told.

    station --put--> [ waiting ] --own thread--> file
       ^--- written, or 0.2 s have passed ---------'   --then--> outboxes --> PLCs

A verdict that a PLC has taken must be found later, even if the process was killed in between. So the station
waits until its line is with the operating system (some 0.1 ms), but not for a disk that hangs: what it has
not taken in time, or refuses, waits here, in order. The alarm says so, and no part waits while it stands.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from edge.backoff import backoff_s
from edge.errors import OutputLost
from edge.outputs import Output
from edge.station.outbox import OutboxCounters
from edge.verdict import Verdict

WAIT_S = 0.2  # less than a beat, as the PLC's link may be locked meanwhile; a disk that is well takes 1 ms
KEPT = 100_000  # verdicts that wait for the disk, about 40 MB; then the oldest is given up and counted
CLOSE_S = 2.0  # without a line written: the rest is given up


class Archive:
    """One file, with the face of an Outbox. `put` never raises and may be called from any thread."""

    def __init__(self, open_output: Callable[[], Output], kept: int = KEPT) -> None:
        self.alarm, self.last_error = False, ""
        self._open, self._kept = open_output, kept
        self._output: Output | None = None  # the thread's own
        self._waiting: deque[Verdict] = deque()  # the first one is being written
        self._attempt = self._sent = self._dropped = self._losses = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()

    @property
    def counters(self) -> OutboxCounters:
        """A snapshot; nothing expires here."""
        return OutboxCounters(self._sent, self._dropped, 0, self._attempt, self._losses)

    def put(self, verdict: Verdict) -> None:
        """Have it written, after all that waits; while the disk refuses or hangs, keep it."""
        with self._changed:
            if self._closing:
                self._dropped += 1
                return
            if len(self._waiting) >= self._kept:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(verdict)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self.alarm or not self._waiting, WAIT_S):
                self._say(self._hangs())

    def close(self) -> None:
        """Write what waits, as long as the disk takes it, and let go; what stays is counted as dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        before = -1
        while self._thread.is_alive() and self._sent > before:
            before = self._sent
            self._thread.join(CLOSE_S)
        with self._changed:
            self._dropped += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        while (verdict := self._next()) is not None:
            try:
                self._output = self._output or self._open()
                self._output.send(verdict)
            except Exception as error:  # whatever it is: no line stops for a disk
                self._refused(error)
                if self._closing:
                    break
                self._rest()
            else:
                self._written(verdict)
        self._let_go()

    def _next(self) -> Verdict | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting[0] if self._waiting else None

    def _written(self, verdict: Verdict) -> None:
        with self._changed:
            self._sent, self._attempt = self._sent + 1, 0
            if self._waiting and self._waiting[0] is verdict:
                self._waiting.popleft()
            else:
                self._dropped -= 1  # it was given up while it was being written
            if not self._waiting:
                self.alarm, self.last_error = False, ""
            self._changed.notify_all()

    def _refused(self, error: Exception) -> None:
        self._losses += self._output is not None
        self._let_go()
        with self._changed:
            self._say(error)
            self._changed.notify_all()

    def _rest(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, backoff_s(self._attempt))
            self._attempt += 1

    def _hangs(self) -> OutputLost:
        output = self._output  # its thread may let go of it at any time
        where = output.uri if output is not None else "archive"
        hint = "PLCs get verdicts before they are written. Check the disk; of a share its server and network."
        return OutputLost("the disk does not answer", where, hint)

    def _say(self, error: Exception) -> None:
        self.alarm, self.last_error = True, str(error)

    def _let_go(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            with suppress(Exception):  # it was told before
                output.close()
