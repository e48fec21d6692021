"""What stands in the nodes and which events are told. Nothing here decides anything: what is to be seen comes
from the handshake and from `edge.plc.vision`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from edge.outputs.opcua.nodes import AUTOMATIC, BEAT, MACHINE, SHOWN, TYPES, Nodes
from edge.outputs.opcua.structures import kind_of, result_fields, structure
from edge.plc.registers import RESULT_BITS, Status, VisionState, decode
from edge.plc.vision import Job, VisionResult

STATE_NODES = {  # of the nodeset
    VisionState.PREOPERATIONAL: (5028, "Preoperational"),
    VisionState.HALTED: (5029, "Halted"),
    VisionState.ERROR: (5030, "Error"),
    VisionState.OPERATIONAL: (5031, "Operational"),
    VisionState.INITIALIZED: (5056, "Initialized"),
    VisionState.READY: (5057, "Ready"),
    VisionState.SINGLE_EXECUTION: (5058, "SingleExecution"),
    VisionState.CONTINUOUS_EXECUTION: (5059, "ContinuousExecution"),
}
EVENTS = {"ResultReady": 1024, "JobStarted": 1013, "Ready": 1023, "StateChanged": 1018}
PRODUCTIVE, STANDBY, DOWN = 1, 2, 5  # SystemState, as SEMI E10 counts time


@dataclass(frozen=True, slots=True)
class View:
    """What is to be seen at one moment."""

    block: list[int]  # registers 100..149
    state: VisionState
    job: Job | None = None  # that is under way


class Space:
    """`show` brings all nodes up to date. Used in the server's loop alone."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._written: dict[str, object] = {}
        self._state: VisionState | None = None
        self._job: Job | None = None
        self._events: dict[str, list[Any]] = {}

    async def prepare_events(self) -> None:
        """Before the first look."""
        for name, number in EVENTS.items():
            self._events[name] = await self._generators(self._nodes.of_standard(number))

    async def plc_heartbeat(self) -> int:
        """What the PLC has written last."""
        return int(await self._nodes.node(f"Station.{BEAT.name}").read_value())

    async def show(self, view: View, results: Iterable[VisionResult]) -> None:
        """Write what has changed, data first and STATUS last; then tell the events."""
        await self._show_block(view.block)
        await self._show_state(view)
        for result in results:
            await self._tell(
                "ResultReady", f"{result.part_id}: {result.verdict.reason.name}", result_fields(result)
            )
        await self._tell_state(view)

    async def _generators(self, kind: ua.NodeId) -> list[Any]:
        """An event is heard at the vision system, and at the server object, where most clients listen."""
        places = (self._nodes.node("VisionSystem"), self._nodes.server.nodes.server)
        source = self._nodes.node("VisionSystem").nodeid
        generators = [await self._nodes.server.get_event_generator(kind, place) for place in places]
        for each in generators:
            each.event.SourceNode, each.event.SourceName = source, "VisionSystem"
        return generators

    async def _show_block(self, block: list[int]) -> None:
        values = {register.name: decode(register.name, block) for register in SHOWN}
        status = Status(int(values["STATUS"]))
        if any(self._written.get(f"Station.{name}") != values[name] for name in ("VERDICT", "SEQUENCE")):
            await self._put_status(status & ~RESULT_BITS)  # the new id never stands beside the old pass
        for register in SHOWN:
            if register.name != "STATUS":
                kind = TYPES[register.type]
                await self._put(f"Station.{register.name}", _typed(values[register.name], kind), kind)
        fields = {register.name: _typed(values[register.name], TYPES[register.type]) for register in SHOWN}
        await self._put("Station.BLOCK", structure("StationBlock", **fields), ua.VariantType.ExtensionObject)
        await self._put_status(status)

    async def _put_status(self, status: Status) -> None:
        await self._put("Station.STATUS", int(status), ua.VariantType.UInt16)
        for bit in Status:
            await self._put(f"Station.STATUS.{bit.name}", bool(status & bit), ua.VariantType.Boolean)

    async def _show_state(self, view: View) -> None:
        await self._put_state(MACHINE, view.state.outer)
        inner = view.state if view.state.outer is VisionState.OPERATIONAL else None
        await self._put_state(AUTOMATIC, inner)
        system = {VisionState.ERROR: DOWN, VisionState.SINGLE_EXECUTION: PRODUCTIVE,
                  VisionState.CONTINUOUS_EXECUTION: PRODUCTIVE}.get(view.state, STANDBY)  # fmt: skip
        described = structure(
            "SystemStateDescriptionDataType", State=structure("SystemStateDataType", system)
        )
        await self._put("VisionSystem.SystemState", described, ua.VariantType.ExtensionObject)

    async def _put_state(self, machine: str, state: VisionState | None) -> None:
        """A machine that is not active has no state: that is a bad status, and no value."""
        bad = ua.StatusCodes.BadStateNotActive if state is None else None
        number, name = STATE_NODES[state or VisionState.OPERATIONAL]
        text, node = ua.LocalizedText(name), self._nodes.of_standard(number)
        await self._put(f"{machine}.CurrentState", text, ua.VariantType.LocalizedText, bad)
        await self._put(f"{machine}.CurrentState.Id", node, ua.VariantType.NodeId, bad)

    async def _put(self, name: str, value: Any, kind: ua.VariantType, bad: int | None = None) -> None:
        if self._written.get(name, self) == (shown := value if bad is None else bad):
            return
        self._written[name] = shown
        now = datetime.now(UTC)
        code = ua.StatusCode(bad or ua.StatusCodes.Good)
        data = ua.DataValue(ua.Variant(value, kind), code, SourceTimestamp=now, ServerTimestamp=now)
        await self._nodes.server.write_attribute_value(self._nodes.id(name), data)

    async def _tell_state(self, view: View) -> None:
        before, self._state = self._state, view.state
        job, self._job = self._job, view.job
        if view.job is not None and (job is None or job.job_id != view.job.job_id):
            await self._tell("JobStarted", view.job.job_id, {"JobId": _job_id(view.job)})
        if before is None or before is view.state:
            return
        await self._tell("StateChanged", *self._change(before, view.state))
        if view.state is VisionState.READY and job is not None:
            await self._tell("Ready", job.job_id, {"JobId": _job_id(job)})

    def _change(self, before: VisionState, after: VisionState) -> tuple[str, dict[str, Any]]:
        (old_id, old), (new_id, new) = STATE_NODES[before], STATE_NODES[after]
        texts = {"FromState": old, "ToState": new, "Transition": f"{old}To{new}"}
        nodes = {"FromState/Id": old_id, "ToState/Id": new_id}
        return f"{old} -> {new}", {
            **{name: ua.LocalizedText(text) for name, text in texts.items()},
            **{name: self._nodes.of_standard(number) for name, number in nodes.items()},
        }

    async def _tell(self, what: str, message: str, fields: dict[str, Any]) -> None:
        for generator in self._events[what]:
            for name, value in fields.items():
                generator.event.add_property(name, value, kind_of(value))
            generator.event.Severity = 100
            await generator.trigger(message=message)


def _job_id(job: Job) -> Any:
    return structure("JobIdDataType", Id=job.job_id)


def _typed(value: float, kind: ua.VariantType) -> float:
    return value if kind is ua.VariantType.Float else int(value)
