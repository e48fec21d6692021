"""An OPC UA client for the tests, in a process of its own: asyncua. The same orders as client.js."""

import asyncio
import json
import sys
import tempfile
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

OWN = "urn:edge-inspect"
VISION = "http://opcfoundation.org/UA/MachineVision"
APPLICATION = "urn:edge-inspect:test-peer"
KINDS = {
    "uint16": ua.VariantType.UInt16,
    "uint32": ua.VariantType.UInt32,
    "int32": ua.VariantType.Int32,
    "string": ua.VariantType.String,
}
STRUCTURES = {3015: "MeasIdDataType", 3004: "PartIdDataType", 3002: "RecipeIdExternalDataType",
              3013: "RecipeIdInternalDataType", 3003: "ProductIdDataType", 3021: "ResultIdDataType",
              3008: "ConfigurationIdDataType", 3016: "JobIdDataType"}  # fmt: skip


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def plain(value: Any) -> Any:
    if isinstance(value, ua.Variant):
        return plain(value.Value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, ua.LocalizedText):
        return value.Text
    if isinstance(value, ua.NodeId):
        return value.to_string()
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def argument(given: list[Any]) -> ua.Variant:
    kind, value, *more = given
    if kind == "struct":
        return ua.Variant(getattr(ua, STRUCTURES[more[0]])(Id=value))
    if kind == "variants":
        return ua.Variant([], ua.VariantType.Variant, is_array=True)
    if kind == "text":
        return ua.Variant(ua.LocalizedText(value))
    return ua.Variant(value, KINDS[kind])


class Peer:
    def __init__(self) -> None:
        self.client: Client | None = None

    async def connect(self, url: str, secure: bool, user: str, password: str) -> dict[str, Any]:
        client = Client(url, timeout=10)
        client.application_uri = APPLICATION
        if secure:
            folder = Path(tempfile.mkdtemp())
            key, certificate = folder / "key.pem", folder / "cert.der"
            use = [ExtendedKeyUsageOID.CLIENT_AUTH]
            await setup_self_signed_certificate(key, certificate, APPLICATION, "localhost", use, {})
            await client.set_security(SecurityPolicyBasic256Sha256, certificate, key)
        if user:
            client.set_user(user)
            client.set_password(password)
        await client.connect()
        self.client = client
        self.own = await client.get_namespace_index(OWN)
        self.vision = await client.get_namespace_index(VISION)
        await client.load_data_type_definitions()
        return {}

    def node(self, name: str) -> Any:
        assert self.client is not None
        return self.client.get_node(ua.NodeId(name, self.own))

    async def read(self, nodes: list[str]) -> dict[str, Any]:
        assert self.client is not None
        read = await self.client.uaclient.read_attributes(
            [self.node(name).nodeid for name in nodes], ua.AttributeIds.Value
        )
        return {"values": [plain(v.Value) if v.StatusCode.is_good() else v.StatusCode.name for v in read]}

    async def write(self, node: str, value: int) -> dict[str, Any]:
        try:
            await self.node(node).write_value(ua.DataValue(ua.Variant(value, ua.VariantType.UInt16)))
        except ua.UaStatusCodeError as error:
            return {"status": ua.StatusCode(error.code).name}
        return {"status": "Good"}

    async def browse(self, node: str) -> dict[str, Any]:
        children = await self.node(node).get_children_descriptions()
        return {"names": [each.BrowseName.Name for each in children]}

    async def call(self, object: str, method: str, arguments: list[Any]) -> dict[str, Any]:
        assert self.client is not None
        request = ua.CallMethodRequest(
            self.node(object).nodeid, self.node(f"{object}.{method}").nodeid, [argument(a) for a in arguments]
        )
        answer = (await self.client.uaclient.call([request]))[0]
        return {"status": answer.StatusCode.name, "outputs": [plain(v) for v in answer.OutputArguments or []]}

    async def watch(self, nodes: list[str], fields: list[str] | None) -> dict[str, Any]:
        assert self.client is not None
        subscription = await self.client.create_subscription(50, self)
        for name in nodes:
            await subscription.subscribe_data_change(self.node(name), queuesize=100)
        if fields:
            result_ready = self.client.get_node(ua.NodeId(1024, self.vision))
            others = [self.client.get_node(ua.NodeId(number, self.vision)) for number in (1013, 1018, 1023)]
            self.fields = fields
            await subscription.subscribe_events(ua.ObjectIds.Server, [result_ready, *others], queuesize=100)
        return {}

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        say({"seen": node.nodeid.Identifier, "value": plain(value)})

    def event_notification(self, event: Any) -> None:
        values = {name: plain(getattr(event, name, None)) for name in self.fields}
        say({"event": event.EventType.to_string(), "fields": values})

    async def close(self) -> dict[str, Any]:
        if self.client is not None:
            await self.client.disconnect()
        return {}


async def main() -> None:
    peer = Peer()
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        what = order.pop("do")
        try:
            say({"answer": await getattr(peer, what)(**order)})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
        if what == "close":
            return


asyncio.run(main())
