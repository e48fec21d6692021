"""One PLC on one stream of characters, serial or TCP: framing, answers and results are the same.

Two threads use the stream: the outbox's writes results, a reader answers the PLC's lines at once.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from edge.errors import OutputLost
from edge.plc.handshake import Handshake
from edge.plc.line_protocol import Language, Received, receive
from edge.plc.link import PlcLink
from edge.plc.station_image import result_id
from edge.verdict import Verdict

READ_S = 0.2  # how long one read waits; interrupt() ends it
WRITE_S = 1.0

Lost = Callable[[Exception | str], OutputLost]  # puts it in words for this kind of line


class Stream(Protocol):
    """A wire. A write waits WRITE_S at most; it and read raise OSError when the wire is gone."""

    def read(self, wait_s: float = READ_S) -> bytes:
        """What has come; nothing when nothing came in time."""

    def write(self, data: bytes) -> None:
        """All of it, or OSError."""

    def interrupt(self) -> None:
        """A read that waits comes back."""

    def close(self) -> None:
        """Free it; may be called twice."""


class Conversation:
    """Answers every line until the stream breaks or is closed; it is lost for good then."""

    def __init__(self, stream: Stream, link: PlcLink, language: Language) -> None:
        self.broken: Exception | None = None
        self._stream, self._link, self._language = stream, link, language
        self._writing = threading.RLock()
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name="line-reader", daemon=True)
        self._reader.start()

    @property
    def closed(self) -> bool:
        """By us."""
        return self._closing.is_set()

    def write_results(self) -> None:
        """Every verdict that is to be shown now. Raises OSError."""
        with self._writing:  # two threads come here: what is shown first is written first
            while verdicts := self._link.take_shown():
                for verdict in verdicts:
                    self._write(self._language.result(verdict, self._link.recipe_number))
                    if not self._language.acknowledges:
                        self._link.act(partial(_taken, result_id(verdict)))

    def close(self) -> None:
        """Stop answering and free the stream; may be called twice."""
        self._closing.set()
        with suppress(OSError):
            self._stream.interrupt()
        if self._reader is not threading.current_thread():
            self._reader.join(timeout=2 * READ_S + WRITE_S)
        self._stream.close()

    def _read(self) -> None:
        received = Received()
        while not self._closing.is_set():
            try:
                data = self._stream.read()
                received, lines = receive(received, data, time.monotonic_ns(), self._language.ends)
                for line in lines:
                    self._reply(line)
                    self.write_results()
            except Exception as error:  # whatever ends this thread ends the link: the next send() says so
                self.broken = error
                return

    def _reply(self, line: str) -> None:
        with self._writing:  # "taken" is said before the result of what was taken
            self._write(self._link.act(partial(self._language.answer, line)))

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except OSError as error:
            self.broken = error
            raise


class AsciiLine:
    """The output for a stream that stays the same as long as it is open."""

    def __init__(self, uri: str, stream: Stream, link: PlcLink, language: Language, lost: Lost) -> None:
        self.uri, self._link, self._lost = uri, link, lost
        link.withdraw()
        self._conversation = Conversation(stream, link, language)

    def send(self, verdict: Verdict) -> None:
        """Write the line of one part, with a handshake when its turn comes. Raises OutputLost."""
        self._check()
        self._link.publish(verdict)
        self._write_results()

    def beat(self, counter: int, healthy: bool) -> None:
        """The PLC asks for life by itself; here its answer is prepared. Raises OutputLost."""
        self._check()
        self._link.beat(counter, healthy)
        self._write_results()  # of triggers that had no verdict in time

    def close(self) -> None:
        """Take the verdict back, stop answering, free the stream."""
        self._link.withdraw()
        self._conversation.close()

    def _write_results(self) -> None:
        try:
            self._conversation.write_results()
        except OSError as error:
            raise self._lost(error) from error

    def _check(self) -> None:
        broken = self._conversation.broken
        if broken is not None or self._conversation.closed:
            raise self._lost(broken or "it is closed") from broken


def _taken(part_id: int, hand: Handshake, now_ns: int) -> bool:
    return hand.acknowledge(part_id, now_ns)
