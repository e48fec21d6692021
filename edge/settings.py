"""Showing and changing a recipe; every change seals it again."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edge.backends.ort import embedded_recipe
from edge.errors import InspectError, RecipeError
from edge.recipe import (
    Artefact,
    Recipe,
    dumps,
    find_engine,
    load_pair,
    load_recipe,
    parse_recipe,
    recipe_path,
    save_recipe,
    sha256_of,
)
from edge.remake import as_typed, is_plan, plan_words

BY_HAND = ("review", "fail", "deadline_ms", "max_frame_age_ms", "on_fault")  # what may be changed

Say = Callable[[str], None]


def _nobody(text: str) -> None:
    pass


def change_recipe(path: Path, changes: dict[str, Any], say: Say = _nobody) -> tuple[Recipe, Recipe]:
    """Apply the changes that are not None and seal; the recipe before and after. Raises RecipeError.

    `say` hears what follows from them.
    """
    engine, recipe, _ = load_pair(path)
    wanted = {name: value for name, value in changes.items() if value is not None}
    if not wanted:
        return recipe, recipe
    try:
        changed: Recipe = replace(recipe, **wanted)
    except ValueError as error:
        raise RecipeError(f"these settings do not fit: {error}", str(path), "Nothing was changed.") from error
    if recipe.expected_false_rejects and (changed.review, changed.fail) != (recipe.review, recipe.fail):
        changed = replace(changed, expected_false_rejects={})
        say("the expected false rejects held for the old limits and are taken out; `edge-inspect evaluate` "
            "tells what the new ones stop")  # fmt: skip
    save_recipe(changed, recipe_path(engine))
    return recipe, changed


def readable(recipe: Recipe) -> str:
    """The file's text for a person: of mask and reference patch only how long they are."""
    return re.sub(r'"[\w+/=]{200,}"', lambda text: f'"... {len(text.group())} characters"', dumps(recipe))


def restore_recipe(path: Path) -> Recipe:
    """Write the recipe anew from the copy in the engine's metadata: limits as they were built.

    One that cannot be used is kept beside it as NAME.recipe.json.old. Raises RecipeError where there is one
    that can, or the engine carries none; BackendFault when it is no ONNX file.
    """
    engine = find_engine(path)
    _refuse_usable(recipe_path(engine))
    if is_plan(engine):
        hint = f"Build it again: {as_typed(plan_words(engine))}"
        raise RecipeError("a TensorRT plan carries no copy of its recipe", str(engine), hint)
    recipe = as_built(engine)
    precision = "int8" if engine.stem.endswith(".int8") else "fp32"
    recipe = recipe.with_artefact(Artefact(engine.name, sha256_of(engine), precision))
    if (old := recipe_path(engine)).exists():
        old.replace(old.with_name(old.name + ".old"))
    save_recipe(recipe, recipe_path(engine))
    return recipe


def _refuse_usable(path: Path) -> None:
    try:
        load_recipe(path)
    except RecipeError:
        return
    hint = "Move it away first, if you mean it: its limits are lost."
    raise RecipeError("there is a recipe already, and nothing is wrong with it", str(path), hint)


def as_built(engine: Path) -> Recipe:
    """The recipe inside an engine. Raises RecipeError, BackendFault."""
    hint = "Run build-engines again."
    text = embedded_recipe(engine)
    if not text:
        raise RecipeError("the engine carries no recipe", str(engine), hint)
    try:
        return parse_recipe(json.loads(text), str(engine), hint)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"the recipe in the engine cannot be read: {error}", str(engine), hint) from error


def set_by_hand(engine: Path) -> str:
    """What of an engine's recipe is not as it was built, as options of `edge-inspect recipe`; "" for nothing.

    A recipe or an engine that cannot be read has nothing to keep.
    """
    try:
        built, now = as_built(engine), load_recipe(recipe_path(engine))
    except InspectError:
        return ""
    changed = [name for name in BY_HAND if getattr(now, name) != getattr(built, name)]
    words = [f"--{name.replace('_', '-')} {getattr(now, name)}" for name in changed]
    if now.camera and now.camera != built.camera:
        words.append(f"--camera {shlex.quote(urlencode(now.camera))}")
    return " ".join(words)
