"""The PLC's end of OPC UA: a client that reads Station.BLOCK and calls Trigger and Acknowledge.

Its program thinks in registers; this wire turns what changes in the PLC's block into calls.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from asyncua import Client, ua
from asyncua.common.structures104 import load_custom_struct
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from edge.errors import InspectError
from edge.outputs.opcua.nodes import BEAT, MACHINE, OWN, SHOWN
from edge.outputs.opcua.security import own_identity
from edge.outputs.opcua_settings import OpcUaSettings, opcua_settings
from edge.plc.handshake import Mode
from edge.plc.registers import PLC_COUNT, Control, decode, encode
from edge.plcsim import Peer
from edge.plcsim.blocks import BlockPlc

TIMEOUT_S = 4.0
AGAIN_S = 0.5  # between two tries to connect: an encrypted one takes a second
KEYS = "plc-sim"  # beside the server's own, which a client must not use
REFUSED = (ua.uaerrors.BadUserAccessDenied, ua.uaerrors.BadIdentityTokenRejected)
Answer = TypeVar("Answer")


def opcua_plc(uri: str, mode: Mode) -> Callable[[], Peer]:
    """Raises InspectError."""
    settings = opcua_settings(uri)
    return lambda: BlockPlc(ClientWire(settings), mode)


class ClientWire:
    """A Wire. asyncua's loop turns only while something is asked: no thread of its own."""

    def __init__(self, settings: OpcUaSettings) -> None:
        self.station, self._settings = settings.uri, settings
        host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        self._url = f"opc.tcp://{f'[{host}]' if ':' in host else host}:{settings.port}/edge-inspect"
        self._runner = asyncio.Runner()
        self._client: Client | None = None
        self._space = 0  # index of our namespace in this server
        self._tried_s = -AGAIN_S
        self._plc = [0] * PLC_COUNT

    def read(self) -> list[list[int]]:
        """One read is one snapshot."""
        client = self._client or self._connect()
        block = self._ask(self._node(client, "Station.BLOCK").read_value())
        return [encode({register.name: getattr(block, register.name) for register in SHOWN})]

    def show(self, plc: list[int]) -> None:
        """Carry out what is new in it; what changes while no station is there is never called for."""
        before, self._plc = self._plc, plc
        if self._client is not None:
            self._ask(self._tell(self._client, before, plc))

    def close(self) -> None:
        """Leave as a client should."""
        with suppress(OSError):
            self._leave()
        self._runner.close()

    async def _tell(self, client: Client, before: list[int], plc: list[int]) -> None:
        def new(name: str) -> int:
            value = int(decode(name, plc))
            return 0 if value == int(decode(name, before)) else value

        if beat := new(BEAT.name):
            value = ua.DataValue(ua.Variant(beat, ua.VariantType.UInt16))
            await self._node(client, f"Station.{BEAT.name}").write_value(value)
        if Control(plc[0]) & ~Control(before[0]) & Control.CLEAR_ERROR:
            await self._call(client, MACHINE, "ConfirmAll", ua.Variant(ua.LocalizedText("plc-sim")))
        for name, method in (("RESULT_ACK_ID", "Acknowledge"), ("TRIGGER_ID", "Trigger")):
            if number := new(name):
                await self._call(client, "Station", method, ua.Variant(number, ua.VariantType.UInt32))

    async def _call(self, client: Client, place: str, method: str, argument: ua.Variant) -> None:
        """Whatever it answers is to be seen in the block, too."""
        node = self._node(client, f"{place}.{method}")
        await self._node(client, place).call_method(node, argument)

    def _node(self, client: Client, name: str) -> Any:
        return client.get_node(ua.NodeId(name, self._space))

    def _connect(self) -> Client:
        if time.monotonic() - self._tried_s < AGAIN_S:
            raise ConnectionError("no station answers")
        self._tried_s = time.monotonic()
        try:
            self._client = self._ask(self._connected())
        except ConnectionError as error:
            if isinstance(error.__cause__, REFUSED):
                hint = "Give plc-sim the password that the station has: the same URI, the same file."
                raise InspectError("the station refuses user or password", self.station, hint) from error
            raise
        return self._client

    async def _connected(self) -> Client:
        own, client = self._settings, Client(self._url, timeout=TIMEOUT_S)
        if own.secure:
            key, certificate, client.application_uri = own_identity(own.certificates / KEYS)
            await client.set_security(SecurityPolicyBasic256Sha256, certificate, key)
            client.set_user(own.user)
            client.set_password(own.password)
        await client.connect()
        try:
            self._space = await client.get_namespace_index(OWN)
            await load_custom_struct(self._node(client, "StationBlock"))
        except BaseException:
            await client.disconnect()
            raise
        return client

    def _ask(self, question: Coroutine[Any, Any, Answer]) -> Answer:
        """Raises ConnectionError, the station's or the library's words as its cause."""
        try:
            return self._runner.run(question)
        except (ua.UaError, OSError, ValueError, asyncio.CancelledError) as error:
            with suppress(OSError):
                self._leave()
            raise ConnectionError(str(error) or "no answer in time") from error

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._runner.run(asyncio.wait_for(client.disconnect(), TIMEOUT_S))
