"""The PLC's end of the ASCII lines, whatever they come over: one part after the other."""

from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from edge.errors import InspectError
from edge.outputs.ascii_line import Stream
from edge.outputs.serial_line import port_settings
from edge.outputs.tcp_line import client_settings, server_settings
from edge.plc.handshake import Mode
from edge.plc.line_protocol import Language, Received, receive
from edge.plc.registers import VerdictCode
from edge.plc.timing_chart import Sample
from edge.plcsim import RUNS_FREE, Complaint, Mistake, Peer, Scan, Taken
from edge.plcsim.doors import Caller, Door, Listener, SerialPort, Terminal
from edge.plcsim.phrases import Heard, phrases_of

PATIENCE_NS = 10_000_000_000  # a part waits so long for its result
AGAIN_NS = 20_000_000  # before a refused trigger is sent again


def line_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError; the opener raises OutputLost when it cannot open or listen."""
    if mode is Mode.BITS:
        raise InspectError("lines of characters have no bits", uri, "Give handshake=ids.")
    match urlsplit(uri).scheme:
        case "tcp":
            plc = client_settings(uri)
            return lambda: LinePlc(Listener(plc), mode, plc.language)
        case "tcp-server":
            station = server_settings(uri)
            return lambda: LinePlc(Caller(station), mode, station.language)
    port = port_settings(uri)
    if port.port == "pty":
        return lambda: LinePlc(Terminal(port), mode, port.language)
    return lambda: LinePlc(SerialPort(port), mode, port.language)


class LinePlc:
    """One part after the other: trigger, result, acknowledge. A Peer."""

    def __init__(self, door: Door, mode: Mode, language: Language) -> None:
        self._door, self._mode, self._language = door, mode, language
        self._stream: Stream | None = None
        self._arrived: deque[int] = deque()
        self._open: int | None = None  # triggered, no result yet
        self._open_ns = self._again_ns = 0
        self._received, self._phrases = Received(), phrases_of(language)
        self._shown = {"RESULT_ID": "0", "VERDICT": VerdictCode.NONE.name}
        self._results, self._asked = 0, False

    @property
    def station(self) -> str:
        """What the station has to be given as --plc."""
        return self._door.station

    def part_arrives(self, part_id: int) -> None:
        """It is triggered when the one before it has its result."""
        self._arrived.append(part_id)

    def scan(self, now_ns: int) -> Scan:
        """Read what has come, answer, ask."""
        try:
            self._stream = self._stream or self._door.meet()
            if self._stream is not None:
                return self._converse(self._stream, now_ns)
            return Scan(False, {})
        except OSError:
            return Scan(False, {}, rejected=self._hang_up())

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        self._door.close()

    def _converse(self, stream: Stream, now_ns: int) -> Scan:
        data = stream.read(wait_s=0)
        self._received, lines = receive(self._received, data, now_ns, self._phrases.ends)
        taken, complaints = [], list[Complaint]()
        for line in lines:
            heard = self._phrases.hear(line, now_ns)
            complaints += heard.complaints
            if heard.refused and self._open is not None:
                self._arrived.appendleft(self._open)
                self._open, self._again_ns = None, now_ns + AGAIN_NS
            if heard.verdict is not None:
                part = self._pair(heard, line, complaints)
                taken.append(Taken(part, heard.verdict, line))
                self._shown = {"RESULT_ID": str(part), "VERDICT": heard.verdict.name}
                self._say(stream, self._phrases.acknowledge(part, now_ns))
        said, more = self._phrases.idle(now_ns)
        self._say(stream, said)
        overdue = self._open is not None and now_ns - self._open_ns > PATIENCE_NS
        rejected = self._give_up() if overdue else () if self._phrases.alive else self._abandon()
        triggered = self._trigger(stream, now_ns)
        found = (*complaints, *more)
        return Scan(self._phrases.alive, self._sample(), triggered, tuple(taken), rejected, found)

    def _pair(self, heard: Heard, line: str, complaints: list[Complaint]) -> int:
        """The part that a result is for."""
        self._results += 1
        part, waits = heard.part_id, self._open
        if self._mode is Mode.FREE_RUN:
            return self._results if part is None else part
        if waits is not None and part in (None, self._phrases.wire_id(waits)):
            self._open = None
            return waits
        if not self._asked:
            complaints.append(Complaint(Mistake.UNASKED, f"{line!r}; {RUNS_FREE}"))
            return -1 if part is None else part
        who = "no part" if waits is None else f"part {waits}"
        complaints.append(Complaint(Mistake.OTHER_PART, f"{line!r}, {who} waits for a result"))
        return -1 if part is None else part

    def _trigger(self, stream: Stream, now_ns: int) -> tuple[int, ...]:
        idle = self._open is None and now_ns >= self._again_ns and self._phrases.ready is not False
        if not idle or not self._arrived:
            return ()
        self._open, self._open_ns, self._asked = self._arrived.popleft(), now_ns, True
        self._say(stream, self._phrases.trigger(self._open, now_ns))
        return (self._open,)

    def _give_up(self) -> tuple[int, ...]:
        lost, self._open = self._open, None
        return () if lost is None else (lost,)

    def _say(self, stream: Stream, text: bytes) -> None:
        if text:
            stream.write(text)

    def _sample(self) -> Sample:
        known = {"READY": self._phrases.ready, "BUSY": self._phrases.busy}
        seen: Sample = {name: bit for name, bit in known.items() if bit is not None}
        waits = {} if self._mode is Mode.FREE_RUN else {"TRIGGER_ID": str(self._open or 0)}
        return seen | waits | self._shown

    def _hang_up(self) -> tuple[int, ...]:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        self._received, self._phrases = Received(), phrases_of(self._language)
        return self._abandon()

    def _abandon(self) -> tuple[int, ...]:
        """The station is gone: whatever has no result has gone by."""
        rejected = (*self._give_up(), *self._arrived)
        self._arrived.clear()
        return rejected
