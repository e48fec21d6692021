"""A short trial: what one picture takes with each engine and library at hand, and whether they agree.

Limits are set with ONNX Runtime. Another library that gives other scores would judge by limits that are not
its own, so it is left out, however fast it is. The result is kept, since it holds until engine, recipe,
library or processor change.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge.atomic import write_atomically
from edge.backends import Backend, open_backend
from edge.cameras.parts import render_part
from edge.engines.machine import Machine
from edge.errors import BackendFault
from edge.picture.preprocess import resize
from edge.recipe import load_pair, load_recipe, recipe_path

TRIAL_S = 0.3  # for the pictures of all candidates; opening them comes on top
LEAST_ROUNDS, MOST_ROUNDS = 3, 20
SEED = 20_000  # of the drawn parts that are shown: any part-like pictures will do
# Relative. FP32 scores of OpenVINO lie within 5e-5 of ONNX Runtime's, INT8 scores 5e-3 to 8e-2 off.
SAME_SCORE = 5e-4
REFERENCE = "onnxruntime"
FORMAT = 1  # of what is kept; another number makes all that was kept before a thing unknown


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine with one library; `backend` as `open_backend` knows it."""

    engine: Path
    backend: str

    def __str__(self) -> str:
        return f"{self.engine.name} with {self.backend}"


@dataclass(frozen=True)
class Trial:
    """By a candidate's text: milliseconds a picture, or why it must not judge here.

    Of all rounds the quickest counts: it hears least of what else the machine does meanwhile.
    """

    ms: Mapping[str, float]
    left_out: Mapping[str, str]


def hold_trial(candidates: Sequence[Candidate]) -> Trial:
    """Open all, show all of them the same pictures in turn. Raises RecipeError."""
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        opened: dict[Candidate, Backend] = {}
        for candidate in candidates:
            engine, recipe, _ = load_pair(candidate.engine)
            try:
                backend = open_backend(engine, recipe, candidate.backend)
                opened[candidate] = stack.enter_context(closing(backend))
            except BackendFault as error:
                left_out[str(candidate)] = str(error)
        seconds, scores = _in_turn(opened)
    for candidate in opened:
        reference = scores.get(Candidate(candidate.engine, REFERENCE), [])
        if why := disagreement(scores[candidate], reference):
            left_out[str(candidate)] = why
    ms = {str(c): round(min(seconds[c]) * 1e3, 3) for c in opened if str(c) not in left_out}
    return Trial(ms, left_out)


Series = dict[Candidate, list[float]]


def _in_turn(opened: Mapping[Candidate, Backend]) -> tuple[Series, Series]:
    """Seconds and scores of every round; in turn, so that a busy moment of the machine slows all of them."""
    seconds: Series = {candidate: [] for candidate in opened}
    scores: Series = {candidate: [] for candidate in opened}
    until = time.perf_counter() + TRIAL_S
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.perf_counter() > until:
            break
        part = render_part(SEED, number)
        for candidate, backend in opened.items():
            pixels = resize(part, backend.input_size)
            begun = time.perf_counter()
            scores[candidate].append(backend.infer(pixels)[1])
            seconds[candidate].append(time.perf_counter() - begun)
    return seconds, scores


def disagreement(scores: Sequence[float], reference: Sequence[float]) -> str:
    """Why scores of the same pictures are not those that the limits were set on; "" where they are."""
    if not reference:
        return "ONNX Runtime, with which its limits were set, cannot open it"
    worst = np.abs(np.divide(scores, reference) - 1).max()
    if worst <= SAME_SCORE:  # False where any score is NaN
        return ""
    return f"its scores are {worst:.2%} off those of ONNX Runtime, with which its limits were set"


@dataclass(frozen=True)
class TrialMemory:
    """A folder with one small file for each set of engines on each machine. Nothing there is ever needed:
    what cannot be read is measured again, what cannot be written is measured at every start."""

    folder: Path

    def trial(self, candidates: Sequence[Candidate], machine: Machine) -> Trial:
        """The trial of the very same engines here: held before, or held now and kept. Raises RecipeError."""
        # It seals the engine's sha256 too, and the view, which changes what a picture takes.
        engines = {c.engine.name: load_recipe(recipe_path(c.engine)).digest for c in candidates}
        facts = {**machine, "format": FORMAT, "engines": engines}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{digest[:24]}.json"
        if (known := _read(path, facts, candidates)) is not None:
            return known
        trial = hold_trial(candidates)
        with suppress(OSError):  # a full or read-only disk is no reason not to inspect
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, (json.dumps({"facts": facts, **asdict(trial)}, indent=2) + "\n").encode())
        return trial


def _read(path: Path, facts: Machine, candidates: Sequence[Candidate]) -> Trial | None:
    """What was kept; None where it is not there, not whole, or of something else."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        trial = Trial({k: float(v) for k, v in kept["ms"].items()}, {**kept["left_out"]})
        whole = kept["facts"] == facts and {*trial.ms, *trial.left_out} == {str(c) for c in candidates}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    sane = all(math.isfinite(ms) and ms > 0 for ms in trial.ms.values())
    return trial if whole and sane else None
