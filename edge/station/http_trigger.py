"""A part is asked for over HTTP: POST /trigger, and the answer is its verdict.

    POST /trigger  {"part_id": 7}     200  the verdict, as a line of `jsonl:` (docs/outputs.md)
                                      409  a part is being judged: ask again when it has its verdict
                                      503  the station cannot judge now, or the line has to stop until
                                           CLEAR_ERROR; nothing was triggered
                                      504  no verdict in time: treat the part as bad
    GET  /health                      200  {"ready": true}, or 503

There is no login: whoever reaches the port may trigger, so it listens on this machine alone unless told
otherwise. A web page cannot trigger: it may not send application/json to a foreign server.
"""

import json
import math
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from edge.errors import InspectError
from edge.plc.registers import U32_MASK
from edge.trigger import Request, nobody
from edge.verdict import Verdict
from edge.verdict_json import verdict_json

LONGEST_BODY = 1024
READ_S = 5.0  # a client that says nothing for so long is hung up on
CLIENTS = 8  # at once; more are sent away with 429
LOOPBACK, DEFAULT_PORT = "127.0.0.1", 8000

Answer = tuple[HTTPStatus, dict[str, Any]]


class HttpTrigger:
    """The trigger, and the taker of its verdicts. Raises InspectError where it cannot listen."""

    def __init__(self, uri: str, is_healthy: Callable[[int], bool], budget_ns: int) -> None:
        self.expect: Callable[[Request], None] = nobody  # hears of a trigger at once; `wait` may be late
        self._is_healthy = is_healthy
        self._lock = threading.Lock()
        self._number = self._part_id = 0  # of the last request; rises by one, and what it called its part
        self._waits: tuple[Request, queue.SimpleQueue[Verdict | None]] | None = None
        self._asked: queue.Queue[Request] = queue.Queue()  # a SimpleQueue may forget its time-out in a signal
        host, port = _address(uri)
        try:
            self._server = _Server((host, port), _handler(self))
        except OSError as error:
            hint = "Choose a free port (`ss -ltn`); one below 1024 needs rights."
            raise InspectError(f"cannot listen: {error}", uri, hint) from error
        self.port = int(self._server.server_address[1])
        self.allow(budget_ns)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )
        self._thread.start()

    def wait(self, timeout_s: float) -> Request | None:
        """The next part that somebody asks for and still waits for."""
        try:
            request = self._asked.get(timeout=timeout_s)
        except queue.Empty:
            return None
        with self._lock:
            return request if self._waits is not None and self._waits[0] == request else None

    def put(self, verdict: Verdict) -> None:
        """Hand it to whoever asked; one that nobody waits for any more is not shown."""
        with self._lock:
            if self._waits is not None and self._waits[0].number == verdict.request:
                self._waits[1].put(verdict)

    def allow(self, budget_ns: int) -> None:
        """From the question to the verdict, from now on."""
        self._budget_ns = budget_ns
        self._server.longest_s = READ_S + budget_ns / 1e9

    def close(self) -> None:
        """Stop listening and send everybody away; may be called twice."""
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            if self._waits is not None:
                self._waits[1].put(None)
        self._server.hang_up(math.inf)
        self._server.server_close()

    def health(self) -> Answer:
        """Whether a part could be judged."""
        ready = self._is_healthy(time.monotonic_ns())
        return HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, {"ready": ready}

    def ask(self, part_id: int | None) -> Answer:
        """One part, from the question to its verdict; blocks so long."""
        if not self._is_healthy(time.monotonic_ns()):
            why = "the station cannot judge now, or the line has to stop; see its log"
            return HTTPStatus.SERVICE_UNAVAILABLE, _error(why)
        with self._lock:
            if self._waits is not None:
                return HTTPStatus.CONFLICT, _error("a part is being judged; ask again after its verdict")
            self._number += 1
            self._part_id = (self._part_id + 1) & U32_MASK if part_id is None else part_id
            request = Request(self._number, self._part_id, time.monotonic_ns())
            answer: queue.SimpleQueue[Verdict | None] = queue.SimpleQueue()
            self._waits = request, answer
        self.expect(request)
        self._asked.put(request)
        verdict = None
        with suppress(queue.Empty):
            verdict = answer.get(timeout=self._budget_ns / 1e9)
        with self._lock:
            self._waits = None
        if verdict is None:
            return HTTPStatus.GATEWAY_TIMEOUT, _error("no verdict in time: treat the part as bad")
        return HTTPStatus.OK, verdict_json(verdict)


class _Server(ThreadingHTTPServer):
    """At most CLIENTS at once. Whoever is not done in time, a byte now and then, is hung up on."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._until: dict[socket.socket, float] = {}  # open connections; monotonic seconds
        self.longest_s = READ_S
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._until) >= CLIENTS:
            _send_away(request)
            self.shutdown_request(request)
            return
        self._until[request] = time.monotonic() + self.longest_s
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._until.pop(request, None)

    def service_actions(self) -> None:
        """Called by the server's loop, several times a second."""
        self.hang_up(time.monotonic())

    def hang_up(self, now: float) -> None:
        """On whoever should be done by now."""
        for connection, until in list(self._until.items()):
            if now > until:
                with suppress(OSError):  # it has just ended
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is none of our business."""


def _send_away(connection: Any) -> None:
    connection.setblocking(False)
    try:
        connection.send(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    except OSError:
        return


def _handler(trigger: HttpTrigger) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_S
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "edge-inspect", ""

        def do_GET(self) -> None:
            if self.path == "/health":
                self._answer(*trigger.health())
            elif self.path == "/trigger":
                self._answer(HTTPStatus.METHOD_NOT_ALLOWED, _error("POST /trigger"), allow="POST")
            else:
                self._answer(HTTPStatus.NOT_FOUND, _error("POST /trigger"))

        def do_POST(self) -> None:
            if self.path != "/trigger":
                self._answer(HTTPStatus.NOT_FOUND, _error("POST /trigger"))
                return
            try:
                part_id = _part_id(self._body())
            except _Refused as refused:
                self._answer(*refused.args)
                return
            self._answer(*trigger.ask(part_id))

        def _body(self) -> bytes:
            if self.headers.get_content_type() != "application/json":
                raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _error("send application/json"))
            length = self.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdigit()):
                raise _Refused(HTTPStatus.LENGTH_REQUIRED, _error("send Content-Length"))
            if len(length) > 9 or int(length) > LONGEST_BODY:
                too_long = _error(f"at most {LONGEST_BODY} bytes")
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_long)
            return self.rfile.read(int(length))

        def _answer(self, status: HTTPStatus, content: dict[str, Any], allow: str = "") -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if allow:
                self.send_header("Allow", allow)
            self.send_header("Connection", "close")  # one part, one connection: none is left open at the end
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """The verdicts are the log."""

    return Handler


class _Refused(Exception):
    """Status and content of the answer."""


def _part_id(body: bytes) -> int | None:
    """Of `{"part_id": 7}`; an empty body or object: the station counts on from the last one."""
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not content.keys() <= {"part_id"}:
        raise _Refused(HTTPStatus.BAD_REQUEST, _error('send {"part_id": NUMBER} or {}'))
    part_id = content.get("part_id")
    if part_id is None:
        return None
    if type(part_id) is not int or not 0 <= part_id <= U32_MASK:
        raise _Refused(HTTPStatus.BAD_REQUEST, _error(f"part_id is a number from 0 to {U32_MASK}"))
    return part_id


def _error(text: str) -> dict[str, Any]:
    return {"error": text}


def _address(uri: str) -> tuple[str, int]:
    """Host and port of `http://127.0.0.1:8000`; without a host, this machine alone."""
    parts = urlsplit(uri)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if port == -1 or parts.path not in ("", "/") or parts.query or parts.username:
        raise InspectError("this trigger cannot be read", uri, "Write http://127.0.0.1:8000")
    return parts.hostname or LOOPBACK, DEFAULT_PORT if port is None else port
