"""The archive: every verdict lies in the file before any PLC is told.

    station --put--> [ file ] --then--> outboxes --> PLCs

A verdict that a PLC has taken must be found later, even if the process was killed in between. So the line is
handed to the operating system at once, in the station's own turn (some 20 us); what the disk refuses waits
here, in order, and is tried again and again. A full disk raises the alarm and stops no line.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from edge.backoff import backoff_s
from edge.outputs import Output
from edge.station.outbox import OutboxCounters
from edge.verdict import Verdict

PORTION = 200  # verdicts written in one go, some 5 ms: so long may the loop have to wait with its next one
KEPT = 100_000  # verdicts that wait for the disk, about 40 MB; then the oldest is given up and counted


class Archive:
    """One file, with the face of an Outbox. `put` never raises and may be called from any thread."""

    def __init__(self, open_output: Callable[[], Output], kept: int = KEPT) -> None:
        self.alarm, self.last_error = False, ""
        self._open, self._kept = open_output, kept
        self._output: Output | None = None
        self._waiting: deque[Verdict] = deque()
        self._attempt = 0
        self._again: threading.Timer | None = None  # while the disk refuses, or much waits
        self._sent = self._dropped = self._losses = 0
        self._lock = threading.Lock()

    @property
    def counters(self) -> OutboxCounters:
        """A snapshot; nothing expires here."""
        return OutboxCounters(self._sent, self._dropped, 0, self._attempt, self._losses)

    def put(self, verdict: Verdict) -> None:
        """Write it, after all that waits; while the disk refuses, keep it."""
        with self._lock:
            if len(self._waiting) >= self._kept:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(verdict)
            if self._again is None:
                self._write(PORTION)

    def close(self) -> None:
        """Write what waits, once more, and let go; what stays behind is counted as dropped."""
        with self._lock:
            if self._waiting:
                self._write(len(self._waiting))
            again, self._again = self._again, None
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._let_go()
        if again is not None:
            again.cancel()
            again.join()

    def _try_again(self) -> None:
        with self._lock:
            if self._again is not None:
                self._again = None
                self._write(PORTION)

    def _write(self, most: int) -> None:
        try:
            self._output = self._output or self._open()
            for _ in range(min(most, len(self._waiting))):
                self._output.send(self._waiting[0])
                self._waiting.popleft()
                self._sent += 1
        except Exception as error:  # whatever it is: no line stops for a disk
            self.alarm, self.last_error = True, str(error)
            self._losses += self._output is not None
            self._let_go()
            self._later(backoff_s(self._attempt))
            self._attempt += 1
        else:
            self.alarm, self.last_error, self._attempt = False, "", 0
            if self._waiting:
                self._later(0.0)

    def _later(self, wait_s: float) -> None:
        if self._again is None:
            self._again = threading.Timer(wait_s, self._try_again)
            self._again.daemon = True
            self._again.start()

    def _let_go(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            with suppress(Exception):  # it was told before
                output.close()
