"""The line protocol, or a dialect, over TCP in both roles.

tcp://PLC:2115              the station connects
tcp-server://0.0.0.0:2115   the station listens: one PLC at a time, the first one stays; whoever comes while
                            it lives is hung up on. A PLC that has gone without a word is noticed within
                            seconds, and then the next one is let in.
"""

import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge.errors import NobodyListens, OutputLost
from edge.outputs import settings_of, whole_number
from edge.outputs.addresses import host_and_port
from edge.outputs.ascii_line import READ_S, WRITE_S, AsciiLine, Conversation
from edge.outputs.callers import Network, may_call, networks_of, watch_cable
from edge.outputs.languages import KNOWN, language_of
from edge.plc.handshake import PLC_SILENT_NS, Handshake
from edge.plc.line_protocol import Language
from edge.plc.link import PlcLink
from edge.verdict import Verdict

CHUNK = 4096
NOBODY = "no PLC is connected"


@dataclass(frozen=True, slots=True)
class LineSettings:
    """Their address (client) or our own (server)."""

    uri: str
    host: str
    port: int
    language: Language
    timeout_s: float = 1.0
    allowed: tuple[Network, ...] = ()  # none: everybody


def client_settings(uri: str) -> LineSettings:
    """`tcp://host:port[?handshake=ids&dialect=t1&timeout_ms=1000]`. Raises InspectError."""
    known = settings_of(uri, ("handshake", "timeout_ms", *KNOWN))
    timeout_ms = whole_number(known, "timeout_ms", 1000, range(10, 60_001), uri)
    return LineSettings(
        uri,
        *_address(uri),
        language_of(known, uri),
        timeout_ms / 1000,
    )


def server_settings(uri: str) -> LineSettings:
    """`tcp-server://0.0.0.0:port[?handshake=ids&allow=192.168.0.10]`. Raises InspectError."""
    known = settings_of(uri, ("handshake", "allow", *KNOWN))
    allowed = networks_of(known, uri)
    return LineSettings(
        uri,
        *_address(uri),
        language_of(known, uri),
        allowed=allowed,
    )


def _address(uri: str) -> tuple[str, int]:
    return host_and_port(uri, None, f"{urlsplit(uri).scheme}://192.168.0.10:2115")


class TcpStream:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.settimeout(WRITE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)  # no old verdicts for a slow reader
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch_cable(connection)

    def read(self, wait_s: float = READ_S) -> bytes:
        """Raises OSError also when the other side has hung up."""
        if not select.select([self._socket], [], [], wait_s)[0]:
            return b""
        if data := self._socket.recv(CHUNK):
            return data
        raise ConnectionResetError("the other side has hung up")

    def write(self, data: bytes) -> None:
        """Raises OSError; what was written of a line then is cut off by the end of the connection."""
        self._socket.sendall(data)

    def interrupt(self) -> None:
        """Hang up: a read that waits comes back."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()


def open_client(settings: LineSettings, link: PlcLink) -> AsciiLine:
    """Connect and answer. Raises OutputLost."""

    def lost(error: Exception | str) -> OutputLost:
        hint = f"Try `ping {settings.host}`; then check port, firewall and the PLC's TCP server."
        return OutputLost(f"the PLC is not connected: {error}", settings.uri, hint)

    try:
        connection = socket.create_connection((settings.host, settings.port), settings.timeout_s)
    except OSError as error:
        raise lost(error) from error
    return AsciiLine(settings.uri, TcpStream(connection), link, settings.language, lost)


class TcpServerLine:
    """Listens as long as it is open. Raises OutputLost when it cannot.

    While nobody is connected, send() and beat() raise NobodyListens: that verdict is lost, nothing is kept
    for whoever comes later. Every connection begins with nothing shown.
    """

    def __init__(self, settings: LineSettings, link: PlcLink) -> None:
        self.uri, self._settings, self._link = settings.uri, settings, link
        self._beaten, self._why = (0, False), NOBODY
        self._conversation: Conversation | None = None
        self._changing = threading.RLock()
        self._closing = threading.Event()
        link.withdraw()
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            self._listener = socket.create_server((settings.host, settings.port), family=family)
        except OSError as error:
            hint = "Choose a free port (`ss -ltn`); one below 1024 needs rights (cap_net_bind_service)."
            raise OutputLost(f"cannot listen: {error}", settings.uri, hint) from error
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="line-server", daemon=True)
        self._thread.start()

    def send(self, verdict: Verdict) -> None:
        """To the PLC that is connected. Raises NobodyListens, or OutputLost after close()."""
        conversation = self._check()
        self._link.publish(verdict)
        self._write_results(conversation)

    def beat(self, counter: int, healthy: bool) -> None:
        """Raises NobodyListens while nobody is connected, or OutputLost after close()."""
        self._beaten = (counter, healthy)
        conversation = self._check()
        self._link.beat(counter, healthy)
        self._write_results(conversation)

    def close(self) -> None:
        """Hang up, stop listening."""
        self._closing.set()
        self._thread.join()
        self._listener.close()
        self._hang_up()

    def _write_results(self, conversation: Conversation) -> None:
        try:
            conversation.write_results()
        except OSError as error:
            self._hang_up(conversation)
            raise self._nobody() from error

    def _check(self) -> Conversation:
        if self._closing.is_set():
            raise OutputLost("it is closed", self.uri, "It is opened again by the outbox.")
        with self._changing:  # its first trigger may be judged before the greeting is over
            conversation = self._conversation
        if conversation is None or conversation.broken is not None:
            raise self._nobody()
        return conversation

    def _nobody(self) -> NobodyListens:
        hint = "Connect the PLC; check its address and port, the firewall, and allow= where it is set."
        return NobodyListens(self._why, self.uri, hint)

    def _accept(self) -> None:
        while not self._closing.is_set():
            if select.select([self._listener], [], [], READ_S)[0]:
                with suppress(OSError):  # gone before it was let in
                    self._greet(*self._listener.accept())
            self._let_go_of_the_dead()

    def _let_go_of_the_dead(self) -> None:
        conversation = self._conversation
        if conversation is None:
            return
        if conversation.broken is not None:
            self._hang_up(conversation)
        elif self._link.act(_is_silent):
            self._why = f"the PLC stopped asking HB for {PLC_SILENT_NS / 1e9:g} s and was hung up on"
            self._hang_up(conversation)

    def _greet(self, connection: socket.socket, address: tuple[str, int]) -> None:
        self._let_go_of_the_dead()
        if self._conversation is not None or not may_call(address[0], self._settings.allowed):
            connection.close()
            return
        with self._changing:
            self._link.withdraw()
            self._why = NOBODY
            self._link.beat(*self._beaten)  # READY must not wait for the next beat
            self._conversation = Conversation(TcpStream(connection), self._link, self._settings.language)

    def _hang_up(self, conversation: Conversation | None = None) -> None:
        """On this one, or on whoever is there; nothing of before is shown to the next one."""
        with self._changing:
            if conversation is not None and conversation is not self._conversation:
                return
            gone, self._conversation = self._conversation, None
            self._link.withdraw()
        if gone is not None:
            gone.close()


def _is_silent(hand: Handshake, now_ns: int) -> bool:
    """A PLC that began to beat and stopped; the next one is not kept waiting for it."""
    hand.tick(now_ns)
    return hand.plc_lost
