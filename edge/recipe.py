"""The recipe: one small readable JSON file that says how a model is used, and proves what belongs to it.

This is the only parser of that file. `digest` seals every field (sha256 over the canonical JSON), `sha256`
of each artefact seals the engine: a wrong pair, a missing half or a changed byte is refused. Limits are
changed with `edge-inspect recipe`, which seals the file again.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from edge.atomic import write_atomically
from edge.errors import DataError, RecipeError
from edge.remake import ENGINE_ENDING, as_typed, is_plan, plan_words

SCHEMA = 1
METADATA_KEY = "edge_inspect.recipe"  # where an ONNX file carries its copy
ONE_MODEL = ("name", "input_size", "roi", "view", "training_set", "normalisation")
LATER = ("view", "health", "camera")  # not in the first recipes
FAULT_OUTCOMES = ("fail", "review")  # never "pass"
LARGEST_SIDE = 100_000  # pixels; no camera has more
KINDS = {  # of the fields as they stand in the file
    "name": str, "on_fault": str,
    "review": int | float, "fail": int | float, "deadline_ms": int | float, "max_frame_age_ms": int | float,
    "training_set": dict, "normalisation": dict, "expected_false_rejects": dict, "made_with": dict,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Artefact:
    """One engine file; `path` is relative to the recipe, `sm` the CUDA compute capability it is bound to."""

    path: str
    sha256: str
    precision: str  # fp32, fp16, int8
    sm: int | None = None
    builder: str = "onnx"


@dataclass(frozen=True)  # no slots: the digest is computed once, not with every verdict
class Recipe:
    """How one product is inspected. Scores below `review` pass, from `fail` on they fail.

    `input_size` is (height, width) in pixels; `roi` is (x, y, width, height) in camera pixels or None for
    the whole picture; times are milliseconds. `view` says what else happens to a picture before the engine
    sees it (`edge/picture/view.py` reads it; mask and reference patch lie in it, so that nothing can get
    lost), `health` which pictures may be judged at all (`edge/picture/image_health.py`), `camera` which
    settings the camera must have (`edge/station/camera_settings.py`); they stand in the file only where there
    is something to say. What remains a reader may want to know and no code depends on: expected false
    rejects, training set digest, normalisation, versions.
    """

    name: str
    input_size: tuple[int, int]
    review: float
    fail: float
    roi: tuple[int, int, int, int] | None = None
    deadline_ms: float = 500.0
    max_frame_age_ms: float = 500.0
    on_fault: str = "fail"
    artefacts: tuple[Artefact, ...] = ()
    training_set: Mapping[str, Any] = field(default_factory=dict)
    normalisation: Mapping[str, Any] = field(default_factory=dict)
    expected_false_rejects: Mapping[str, Any] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    camera: Mapping[str, str | int | float] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        h, w = self.input_size
        if h <= 0 or w <= 0:
            raise ValueError(f"input_size {self.input_size} is empty")
        limits = (self.review, self.fail, self.deadline_ms, self.max_frame_age_ms)
        if not all(math.isfinite(limit) for limit in limits):
            raise ValueError(f"limits and times must be finite, not {limits}")  # an infinite limit passes all
        if self.review <= 0:
            raise ValueError(f"review limit {self.review} is not above zero: no part would pass")
        if self.review > self.fail:
            raise ValueError(f"review limit {self.review} is above fail limit {self.fail}")
        if self.on_fault not in FAULT_OUTCOMES:
            raise ValueError(
                f"on_fault {self.on_fault!r} is not one of {FAULT_OUTCOMES}; a fault is never a pass"
            )
        if not (self.deadline_ms > 0 and self.max_frame_age_ms > 0):
            raise ValueError("deadline_ms and max_frame_age_ms must be above zero")
        if self.roi is not None and (min(self.roi[:2]) < 0 or min(self.roi[2:]) <= 0):
            raise ValueError(f"roi {self.roi} is not x, y, width, height")

    @cached_property
    def digest(self) -> str:
        """sha256 over every field; changes when anything in the recipe changes."""
        return hashlib.sha256(_canonical(_fields(self)).encode()).hexdigest()

    @property
    def identity(self) -> str:
        """`name@digest`, short enough for a log line, long enough to tell two settings apart."""
        return f"{self.name}@{self.digest[:12]}"

    def same_model(self, other: Self) -> bool:
        """Whether both are of one trained model: the same pictures through the same view, what was fitted."""
        return all(getattr(self, name) == getattr(other, name) for name in ONE_MODEL)

    def with_artefact(self, artefact: Artefact) -> Self:
        """Add or replace the artefact of that path."""
        others = tuple(a for a in self.artefacts if a.path != artefact.path)
        return replace(self, artefacts=(*others, artefact))


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recipe_path(engine: Path) -> Path:
    """Where the recipe of an engine file stands: `loco.onnx` -> `loco.recipe.json`. Each engine has its own,
    since limits that were calibrated in one precision do not hold in another."""
    return engine.with_name(engine.stem + ".recipe.json")


def find_engine(path: Path) -> Path:
    """Accept what people type: the engine file, its folder, or `loco.onnx` for `loco/loco.onnx`.

    Raises RecipeError when there is no engine, naming the command that makes one.
    """
    if path.is_dir():
        folder = path
        others = sorted(p for p in folder.glob("*.onnx") if not p.stem.endswith(".int8"))
        candidates = [folder / f"{folder.resolve().name}.onnx", *(others if len(others) == 1 else [])]
    else:  # the file named, here or in its model folder; never another one
        folder = path.with_name(ENGINE_ENDING.sub("", path.name))
        candidates = [path, folder / path.name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    command = as_typed(_words_for(path, folder))
    raise RecipeError("there is no engine here", str(path), f"Make one with: {command}")


def _words_for(path: Path, folder: Path) -> list[str]:
    """What makes a missing engine; `folder` is where its model is, unless it is named in its own folder."""
    if is_plan(path):
        left = recipe_left(path)
        return plan_words(path, made_with=left.made_with if left else {})
    if path.suffix == ".onnx" and not folder.is_dir() and path.parent.is_dir() and path.parent != Path():
        folder = path.parent
    return [str(folder), *(["--int8"] if path.name.endswith(".int8.onnx") else [])]


def recipe_left(engine: Path) -> Recipe | None:
    """The recipe of an engine that may be gone; None where there is none that can be read."""
    try:
        return load_recipe(recipe_path(engine))
    except RecipeError:
        return None


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file. Raises RecipeError; an unknown or missing field is an error."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = f"It travels with the engine: copy both, or run: {_restore(path)}"
        raise RecipeError("the recipe is missing", str(path), hint) from error
    except (OSError, ValueError, RecursionError) as error:  # thousands of brackets
        raise RecipeError(f"the recipe cannot be read: {error}", str(path), _anew(path)) from error
    return parse_recipe(raw, str(path), _anew(path))


def parse_recipe(raw: Any, where: str, hint: str) -> Recipe:
    """Recipe from its JSON object, seal checked. Raises RecipeError with `where` it stands and the `hint`."""
    try:
        sealed = raw.pop("digest")
        recipe = _from_json(raw)
        unchanged = sealed == recipe.digest
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise RecipeError(f"the recipe cannot be read: {error!r}", where, hint) from error
    if not unchanged:
        raise RecipeError("the recipe was changed by hand (its digest does not fit)", where, hint)
    return recipe


def _anew(path: Path) -> str:
    if is_plan(path):
        return f"Take an unchanged copy, or build the plan again: {_restore(path)}"
    return f"Take an unchanged copy, or the one inside the engine, limits as built: {_restore(path)}"


def _restore(path: Path) -> str:
    """The command; it names the engine, as a folder may hold two. A plan has no copy of its recipe inside."""
    if is_plan(path):
        return as_typed(plan_words(path))
    engine = path.with_name(path.name.replace(".recipe.json", ".onnx"))
    return shlex.join(["edge-inspect", "recipe", str(engine), "--restore"])


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write sealed and atomically: after a power cut there is the old file or the new one, never half."""
    write_atomically(path, dumps(recipe).encode())


def dumps(recipe: Recipe) -> str:
    """The file's text: readable JSON, digest last."""
    ordered = {"schema": recipe.schema, **_fields(recipe), "digest": recipe.digest}
    return json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"


def check_artefact(recipe: Recipe, engine: Path) -> Artefact:
    """Find the engine in its recipe and compare digests. Raises RecipeError where they differ."""
    artefact = next((a for a in recipe.artefacts if Path(a.path).name == engine.name), None)
    if artefact is None:
        known = ", ".join(a.path for a in recipe.artefacts) or "none"
        raise RecipeError(
            f"the recipe {recipe.name!r} does not know this engine (it knows: {known})",
            str(engine),
            "Use the engine and the recipe of one build-engines run.",
        )
    if sha256_of(engine) != artefact.sha256:
        raise RecipeError(
            "the engine is not the one the recipe was made for (sha256 differs)",
            str(engine),
            "Copy both again from one build-engines run, or run build-engines again.",
        )
    return artefact


def stale_note(engine: Path) -> str:
    """What to say when the model beside an engine was trained again after the engine was built; else ""."""
    model = engine.with_name("model.pt")
    if model.exists() and model.stat().st_mtime > engine.stat().st_mtime:
        return f"{model} is newer than {engine.name}. Run: {as_typed([str(engine.parent)])}"
    return ""


def other_size(recipe: Recipe, shape: Sequence[int]) -> DataError | None:
    """What is wrong with a picture (height, width, ...) of another size than all learnt from; else None.

    Resized it would be sharper or softer than they were, and its score would mean little.
    """
    learnt = recipe.training_set.get("picture")  # (height, width); missing where they were not all alike
    if not learnt or tuple(learnt) == tuple(shape[:2]):
        return None
    what = f"the pictures are {shape[1]}x{shape[0]}, those learnt from {learnt[1]}x{learnt[0]}"
    return DataError(what, recipe.name, "Set the camera's size back, or train again.")


def load_pair(path: Path) -> tuple[Path, Recipe, Artefact]:
    """Engine file, its recipe and its entry there, all checked against each other. Raises RecipeError."""
    engine = find_engine(path)
    recipe = load_recipe(recipe_path(engine))
    return engine, recipe, check_artefact(recipe, engine)


def _fields(recipe: Recipe) -> dict[str, Any]:
    """Every field; what came later is left out where it is empty, so that older recipes keep their seal."""
    values = asdict(recipe)
    for name in LATER:
        if not values[name]:
            del values[name]
    return values


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _check_kinds(raw: dict[str, Any]) -> None:
    """What a dataclass does not look at: a text in place of a number would fail at the first part."""
    for name, value in raw.items():
        if name in KINDS and (not isinstance(value, KINDS[name]) or isinstance(value, bool)):
            raise ValueError(f"{name} is {value!r}")
    pairs = [*raw.get("input_size", ()), *(raw.get("roi") or ())]
    if not all(type(number) is int and number <= LARGEST_SIDE for number in pairs):
        raise ValueError(f"input_size and roi are whole pixels, not {pairs}")
    if not all(isinstance(entry.get("path"), str) for entry in raw.get("artefacts", ())):
        raise ValueError("an artefact without a path")


def _is_setting(value: object) -> bool:
    if isinstance(value, str):
        return bool(value)
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _from_json(raw: dict[str, Any]) -> Recipe:
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"schema {raw.get('schema')!r}, this version reads {SCHEMA}")
    unknown = raw.keys() - {f.name for f in fields(Recipe)}
    if unknown:
        raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
    _check_kinds(raw)
    for name in LATER:
        if name in raw and (not isinstance(raw[name], dict) or not raw[name]):
            raise ValueError(f"{name} is empty: a recipe without one leaves it out")
    if not all(_is_setting(value) for value in raw.get("camera", {}).values()):
        raise ValueError(f"camera is {raw['camera']!r}, not texts and numbers by name")
    raw["input_size"] = tuple(raw["input_size"])
    raw["roi"] = tuple(raw["roi"]) if raw.get("roi") else None
    raw["artefacts"] = tuple(Artefact(**a) for a in raw.get("artefacts", ()))
    return Recipe(**raw)
