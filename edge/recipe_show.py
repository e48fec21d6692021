"""A recipe in a few lines for a person: its limits, and what they were before a change."""

from collections.abc import Mapping
from urllib.parse import urlencode

from edge.recipe import Recipe
from edge.remake import KERNEL

ENDS = {  # what each setting is good for
    "review": "scores below it pass",
    "fail": "scores from it on fail; between the two: review",
    "deadline_ms": "from picture to verdict",
    "max_frame_age_ms": "older pictures are not judged",
    "on_fault": "what a part gets that could not be judged",
}


def shown(recipe: Recipe, before: Recipe | None = None, view: Mapping[str, str] | None = None) -> str:
    """All that can be set, with the old value where it is another one; the file has the rest.

    `view` says in words how pictures are looked at, one line each.
    """
    lines = [_line("recipe", recipe.identity, f"{recipe.input_size[1]}x{recipe.input_size[0]} pixels")]
    lines += [_line(name, text) for name, text in (view or {}).items()]
    for name, use in ENDS.items():
        now, old = _value(recipe, name), _value(before or recipe, name)
        lines.append(_line(name, now if now == old else f"{old} -> {now}", use))
    lines.append(_line("health", _health(recipe, before), "which pictures may be judged"))
    if KERNEL in recipe.made_with:
        lines.append(_line("kernel", recipe.made_with[KERNEL], "the plan has it; needs nvcc where it runs"))
    if text := _camera(recipe, before):
        lines.append(_line("camera", text, "written to the camera, and read back"))
    if text := _expected(recipe):
        lines.append(_line("expected", text))
    return "\n".join(lines) + "\n"


def _line(name: str, value: str, use: str = "") -> str:
    return f"{name:<17} {value:<18} {use}".rstrip()


def _value(recipe: Recipe, name: str) -> str:
    value = getattr(recipe, name)
    return value if isinstance(value, str) else f"{value:.5g}"


def _health(recipe: Recipe, before: Recipe | None) -> str:
    now, old = ("on" if each.health else "off" for each in (recipe, before or recipe))
    if before is not None and now == old and recipe.health != before.health:
        return "measured anew"
    return now if now == old else f"{old} -> {now}"


def _camera(recipe: Recipe, before: Recipe | None) -> str:
    """As `--camera` takes it; "" where neither sets anything."""
    now, old = (urlencode(each.camera) or "off" for each in (recipe, before or recipe))
    return "" if now == old == "off" else now if now == old else f"{old} -> {now}"


def _expected(recipe: Recipe) -> str:
    """How many good parts will be stopped; "" where nobody knows."""
    told = recipe.expected_false_rejects
    try:
        rate, low, high = (f"{float(told[name]):.2%}" for name in ("rate", "low", "high"))
    except (KeyError, TypeError, ValueError):
        return ""
    return f"{rate} of good parts stopped ({low} to {high}, from {told.get('pictures', '?')} pictures)"
