"""`run --rebuild-if-needed`: a plan that does not fit this machine is built again while the station inspects.

    plan fits ----------------------------> the plan
    missing or does not fit, no GPU ------> the ONNX beside it, for good
    fits, but cannot be opened -----------> the ONNX beside it: another build would not open either
    missing or does not fit, a GPU -------> build-engines in a process of its own, then the new plan;
                                            till then the ONNX, where it meets the deadline

"Does not fit": another GPU or TensorRT, another ONNX, not the file of its recipe. A plan whose settings
were made by hand is not built again with nobody there: what is new would judge by other limits.

The new plan takes over between two parts, with its own recipe: limits belong to an engine.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edge.engines.choice import BY_HAND
from edge.engines.engine import IN_PROCESS, Housing, Opened, open_engine, pace
from edge.errors import BackendFault, RecipeError
from edge.frame import AnomalyMap, Pixels
from edge.gpu import describe_mismatch, own_sm
from edge.recipe import Recipe, load_pair, load_recipe, recipe_left, recipe_path, sha256_of
from edge.remake import as_typed, model_of, other_kernel, plan_for, plan_words

# At the lowest priority: the parts that are judged meanwhile come first.
BUILD = "import os; os.nice(19); from build_engines.cli import main; main()"
GRACE_S = 2.0  # to remove what is half-written; while TensorRT builds, nothing is, and it hears no signal
TOLD = ("gate, ", "built ", "note ")  # what of the build's output is for the station's log

Say = Callable[[str], None]


class Maker(Protocol):
    """What makes the engine that takes over."""

    def make(self) -> Opened:
        """May take minutes. Raises BackendFault or another InspectError, which say why there is none."""

    def cancel(self) -> None:
        """End `make` soon; from another thread."""


@dataclass(frozen=True)
class Start:
    """What a station begins with, and what makes the engine that takes over; `note` says why."""

    opened: Opened
    maker: Maker | None = None
    note: str = ""


def begin(plan: Path, say: Say, backend: str = "onnxruntime", housing: Housing = IN_PROCESS) -> Start:
    """What to inspect with where `plan` was asked for; `backend` runs the ONNX meanwhile, both in `housing`.

    Raises InspectError where there is no ONNX either, or a recipe that cannot be read.
    """
    sm = own_sm()
    wanted = plan if sm is None else plan_for(plan, sm)  # an earlier run may have built it
    asked = wanted if wanted.is_file() else plan
    fault, opens = unfit(asked), True
    if not fault:
        try:
            return Start(open_engine(asked, housing=housing))
        except BackendFault as error:  # the GPU's memory is taken, pycuda is missing
            fault, opens = str(error), False
    recipe = load_recipe(recipe_path(asked)) if asked.is_file() else recipe_left(asked)
    stand_in = open_engine(model_of(asked, recipe.made_with if recipe else {}), backend, housing)
    if sm is None or not opens:
        note = f"{plan.name} cannot run here: {fault}. Inspecting with {_named(stand_in)}"
        return Start(stand_in, None, note)
    made_with = (recipe or stand_in.recipe).made_with
    words = plan_words(asked, sm, made_with=made_with)
    if recipe and by_hand(recipe, stand_in.recipe):
        note = f"{fault}. Its settings were made by hand, so it is not built again with nobody there: "
        return Start(stand_in, None, f"{note}{as_typed(words)}. Inspecting with {_named(stand_in)}")
    words = [word for word in words if word != "--force"]  # a person's word for one result
    return rebuilding(PlanBuild(wanted, words, say, housing), stand_in, fault)


def unfit(plan: Path) -> str:
    """Why a plan cannot run on this machine, or not as what it stands for; "" where it can."""
    if not plan.is_file():
        return "there is no such plan"
    try:
        _, recipe, artefact = load_pair(plan)
    except RecipeError as error:
        return str(error)
    model, of = model_of(plan, recipe.made_with), recipe.made_with.get("of", "").rpartition(" ")[2]
    if model.is_file() and of and sha256_of(model) != of:
        return f"the plan was made from another {model.name}"
    return other_kernel(recipe.made_with) or describe_mismatch(artefact)


def by_hand(recipe: Recipe, model: Recipe) -> bool:
    """Whether a plan's recipe has settings that a new plan, which takes them from the ONNX's, would lose."""
    moved = any(getattr(recipe, name) != getattr(model, name) for name in BY_HAND)
    return moved or not recipe.expected_false_rejects


def _named(stand_in: Opened) -> str:
    return f"{stand_in.path.name} on {stand_in.backend.name}"


def rebuilding(maker: Maker, stand_in: Opened, fault: str) -> Start:
    """Inspect with `stand_in` where it meets its deadline, else with nothing, until the plan is made."""
    if stand_in.picture_ms <= stand_in.recipe.deadline_ms:
        return Start(stand_in, maker, f"{fault}. Inspecting with {stand_in.path.name} until it is rebuilt")
    stand_in.backend.close()
    note = f"{fault}. No part passes until it is rebuilt: with {stand_in.path.name} " + pace(
        stand_in.picture_ms, stand_in.recipe
    )
    return Start(replace(stand_in, backend=NoEngine(stand_in.backend.input_size)), maker, note)


class NoEngine:
    """Stands where the engine is still being made: no part is judged, so none passes."""

    name, resizes, ready = "no engine yet", False, False

    def __init__(self, input_size: tuple[int, int]) -> None:
        self.input_size, self.why = input_size, "the engine is still being built"

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """Raises BackendFault."""
        raise BackendFault(self.why, self.name, "Parts are judged as soon as there is one.")

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """Raises BackendFault."""
        raise BackendFault(self.why, self.name, "Parts are judged as soon as there is one.")

    def close(self) -> None:
        """There is nothing to free."""


class PlanBuild:
    """build-engines as a process of its own, with the arguments `words`, until `plan` is there."""

    def __init__(self, plan: Path, words: Sequence[str], say: Say, housing: Housing = IN_PROCESS) -> None:
        self._plan, self._words, self._say, self._housing = plan, words, say, housing
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False

    def make(self) -> Opened:
        """See `Maker`."""
        command = as_typed(self._words)
        self._say(f"building {self._plan.name}: {command}")
        code, error = self._run()
        if code:
            what = f"the build failed: {error or f'it ended with code {code}'}"
            raise BackendFault(what, self._plan.name, f"Try it by hand: {command}")
        return open_engine(self._plan, housing=self._housing)

    def cancel(self) -> None:
        """See `Maker`; an interrupted build leaves nothing half-made."""
        self._cancelled = True
        if self._process is not None:
            _end(self._process)

    def _run(self) -> tuple[int, str]:
        """Exit code and error line. A session of its own: a Ctrl-C is for the station alone."""
        error = ""
        with subprocess.Popen(
            [sys.executable, "-c", BUILD, *self._words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "COLUMNS": "1000"}, start_new_session=True,
        ) as self._process:  # fmt: skip
            if self._cancelled:  # between the two
                _end(self._process)
            assert self._process.stderr is not None
            for line in map(str.strip, self._process.stderr):
                if line.startswith(TOLD):
                    self._say(line)
                if line.startswith("error "):
                    error = line.removeprefix("error ")
        return self._process.returncode, error


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
