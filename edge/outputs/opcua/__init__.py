"""The station as an OPC UA server, with OPC 40100-1 and plain variables. Only this package knows asyncua.

    outbox's thread --send, beat--> PlcLink <--methods--+
                          |                             |
                          +--show--> thread "opcua-server": asyncua's loop, its clients, a look every 20 ms

The look is for what happens without a verdict: a trigger whose time is over, a PLC that falls silent, the
next trigger in continuous execution.
"""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from asyncua import Server, ua

from edge.errors import InspectError, OutputLost
from edge.outputs.callers import MOST_CALLERS
from edge.outputs.opcua.methods import Methods
from edge.outputs.opcua.nodes import Nodes
from edge.outputs.opcua.security import Users, own_identity
from edge.outputs.opcua.space import Space, View
from edge.outputs.opcua_settings import OpcUaSettings
from edge.plc.handshake import Handshake
from edge.plc.link import PlcLink
from edge.plc.registers import STATION_START, U16_MAX, place
from edge.plc.vision import VisionLine
from edge.verdict import Verdict

LOOK_S = 0.02
START_S = 60.0  # a small PC under load; two seconds on a plain one
SHOW_S = 5.0
LOGIN_S = 15.0  # whoever has no session by then is hung up on
ENCRYPTED = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]

# What asyncua logs is for its developers; without a handler Python would print it on the console.
logging.getLogger("asyncua").addHandler(logging.NullHandler())
logging.getLogger("asyncua").propagate = False


class OpcUaServer:
    """One server. `line` holds jobs and results, and goes on from one server to the next."""

    def __init__(self, settings: OpcUaSettings, link: PlcLink, line: VisionLine) -> None:
        self.uri, self._settings, self._link, self._line = settings.uri, settings, link, line
        self._started: Future[None] = Future()
        self._seen: int | None = None  # of the PLC's heartbeat
        link.withdraw()
        _try_port(settings)
        self._thread = threading.Thread(target=self._run, name="opcua-server", daemon=True)
        self._thread.start()
        try:
            self._started.result(START_S)
        except InspectError:
            raise
        except Exception as error:
            self.close()
            what = f"the OPC UA server does not start: {str(error) or 'it takes too long'}"
            raise OutputLost(what, self.uri, "See docs/opcua.md.") from error

    def send(self, verdict: Verdict) -> None:
        """Show it, with its event. Raises OutputLost when the server has ended."""
        self._check()
        self._link.publish(verdict)
        self._do(self._show())

    def beat(self, counter: int, healthy: bool) -> None:
        """Count HEARTBEAT, or take the verdict back: state Error. Raises OutputLost."""
        self._check()
        self._link.beat(counter, healthy)
        self._do(self._show())

    def close(self) -> None:
        """Take the verdict back, tell it to the clients, end every connection."""
        self._link.withdraw()
        if self._thread.is_alive() and self._started.done():  # else there is nothing to be seen yet
            with suppress(OutputLost):
                self._do(self._show())
        with suppress(RuntimeError, AttributeError):  # the loop has ended already, or never began
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=SHOW_S)

    def _check(self) -> None:
        if not self._thread.is_alive():
            raise OutputLost("the OPC UA server has ended", self.uri, "It is opened again by the outbox.")

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        try:
            pending = asyncio.run_coroutine_threadsafe(what, self._loop)
        except RuntimeError as error:  # the loop has ended since the thread was looked at
            what.close()
            raise self._silent(error) from error
        try:
            pending.result(SHOW_S)
        except (TimeoutError, CancelledError) as error:
            pending.cancel()
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> OutputLost:
        hint = "It is opened again by the outbox."
        return OutputLost(f"the OPC UA server does not answer: {error!r}", self.uri, hint)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._server()
        nodes = await Nodes.build(server)
        self._space = Space(nodes)
        await self._space.prepare_events()
        await Methods(self._link, self._line, self._show).bind(nodes)
        self._showing = asyncio.Lock()
        await server.start()
        try:
            await self._show()
            self._started.set_result(None)
            while not self._stop.is_set():
                await self._hear_plc()
                await self._show()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), LOOK_S)
        finally:
            await server.stop()

    async def _server(self) -> Server:
        own = self._settings
        server = Server(user_manager=Users(own))
        await server.init()
        server.iserver.max_connections = MOST_CALLERS
        server.iserver.max_pending_activation_seconds = LOGIN_S
        host = f"[{own.host}]" if ":" in own.host else own.host
        server.set_endpoint(f"opc.tcp://{host}:{own.port}/edge-inspect")
        server.set_server_name("edge-inspect")
        if own.secure:
            key, certificate, uri = own_identity(own.certificates)
            await server.load_private_key(key)
            await server.load_certificate(certificate)
        else:
            uri = f"urn:{socket.gethostname()}:edge-inspect"
        await server.set_application_uri(uri)
        server.set_security_policy(ENCRYPTED if own.secure else [ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.UserNameIdentityToken if own.secure else ua.AnonymousIdentityToken])
        return server

    async def _hear_plc(self) -> None:
        before, self._seen = self._seen, await self._space.plc_heartbeat()
        if before is not None and before != self._seen:
            self._link.act(lambda hand, now_ns: hand.plc_beats(now_ns))

    async def _show(self) -> None:
        """One look at the link, and all that follows from it."""
        async with self._showing:
            view, shown = self._link.act(self._look)
            now_ns, now = time.monotonic_ns(), datetime.now(UTC)
            results = [self._line.keep(each, number, now_ns, now) for each, number in shown]
            await self._space.show(view, results)

    def _look(self, hand: Handshake, now_ns: int) -> tuple[View, list[tuple[Verdict, int]]]:
        hand.tick(now_ns)
        hand.enabled = not self._line.halted and not hand.plc_lost
        self._line.recipe, self._line.simulated = self._link.recipe, self._link.simulated
        shown = self._link.take_shown()
        self._line.go_on(hand, now_ns)
        block, state = hand.block(), self._line.state(hand)
        place(block, STATION_START, "STATE", state)
        view = View(block, state, self._line.current(hand))
        return view, list(zip(shown, _sequences(hand.image.sequence, len(shown)), strict=True))


def _sequences(last: int, count: int) -> list[int]:
    """The SEQUENCE of each of the last `count` results, oldest first."""
    return [(last - behind - 1) % U16_MAX + 1 for behind in reversed(range(count))]


def _try_port(settings: OpcUaSettings) -> None:
    """asyncua needs seconds before it finds out."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        hint = "Choose a free port (`ss -ltn`); 0.0.0.0 stands for every address of this machine."
        raise OutputLost(f"cannot listen: {error}", settings.uri, hint) from error
