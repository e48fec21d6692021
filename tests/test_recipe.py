"""A recipe and its engine belong together, or are refused."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import RecipeError
from edge.recipe import (
    Artefact,
    Recipe,
    find_engine,
    load_pair,
    load_recipe,
    recipe_path,
    save_recipe,
    sha256_of,
)
from edge.settings import restore_recipe


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    engine = tmp_path / "loco" / "loco.onnx"
    engine.parent.mkdir()
    engine.write_bytes(b"an engine")
    recipe = Recipe("loco", (256, 256), review=1.5, fail=2.5, roi=(1, 2, 30, 40))
    save_recipe(recipe.with_artefact(Artefact("loco.onnx", sha256_of(engine), "fp32")), recipe_path(engine))
    return engine


def test_what_was_saved_is_loaded(pair: Path) -> None:
    engine, recipe, artefact = load_pair(pair)
    assert engine == pair
    assert (recipe.review, recipe.fail, recipe.roi, recipe.input_size) == (
        1.5,
        2.5,
        (1, 2, 30, 40),
        (256, 256),
    )
    assert artefact.precision == "fp32"
    assert recipe.identity == f"loco@{recipe.digest[:12]}"


def test_a_changed_engine_is_refused(pair: Path) -> None:
    pair.write_bytes(b"another engine")
    with pytest.raises(RecipeError, match="sha256 differs"):
        load_pair(pair)


@pytest.mark.parametrize(
    "field, value", [("review", 99.0), ("on_fault", "review"), ("name", "x"), ("roi", None)]
)
def test_a_recipe_changed_by_hand_is_refused(pair: Path, field: str, value: object) -> None:
    path = recipe_path(pair)
    raw = json.loads(path.read_text())
    raw[field] = value
    if field == "review":
        raw["fail"] = 100.0
    path.write_text(json.dumps(raw))
    with pytest.raises(RecipeError, match="changed by hand"):
        load_recipe(path)


def test_a_missing_recipe_is_refused_and_says_how_to_get_it_back(pair: Path) -> None:
    recipe_path(pair).unlink()
    with pytest.raises(RecipeError, match="--restore"):
        load_pair(pair)


def test_a_path_with_blanks_is_one_word_of_the_command(pair: Path) -> None:
    folder = pair.parent.rename(pair.parent.with_name("my loco"))
    recipe_path(folder / pair.name).unlink()
    with pytest.raises(RecipeError) as error:
        load_pair(folder / pair.name)
    words = shlex.split(error.value.next_step.partition("run: ")[2])
    assert words == ["edge-inspect", "recipe", str(folder / pair.name), "--restore"]


@pytest.mark.parametrize(
    ("plan", "options"), [("p.int8.sm87.plan", "--int8 --sm 87"), ("p.fp32.sm120.plan", "--sm 120")]
)
def test_a_missing_plan_or_its_recipe_is_built_again_from_the_onnx(
    tmp_path: Path, plan: str, options: str
) -> None:
    """The story: the hint was `edge-inspect recipe p.int8.sm87.onnx --restore`, a file that never was."""
    path = tmp_path / plan
    command = re.escape(f"build-engines {tmp_path / 'p.onnx'} {options}")
    with pytest.raises(RecipeError, match=rf"no engine here .*Make one with: {command}$"):
        load_pair(path)
    path.write_bytes(b"a plan")
    with pytest.raises(RecipeError, match=rf"the recipe is missing .*run: {command}$"):
        load_pair(path)
    with pytest.raises(RecipeError, match=rf"carries no copy .*Build it again: {command}$"):
        restore_recipe(path)
    recipe_path(path).write_text("{")
    with pytest.raises(RecipeError, match=rf"cannot be read: .*build the plan again: {command}$"):
        load_pair(path)


def test_an_engine_of_another_recipe_is_refused(pair: Path) -> None:
    stranger = pair.with_name("other.onnx")
    stranger.write_bytes(b"an engine")
    recipe_path(stranger).write_bytes(recipe_path(pair).read_bytes())
    with pytest.raises(RecipeError, match="does not know this engine"):
        load_pair(stranger)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 9, "digest": "x"}', '{"digest": "x", "what": 1}'],
)
def test_a_broken_file_is_refused_in_words(pair: Path, text: str) -> None:
    recipe_path(pair).write_text(text)
    with pytest.raises(RecipeError, match="recipe cannot be read"):
        load_recipe(recipe_path(pair))


def test_an_unknown_field_is_refused(pair: Path) -> None:
    path = recipe_path(pair)
    path.write_text(json.dumps({**json.loads(path.read_text()), "tolerance": 3}))
    with pytest.raises(RecipeError, match="unknown field tolerance"):
        load_recipe(path)


@pytest.mark.parametrize(
    "change",
    [
        {"on_fault": "pass"},
        {"review": 3.0},
        {"fail": float("nan")},
        {"deadline_ms": 0.0},
        {"roi": (0, 0, 0, 5)},
    ],
)
def test_settings_that_could_let_a_part_through_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(Recipe("loco", (256, 256), 1.5, 2.5), **change)  # type: ignore[arg-type]


def test_the_engine_is_found_by_folder_and_by_short_name(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pair.parent.parent)
    assert find_engine(Path("loco")).samefile(pair)
    assert find_engine(Path("loco.onnx")).samefile(pair)
    renamed = pair.parent.rename(pair.parent.with_name("line 2.b"))
    assert find_engine(renamed).name == "loco.onnx"
    with pytest.raises(RecipeError, match="build-engines nothing"):
        find_engine(Path("nothing.onnx"))


@pytest.mark.parametrize(
    "change", [{"fail": float("inf")}, {"review": float("-inf")}, {"deadline_ms": float("inf")}]
)
def test_a_limit_without_end_would_pass_everything_and_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        replace(Recipe("loco", (256, 256), 1.5, 2.5), **change)  # type: ignore[arg-type]


def test_no_other_engine_is_taken_than_the_one_named(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pair.parent.parent)
    with pytest.raises(RecipeError):
        find_engine(Path("loco.plan"))
    (pair.parent / "loco.int8.onnx").write_bytes(b"int8")
    assert find_engine(Path("loco.int8.onnx")).name == "loco.int8.onnx"
    assert find_engine(Path("loco")).name == "loco.onnx"


@pytest.mark.parametrize("value", [None, [], {}, 0, "", False])
def test_an_empty_view_written_by_hand_is_refused_and_no_crash(pair: Path, value: object) -> None:
    """An empty one has the seal of none at all; only what `View.to_json` writes may come so far."""
    path = recipe_path(pair)
    raw = json.loads(path.read_text())
    raw["view"] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(RecipeError, match="view is empty"):
        load_recipe(path)


def test_a_limit_below_which_no_score_lies_is_refused() -> None:
    with pytest.raises(ValueError, match="no part would pass"):
        Recipe("loco", (8, 8), review=0.0, fail=1.0)
