"""Showing and changing a recipe; every change seals it again."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.backends.ort import embedded_recipe
from edge.errors import RecipeError
from edge.recipe import (
    Artefact,
    Recipe,
    dumps,
    find_engine,
    load_pair,
    parse_recipe,
    recipe_path,
    save_recipe,
    sha256_of,
)


def change_recipe(path: Path, changes: dict[str, Any]) -> str:
    """Apply the changes that are not None, seal, and show the recipe. Raises RecipeError."""
    engine, recipe, _ = load_pair(path)
    wanted = {name: value for name, value in changes.items() if value is not None}
    if not wanted:
        return readable(recipe)
    try:
        changed: Recipe = replace(recipe, **wanted)
    except ValueError as error:
        raise RecipeError(f"these settings do not fit: {error}", str(path), "Nothing was changed.") from error
    if (changed.review, changed.fail) != (recipe.review, recipe.fail):
        changed = replace(changed, expected_false_rejects={})  # that promise was made for the old limits
    save_recipe(changed, recipe_path(engine))
    return readable(changed)


def readable(recipe: Recipe) -> str:
    """The file's text for a person: of mask and reference patch only how long they are."""
    return re.sub(r'"[\w+/=]{200,}"', lambda text: f'"... {len(text.group())} characters"', dumps(recipe))


def restore_recipe(path: Path) -> str:
    """Write the recipe anew from the copy in the engine's metadata: limits as they were built.

    Raises RecipeError when the engine carries none, BackendFault when it is no ONNX file.
    """
    engine = find_engine(path)
    if recipe_path(engine).exists():
        hint = "Move it away first, if you mean it: its limits are lost."
        raise RecipeError("there is a recipe already", str(recipe_path(engine)), hint)
    text = embedded_recipe(engine)
    if not text:
        raise RecipeError("the engine carries no recipe", str(engine), "Run build-engines again.")
    recipe = parse_recipe(json.loads(text), str(engine))
    precision = "int8" if engine.stem.endswith(".int8") else "fp32"
    artefact = Artefact(engine.name, sha256_of(engine), precision)
    save_recipe(recipe.with_artefact(artefact), recipe_path(engine))
    return readable(recipe.with_artefact(artefact))
