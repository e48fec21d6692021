"""A station as OPC 40100-1 (OPC UA for Machine Vision, 1.0) sees it: states, jobs, results.

    Preoperational, Operational { Initialized, Ready, SingleExecution, ContinuousExecution }, Halted, Error

Pure: no thread, no socket, no OPC UA library. The handshake says what the station does, and nothing here is
a second truth beside it: the state is read from it at every look. A job is a trigger; its result is found by
its id, its job, its part. Starting the next job takes the result of the last one.
"""

import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from edge.plc.handshake import Handshake, Mode
from edge.plc.registers import U32_MASK, VisionState
from edge.plc.station_image import result_id
from edge.verdict import Verdict

KEPT_RESULTS = 100  # the newest, for whoever asks by id


class Refusal(IntEnum):
    """What a method answers in `Error`. The standard keeps what is above 0 and leaves what is below to us."""

    NONE = 0
    WRONG_STATE = -1
    NOT_SUPPORTED = -2
    UNKNOWN_ID = -3
    FAILED = -4


class ResultState(IntEnum):
    """How far a result came; says nothing about the part."""

    COMPLETED = 1
    ABORTED = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Job:
    """What a client asked for. Ids are its own texts; `job_id` is ours."""

    job_id: str
    meas_id: str = ""
    part_id: str = ""
    recipe_id: str = ""
    product_id: str = ""
    continuous: bool = False


@dataclass(frozen=True, slots=True)
class VisionResult:
    """One verdict with all that the standard wants to know of it."""

    result_id: str
    job: Job
    verdict: Verdict
    sequence: int
    started: datetime
    ended: datetime
    simulated: bool = False

    @property
    def state(self) -> ResultState:
        """Completed where the part was judged, whatever it was judged to be."""
        return ResultState.FAILED if self.verdict.reason.is_fault else ResultState.COMPLETED

    @property
    def external_recipe_id(self) -> str:
        """The recipe's name."""
        return self.verdict.recipe.partition("@")[0]

    @property
    def ids(self) -> dict[str, str]:
        """What results are looked up by, as the arguments of GetResultListFiltered are called."""
        return {
            "ResultState": str(int(self.state)),
            "MeasId": self.job.meas_id,
            "PartId": self.part_id,
            "ExternalRecipeId": self.external_recipe_id,
            "InternalRecipeId": self.verdict.recipe,
            "ProductId": self.job.product_id,
            "ExternalConfigurationId": "",
            "InternalConfigurationId": "",
            "JobId": self.job.job_id,
        }

    @property
    def part_id(self) -> str:
        """As the client called it; the number that stands in RESULT_ID where it gave none."""
        return self.job.part_id or str(result_id(self.verdict))


class VisionLine:
    """The jobs of one PLC. Outlives connections, as the handshake does; used by one thread at a time."""

    def __init__(self) -> None:
        self._run = uuid.uuid4().hex[:8]  # ids of another start are never taken for ours
        self._free_run = Job(f"{self._run}-0", continuous=True)
        self._jobs: OrderedDict[int, Job] = OrderedDict()  # by number of the trigger
        self._results: OrderedDict[str, VisionResult] = OrderedDict()
        self._number = 0
        self._continuous: Job | None = None
        self.halted = False
        self.recipe = ""  # "name@digest" of the one that is loaded; "" until somebody says it
        self.simulated = False  # the pictures are

    @property
    def continues(self) -> bool:
        """Whether the next trigger comes by itself."""
        return self._continuous is not None

    def state(self, hand: Handshake) -> VisionState:
        """What stands in CurrentState now."""
        if self.halted:
            return VisionState.HALTED
        job = self.current(hand)
        operational = hand.state.outer is VisionState.OPERATIONAL
        return VisionState.CONTINUOUS_EXECUTION if operational and job and job.continuous else hand.state

    def current(self, hand: Handshake) -> Job | None:
        """The job that is under way; in continuous execution also between two triggers."""
        if hand.last_trigger is not None:
            return self._job_of(hand.last_trigger.number)
        return self._continuous

    # What a client may ask for

    def start_single(self, hand: Handshake, wanted: Job, now_ns: int) -> tuple[Job | None, Refusal]:
        """A trigger. While no trigger would be taken it is counted as missed; its part is not inspected."""
        if hand.mode is Mode.FREE_RUN or wanted.product_id:
            return None, Refusal.NOT_SUPPORTED
        if not self.knows_recipe(wanted.recipe_id):
            return None, Refusal.UNKNOWN_ID
        if self.continues or not self._trigger(hand, wanted, now_ns) or hand.last_trigger is None:
            return None, Refusal.WRONG_STATE
        return self._remember(hand, replace(wanted, job_id=f"{self._run}-{hand.last_trigger.number}"))

    def start_continuous(self, hand: Handshake, wanted: Job, now_ns: int) -> tuple[Job | None, Refusal]:
        """Trigger again and again, as soon as a trigger is taken; all with one job id."""
        job, refusal = self.start_single(hand, replace(wanted, continuous=True), now_ns)
        self._continuous = job or self._continuous
        return job, refusal

    def go_on(self, hand: Handshake, now_ns: int) -> None:
        """In continuous execution: the next trigger, where one is taken; a result stands until the next."""
        while hand.waiting and hand.shown is not None and self._job_of(hand.shown.request).continuous:
            hand.acknowledge(result_id(hand.shown), now_ns)
        if self._continuous is not None and hand.ready:
            hand.trigger(part_number(self._continuous.part_id), now_ns)
            self._remember(hand, self._continuous)

    def stop(self, hand: Handshake) -> Refusal:
        """No further trigger; what is under way comes to its verdict."""
        if hand.mode is Mode.FREE_RUN:
            return Refusal.NOT_SUPPORTED  # the camera runs by itself; nobody can stop it from here
        if not self._executes(hand):
            return Refusal.WRONG_STATE
        self._continuous = None
        return Refusal.NONE

    def abort(self, hand: Handshake, now_ns: int) -> Refusal:
        """No further trigger; what is under way gets no result."""
        refusal = self.stop(hand)
        if refusal is Refusal.NONE:
            hand.abort(now_ns)
        return refusal

    def halt(self, hand: Handshake, now_ns: int) -> Refusal:
        """Nothing is shown and no trigger taken until the reset."""
        if hand.mode is Mode.FREE_RUN:
            return Refusal.NOT_SUPPORTED
        if self.halted:
            return Refusal.WRONG_STATE
        self.halted, self._continuous = True, None
        hand.withdraw(now_ns)
        return Refusal.NONE

    def reset(self, hand: Handshake, now_ns: int) -> Refusal:
        """Nothing of before is shown; operational again with the station's next sign of life."""
        if self.state(hand) is VisionState.PREOPERATIONAL:
            return Refusal.WRONG_STATE
        self.halted, self._continuous = False, None
        hand.withdraw(now_ns)
        return Refusal.NONE

    # Results

    def keep(self, verdict: Verdict, sequence: int, now_ns: int, now: datetime) -> VisionResult:
        """Put a verdict that is shown among the results. `now` is `now_ns` on the wall clock."""
        self._number += 1
        result = VisionResult(
            f"{self._run}-{self._number}", self._job_of(verdict.request), verdict, sequence,
            _wall_clock(verdict.captured_ns, now_ns, now), _wall_clock(verdict.decided_ns, now_ns, now),
            self.simulated,
        )  # fmt: skip
        self._results[result.result_id] = result
        if len(self._results) > KEPT_RESULTS:
            self._results.popitem(last=False)
        return result

    def find(self, result_id: str) -> VisionResult | None:
        """None when there never was such a result, or when it is too old."""
        return self._results.get(result_id)

    def select(self, wanted: Mapping[str, str]) -> list[VisionResult]:
        """Those whose ids are the wanted ones, oldest first; what is empty in `wanted` fits everything."""
        asked = {name: text for name, text in wanted.items() if text}
        return [r for r in self._results.values() if all(r.ids[name] == text for name, text in asked.items())]

    def knows_recipe(self, wanted: str) -> bool:
        """Whether this is the recipe that is loaded; an empty text leaves it open."""
        return not wanted or wanted in (self.recipe, self.recipe.partition("@")[0])

    def _trigger(self, hand: Handshake, wanted: Job, now_ns: int) -> bool:
        if hand.ready and hand.shown is not None:
            hand.acknowledge(result_id(hand.shown), now_ns)
        return hand.trigger(part_number(wanted.part_id), now_ns)

    def _executes(self, hand: Handshake) -> bool:
        return self.state(hand) >= VisionState.SINGLE_EXECUTION

    def _remember(self, hand: Handshake, job: Job) -> tuple[Job, Refusal]:
        if hand.last_trigger is not None and hand.last_trigger.number is not None:
            self._jobs[hand.last_trigger.number] = job
        if len(self._jobs) > KEPT_RESULTS:
            self._jobs.popitem(last=False)
        return job, Refusal.NONE

    def _job_of(self, number: int | None) -> Job:
        return self._free_run if number is None else self._jobs.get(number, Job(f"{self._run}-{number}"))


def part_number(part_id: str) -> int | None:
    """The part id as the u32 that all other outputs show; None where it is no such number."""
    return int(part_id) if part_id.isascii() and part_id.isdigit() and int(part_id) <= U32_MASK else None


def _wall_clock(at_ns: int, now_ns: int, now: datetime) -> datetime:
    return now.astimezone(UTC) - timedelta(microseconds=(now_ns - at_ns) / 1000)
