"""What clients may call. Every method answers with the standard's `Error`: 0 done, below 0 why not."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asyncua import ua

from edge.outputs.opcua.nodes import AUTOMATIC, MACHINE, RECIPES, RESULTS, Nodes
from edge.outputs.opcua.structures import id_of, kind_of, result_fields, result_structure, structure
from edge.plc.commands import Command, Order
from edge.plc.handshake import Handshake
from edge.plc.link import PlcLink
from edge.plc.registers import U32_MASK, Status
from edge.plc.vision import Job, Refusal, VisionLine, VisionResult

RECIPE_S = 5.0  # a client waits no longer for PrepareRecipe than most libraries do for any answer
IDS = ("MeasId", "PartId", "ExternalRecipeId", "InternalRecipeId", "ExternalConfigurationId",
       "InternalConfigurationId", "ProductId", "JobId")  # fmt: skip
COMPONENTS = (  # of GetResultComponentsById, in order, behind the handle
    "IsPartial", "IsSimulated", "ResultState", "MeasId", "PartId", "ExternalRecipeId", "InternalRecipeId",
    "ProductId", "ExternalConfigurationId", "InternalConfigurationId", "JobId", "CreationTime",
    "ProcessingTimes", "ResultContent",
)  # fmt: skip
Values = list[Any]
Body = Callable[..., Values | Awaitable[Values]]


class Methods:
    """Bound to the nodes once; `changed` is awaited after each call, so that its effect is seen at once."""

    def __init__(self, link: PlcLink, line: VisionLine, changed: Callable[[], Awaitable[None]]) -> None:
        self._link, self._line, self._changed = link, line, changed

    async def bind(self, nodes: Nodes) -> None:
        """Every method node that is left in the address space gets its body."""
        bodies: dict[str, tuple[int, Body]] = {
            f"{AUTOMATIC}.StartSingleJob": (5, self._start_single),
            f"{AUTOMATIC}.StartContinuous": (5, self._start_continuous),
            f"{AUTOMATIC}.Stop": (2, lambda *_: self._act(lambda hand, _: self._line.stop(hand))),
            f"{AUTOMATIC}.Abort": (2, lambda *_: self._act(self._line.abort)),
            f"{MACHINE}.Halt": (2, lambda *_: self._act(self._line.halt)),
            f"{MACHINE}.Reset": (2, lambda *_: self._act(self._line.reset)),
            f"{MACHINE}.ConfirmAll": (1, self._confirm),
            f"{RECIPES}.GetRecipeListFiltered": (6, self._recipes),
            f"{RECIPES}.PrepareRecipe": (2, self._prepare),
            f"{RECIPES}.UnprepareRecipe": (2, self._unprepare),
            f"{RESULTS}.GetResultById": (2, self._result),
            f"{RESULTS}.GetResultComponentsById": (2, self._components),
            f"{RESULTS}.GetResultListFiltered": (12, self._result_list),
        }
        for name, (count, body) in bodies.items():
            nodes.server.link_method(nodes.node(name), self._guarded(count, body))
        await self._add_plain(nodes)

    async def _add_plain(self, nodes: Nodes) -> None:
        """For PLCs that know UInt32 and Boolean, but no structures."""
        station, uint, flag = nodes.node("Station"), ua.VariantType.UInt32, ua.VariantType.Boolean
        for name, body in (("Trigger", self._plain_trigger), ("Acknowledge", self._plain_acknowledge)):
            node = nodes.node(f"Station.{name}").nodeid
            shown = ua.QualifiedName(name, node.NamespaceIndex)
            await station.add_method(node, shown, self._guarded(1, body), [uint], [flag])

    def _guarded(self, count: int, body: Body) -> Callable[..., Awaitable[Any]]:
        async def call(parent: ua.NodeId, *arguments: ua.Variant) -> Any:
            if len(arguments) != count:
                fewer = len(arguments) < count
                codes = ua.StatusCodes
                return ua.StatusCode(codes.BadArgumentsMissing if fewer else codes.BadTooManyArguments)
            try:
                values = body(*(argument.Value for argument in arguments))
                answer = values if isinstance(values, list) else await values
            except (TypeError, ValueError):  # not what the standard says stands there
                return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
            await self._changed()
            return [each if isinstance(each, ua.Variant) else ua.Variant(each) for each in answer]

        return call

    # Jobs

    def _start_single(self, *arguments: Any) -> Values:
        return self._started(
            self._link.act(lambda hand, now: self._line.start_single(hand, _job(arguments), now))
        )

    def _start_continuous(self, *arguments: Any) -> Values:
        job = _job(arguments)
        return self._started(self._link.act(lambda hand, now: self._line.start_continuous(hand, job, now)))

    def _started(self, answer: tuple[Job | None, Refusal]) -> Values:
        job, refusal = answer
        return [structure("JobIdDataType", Id=job.job_id if job else ""), _error(refusal)]

    def _act(self, what: Callable[[Handshake, int], Refusal]) -> Values:
        return [_error(self._link.act(what))]

    def _confirm(self, comment: Any) -> Values:
        self._link.act(lambda hand, now: hand.clear_error(now))
        return []

    def _plain_trigger(self, part_id: Any) -> Values:
        wanted = Job("", part_id=str(_whole(part_id)))
        job, _ = self._link.act(lambda hand, now: self._line.start_single(hand, wanted, now))
        return [job is not None]

    def _plain_acknowledge(self, part_id: Any) -> Values:
        number = _whole(part_id)
        return [self._link.act(lambda hand, now: hand.acknowledge(number, now))]

    # Recipes: one is loaded, always

    def _recipes(self, external: Any, product: Any, prepared: Any, *page: Any) -> Values:
        recipe = self._line.recipe
        fits = recipe and self._line.knows_recipe(id_of(external)) and not id_of(product) and prepared != 0
        found = [structure("RecipeIdInternalDataType", Id=recipe)] if fits else []
        return [*_page(found, *page[:2]), _error(Refusal.NONE)]

    async def _prepare(self, external: Any, internal: Any) -> Values:
        wanted = id_of(internal) or id_of(external)
        if wanted and self._line.knows_recipe(wanted):
            return _prepared(self._line.recipe, True, Refusal.NONE)
        if not (wanted.isascii() and wanted.isdigit() and int(wanted) <= U32_MASK):
            return _prepared("", False, Refusal.UNKNOWN_ID)
        load = (Command.LOAD_RECIPE, int(wanted))
        order = self._link.act(lambda hand, now: hand.command(*load, now))
        return await self._loaded(order)

    async def _loaded(self, order: Order | None) -> Values:
        """The order ends where it is carried out; `IsCompleted` False: it is still under way."""
        until = time.monotonic() + RECIPE_S
        while order is not None and self._link.act(lambda hand, _: hand.commands.order) == order:
            if time.monotonic() > until:
                return _prepared("", False, Refusal.NONE)
            await asyncio.sleep(0.02)
        done = order is not None and self._link.act(_has_done)
        return _prepared(self._line.recipe if done else "", done, Refusal.NONE if done else Refusal.FAILED)

    def _unprepare(self, external: Any, internal: Any) -> Values:
        """The station never is without a recipe."""
        return [structure("RecipeIdInternalDataType", Id=self._line.recipe), _error(Refusal.NOT_SUPPORTED)]

    # Results

    def _result(self, wanted: Any, timeout: Any) -> Values:
        result = self._line.find(id_of(wanted))
        shown = structure("ResultDataType") if result is None else result_structure(result)
        return [_handle(), shown, _found(result)]

    def _components(self, wanted: Any, timeout: Any) -> Values:
        result = self._line.find(id_of(wanted))
        fields = {} if result is None else result_fields(result)
        empty = structure("ResultDataType")
        all_fields = {name: fields.get(name, getattr(empty, name)) for name in COMPONENTS}
        values = [ua.Variant(value, kind_of(value)) for value in all_fields.values()]
        return [False, _handle(), *values, _found(result)]

    def _result_list(self, state: Any, *arguments: Any) -> Values:
        wanted = {name: id_of(each) for name, each in zip(IDS, arguments, strict=False)}
        wanted["ResultState"] = str(state) if state else ""
        found = [result_structure(each) for each in self._line.select(wanted)]
        return [*_page(found, *arguments[len(IDS) : len(IDS) + 2]), _error(Refusal.NONE)]


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"no number: {number!r}")
    return number


def _has_done(hand: Handshake, now_ns: int) -> bool:
    done = bool(hand.commands.bits & Status.COMMAND_DONE)
    hand.commands.taken_back()
    return done


def _job(arguments: tuple[Any, ...]) -> Job:
    meas, part, recipe, product, _ = arguments
    return Job("", id_of(meas), id_of(part), id_of(recipe), id_of(product))


def _error(refusal: Refusal) -> ua.Variant:
    return ua.Variant(int(refusal), ua.VariantType.Int32)


def _handle() -> ua.Variant:
    """Always 0: there is no ReleaseResultHandle, because nothing is held for anybody."""
    return ua.Variant(0, ua.VariantType.UInt32)


def _found(result: VisionResult | None) -> ua.Variant:
    return _error(Refusal.NONE if result else Refusal.UNKNOWN_ID)


def _prepared(recipe: str, completed: bool, refusal: Refusal) -> Values:
    return [structure("RecipeIdInternalDataType", Id=recipe), completed, _error(refusal)]


def _page(found: list[Any], most: Any, start: Any) -> Values:
    """IsComplete, how many, handle, the part of the list that was asked for; `most` 0: all."""
    first, limit = int(start or 0), int(most or 0) or len(found)
    page = found[first : first + limit]
    listed = ua.Variant(page, ua.VariantType.ExtensionObject, is_array=True)
    count = ua.Variant(len(page), ua.VariantType.UInt32)
    return [first + limit >= len(found), count, _handle(), listed]
