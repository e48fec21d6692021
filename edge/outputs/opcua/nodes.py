"""The server's nodes: the vision system of OPC 40100-1 from its own nodeset, and plain variables beside it.

Objects
  Station          the register map as variables; BLOCK is all of it in one structure
  VisionSystem     of VisionSystemType: state machine, recipes, results; what we cannot do is not there
"""

from dataclasses import replace
from pathlib import Path
from typing import Self

from asyncua import Node, Server, ua
from asyncua.common.structures104 import load_custom_struct, new_struct, new_struct_field

from edge.outputs.opcua.structures import structure
from edge.plc.registers import PLC_REGISTERS, STATION_REGISTERS, Register, Status

OWN = "urn:edge-inspect"
MACHINE_VISION = "http://opcfoundation.org/UA/MachineVision"
NODESET = Path(__file__).with_name("Opc.Ua.MachineVision.NodeSet2.xml")
SHOWN = tuple(register for register in STATION_REGISTERS if register.live)
BEAT = next(register for register in PLC_REGISTERS if register.name == "PLC_HEARTBEAT")
TYPES = {
    "u16": ua.VariantType.UInt16,
    "bits": ua.VariantType.UInt16,
    "u32": ua.VariantType.UInt32,
    "f32": ua.VariantType.Float,
}
MACHINE = "VisionSystem.VisionStateMachine"
AUTOMATIC = f"{MACHINE}.AutomaticModeStateMachine"
RECIPES, RESULTS = "VisionSystem.RecipeManagement", "VisionSystem.ResultManagement"
PARTS = {  # what the standard leaves open and we offer; of each only what it wants
    "VisionSystem": 1003, AUTOMATIC: 1021, RECIPES: 1004, RESULTS: 1007,
}  # fmt: skip
ID_BASE, ID_TYPES = 3019, (3002, 3008, 3013)  # of recipes, outer and inner, and of configurations


class Nodes:
    """A server with all its nodes, found by the text of their ids in our namespace."""

    def __init__(self, server: Server, own: int, vision: int) -> None:
        self.server, self.own, self.vision = server, own, vision  # the two are namespace indices

    @classmethod
    async def build(cls, server: Server) -> Self:
        """Takes a second or two, most of it for the standard's own nodes."""
        await server.import_xml(NODESET)
        own = await server.register_namespace(OWN)
        nodes = cls(server, own, await server.get_namespace_index(MACHINE_VISION))
        await nodes._complete_id_types()
        block = await nodes._add_block_type()
        await server.load_data_type_definitions()
        await nodes._add_vision_system()
        await nodes._add_station(block)
        return nodes

    def id(self, name: str) -> ua.NodeId:
        """For example "Station.VERDICT"."""
        return ua.NodeId(name, self.own)

    def node(self, name: str) -> Node:
        """By the text of its id."""
        return self.server.get_node(self.id(name))

    def of_standard(self, number: int) -> ua.NodeId:
        """A node of the standard's own nodeset."""
        return ua.NodeId(number, self.vision)

    async def _complete_id_types(self) -> None:
        """Three id types add no field to their abstract base; asyncua imports those without a definition, and
        would send the base in their place.
        """
        base = await self.server.get_node(self.of_standard(ID_BASE)).read_data_type_definition()
        for number in ID_TYPES:
            kind = self.server.get_node(self.of_standard(number))
            encodings = await kind.get_referenced_nodes(ua.ObjectIds.HasEncoding)
            named = {(await each.read_browse_name()).Name: each.nodeid for each in encodings}
            own = replace(base, BaseDataType=self.of_standard(ID_BASE))
            own.DefaultEncodingId = named["Default Binary"]
            await kind.write_data_type_definition(own)
            made = await load_custom_struct(kind)
            setattr(ua, made.__name__, made)  # which still called the base by this name

    async def _add_vision_system(self) -> None:
        """Optional nodes stay away: one that is there promises that it works."""
        for name, kind in PARTS.items():
            parent = self.node(name.rpartition(".")[0]) if "." in name else self.server.nodes.objects
            await parent.add_object(self.id(name), self._named(name), self.of_standard(kind), False)
        confirm, texts = f"{MACHINE}.ConfirmAll", [ua.VariantType.LocalizedText]
        await self.node(MACHINE).add_method(self.id(confirm), self._named(confirm), _nothing, texts)
        state = ua.Variant(structure("SystemStateDescriptionDataType"))
        kind = self.of_standard(3024)
        await self._add(self.node("VisionSystem"), "VisionSystem.SystemState", state, kind)

    def _named(self, name: str) -> ua.QualifiedName:
        """The last word, in the namespace that it comes from."""
        own = name == "VisionSystem" or name.startswith("Station")
        return ua.QualifiedName(name.rpartition(".")[2], self.own if own else self.vision)

    async def _add_block_type(self) -> ua.NodeId:
        fields = [new_struct_field(each.name, TYPES[each.type], description=each.meaning) for each in SHOWN]
        kind, _ = await new_struct(self.server, self.id("StationBlock"), "StationBlock", fields)
        return kind.nodeid

    async def _add_station(self, block: ua.NodeId) -> None:
        place = self.id("Station")
        station = await self.server.nodes.objects.add_object(place, self._named("Station"))
        for register in SHOWN:
            await self._add_variable(station, register)
        status = self.node("Station.STATUS")
        for bit in Status:
            await self._add(status, f"Station.STATUS.{bit.name}", ua.Variant(False, ua.VariantType.Boolean))
        await (await self._add_variable(station, BEAT)).set_writable()
        await self._add(station, "Station.BLOCK", ua.Variant(structure("StationBlock")), block)

    async def _add_variable(self, parent: Node, register: Register) -> Node:
        kind = TYPES[register.type]
        zero = 0.0 if kind is ua.VariantType.Float else 0
        node = await self._add(parent, f"Station.{register.name}", ua.Variant(zero, kind))
        await node.write_attribute(
            ua.AttributeIds.Description, ua.DataValue(ua.Variant(ua.LocalizedText(register.meaning)))
        )
        return node

    async def _add(self, parent: Node, name: str, value: ua.Variant, kind: ua.NodeId | None = None) -> Node:
        return await parent.add_variable(self.id(name), self._named(name), value, datatype=kind)


async def _nothing(parent: ua.NodeId, *arguments: ua.Variant) -> list[ua.Variant]:
    """Until the methods are bound."""
    return []
