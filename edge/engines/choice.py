"""Which engine and which library judge on this machine, where the user left it open.

INT8 is slower than FP32 on a processor without the right instructions, and no library is the fastest
everywhere: so a short trial decides, at the first start. Whatever is chosen judges by its own recipe, whose
name and digest stand in every verdict; and the choice is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.backends import backends_at_hand
from edge.engines.machine import Machine, this_machine
from edge.engines.trial import Candidate, Trial, TrialMemory
from edge.errors import InspectError, RecipeError
from edge.paths import cache_folder
from edge.recipe import Recipe, load_pair

WORTH_IT = 0.1  # share of the time that must be saved: less is within a short trial's noise
BY_HAND = ("deadline_ms", "max_frame_age_ms", "on_fault", "health", "camera")


@dataclass(frozen=True)
class Choice:
    """What `run` opens; `note` tells of it in one line, "" where there was nothing to choose."""

    engine: Path
    backend: str
    note: str = ""


def choose(
    path: Path, backend: str = "auto", machine: Machine | None = None, memory: TrialMemory | None = None
) -> Choice:
    """Engine and backend for what the user typed; a file or a backend that is named is used.

    `path` may be a model folder: then its INT8 engine may be taken as well. Never raises InspectError: what
    is wrong is said by whoever opens it.
    """
    memory = memory or TrialMemory(cache_folder() / "trials")
    try:
        engines, note = engines_of(path)
        all_here = at_hand(engines)
        wanted = [candidate for candidate in all_here if backend in ("auto", candidate.backend)]
        if not wanted or wanted == all_here[:1]:
            return Choice(engines[0], backend, note)
        trial = memory.trial(all_here, machine or this_machine())
    except InspectError:
        return Choice(path, backend)
    taken = fastest(wanted, trial)
    return Choice(taken.engine, taken.backend, "; ".join(filter(None, (told(taken, wanted, trial), note))))


def at_hand(engines: Sequence[Path]) -> list[Candidate]:
    """Every engine with every library that is installed; what was there before all choice comes first."""
    return [Candidate(engine, name) for engine in engines for name in backends_at_hand(engine)]


def fastest(wanted: Sequence[Candidate], trial: Trial) -> Candidate:
    """The first one, unless another saves WORTH_IT of its time. Who was left out only judges where nobody
    else is wanted."""
    allowed = [candidate for candidate in wanted if str(candidate) in trial.ms]
    if not allowed:
        return wanted[0]
    best = min(allowed, key=lambda candidate: trial.ms[str(candidate)])
    saved = 1 - trial.ms[str(best)] / trial.ms[str(allowed[0])]
    return best if saved >= WORTH_IT else allowed[0]


def told(taken: Candidate, wanted: Sequence[Candidate], trial: Trial) -> str:
    """The choice in one line; "" where one was named and nothing speaks against it."""
    if why := trial.left_out.get(str(taken)):
        return f"{taken} judges as asked for, but {why}: its verdicts may differ"
    if len(wanted) == 1:
        return ""
    others = [f"{c} {trial.ms[str(c)]:.1f} ms" for c in wanted if c != taken and str(c) in trial.ms]
    left_out = [f"{c} is left out: {trial.left_out[str(c)]}" for c in wanted if str(c) in trial.left_out]
    here = f"{taken} judges, {trial.ms[str(taken)]:.1f} ms a picture here"
    return "; ".join([", ".join([here, *others]), *left_out])


def engines_of(path: Path) -> tuple[list[Path], str]:
    """What was named; of a folder the INT8 engine too, or a note on why not. Raises RecipeError."""
    engine, recipe, _ = load_pair(path)
    other = engine.with_name(f"{engine.stem}.int8.onnx")
    if not path.is_dir() or not other.is_file():
        return [engine], ""
    try:
        why = unlike(recipe, load_pair(other)[1])
    except RecipeError as error:
        why = str(error)
    return ([engine], f"{other.name} is not considered: {why}") if why else ([engine, other], "")


def unlike(recipe: Recipe, int8: Recipe) -> str:
    """Why an INT8 engine may not stand in for its FP32 one without being asked; "" where it may."""
    if not recipe.same_model(int8):
        return "it was built from another model. Build it again with --int8"
    if not int8.made_with.get("gate", "").startswith("passed"):
        return "the accuracy gate did not pass it"
    if differing := [name for name in BY_HAND if getattr(recipe, name) != getattr(int8, name)]:
        return f"the two recipes differ in {', '.join(differing)}"
    if not (recipe.expected_false_rejects and int8.expected_false_rejects):
        return "limits were set by hand, which the other engine's do not follow. Name the engine to use it"
    return ""
