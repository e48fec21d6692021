"""Pictures that the model must not judge: a lamp, a lens or a mount is at fault, not the part."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import toy_pair
from typer.testing import CliRunner

from calibration.health import health_entries, health_option
from edge.backends import open_backend
from edge.cameras.parts import DEFECTS, render_part
from edge.cli import app
from edge.errors import DataError, RecipeError
from edge.frame import Frame, Inspection, Pixels
from edge.picture.align import take_reference
from edge.picture.image_health import HealthLimits, Masked, health_of, limits_of, look_at
from edge.picture.view import View
from edge.recipe import Recipe, load_recipe, recipe_path, save_recipe
from edge.station.worker import InferenceWorker
from edge.verdict import Outcome, Reason, decide

GOOD = [render_part(0, index) for index in range(24)]
LIMITS = limits_of([look_at(part) for part in GOOD])
PART = render_part(1, 3)  # of another seed: nobody learnt from it


def lamp(factor: float) -> Pixels:
    return np.clip(PART * np.float32(factor), 0, 255).astype(np.uint8)


def moved(pixels: int) -> Pixels:
    place = np.array([[1, 0, pixels], [0, 1, 0]], np.float32)
    return np.asarray(
        cv2.warpAffine(PART, place, PART.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def motion(pixels: int) -> Pixels:
    return np.asarray(cv2.filter2D(PART, -1, np.full((1, pixels), 1 / pixels, np.float32)), np.uint8)


@pytest.mark.parametrize("index", range(12))
def test_other_good_parts_are_judged(index: int) -> None:
    assert LIMITS.fault(render_part(2, index)) is None


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_bad_part_is_no_bad_picture(kind: str) -> None:
    """Its verdict is the model's; a reject must not hide behind "look at the lamp"."""
    assert [LIMITS.fault(render_part(1, index, kind)) for index in range(6)] == [None] * 6


@pytest.mark.parametrize(
    ("pixels", "reason", "words"),
    [
        (lamp(0.5), Reason.FRAME_EXPOSURE, "brightness 5.% of the good pictures'.*lamp"),
        (lamp(1.8), Reason.FRAME_EXPOSURE, "brightness 1"),
        (lamp(0), Reason.FRAME_EXPOSURE, "brightness"),
        (cv2.GaussianBlur(PART, (0, 0), 2.5), Reason.FRAME_BLURRED, "sharpness 0.*focus"),
        (motion(12), Reason.FRAME_BLURRED, "motion"),
        (moved(32), Reason.FRAME_SHIFTED, "lies 1.% of its side off.*mount"),
    ],
    ids=["half the light", "too much light", "black", "out of focus", "in motion", "knocked"],
)
def test_faults_of_the_picture_have_their_reason(pixels: Pixels, reason: Reason, words: str) -> None:
    fault = LIMITS.fault(pixels)
    assert fault is not None and fault[0] is reason
    assert re.search(words, fault[1]), fault[1]


def test_a_little_less_light_is_no_fault() -> None:
    """Lamps age, and temperatures change: the line goes on."""
    for factor in (0.9, 1.1):
        assert LIMITS.fault(lamp(factor)) is None


def test_parts_that_lie_anywhere_have_no_place_to_be_off_from() -> None:
    rng = np.random.default_rng(0)
    anywhere = [np.roll(part, rng.integers(0, 320, 2), (0, 1)) for part in GOOD]
    limits = limits_of([look_at(part) for part in anywhere])
    assert limits.shift is None and limits.fault(np.roll(PART, 160, 1)) is None


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (33, 65, 3), (24, 24, 3)])
def test_any_size_is_measured(shape: tuple[int, int, int]) -> None:
    fault = LIMITS.fault(np.zeros(shape, np.uint8))
    assert fault is not None and fault[0] is Reason.FRAME_EXPOSURE


def test_the_limits_survive_the_recipe(tmp_path: Path) -> None:
    recipe = Recipe("part", (64, 64), 1.0, 2.0, health=LIMITS.to_json())
    save_recipe(recipe, tmp_path / "part.recipe.json")
    again = health_of(load_recipe(tmp_path / "part.recipe.json"), None)
    assert again is not None and np.array_equal(again.reference, LIMITS.reference)
    assert again.to_json() == LIMITS.to_json()


def test_a_recipe_without_is_as_it_was(tmp_path: Path) -> None:
    """Its seal too: recipes from before stay valid, and know no limits."""
    recipe = Recipe("part", (64, 64), 1.0, 2.0)
    save_recipe(recipe, tmp_path / "part.recipe.json")
    assert "health" not in json.loads((tmp_path / "part.recipe.json").read_text())
    assert health_of(recipe, None) is None
    assert replace(recipe, health=LIMITS.to_json()).digest != recipe.digest


@pytest.mark.parametrize(
    "change",
    [{"shift": "far"}, {"brightness": [1]}, {"sharpness": float("nan")}, {"reference": "AAAA"}],
    ids=lambda change: next(iter(change)),
)
def test_limits_that_cannot_be_read_are_told_before_the_first_part(change: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"image health cannot be read.*--health GOOD_PICTURES"):
        health_of(Recipe("part", (64, 64), 1.0, 2.0, health=LIMITS.to_json() | change), None)


def test_a_bad_picture_is_no_decision_and_never_reaches_the_model(tmp_path: Path) -> None:
    """Dark pictures pass the toy engine: without the limits a failing lamp would pass every part."""
    engine = toy_pair(tmp_path, health=LIMITS.to_json())
    recipe = load_recipe(recipe_path(engine))
    worker = InferenceWorker(open_backend(engine, recipe, "onnxruntime"), recipe, "sha")
    try:
        for number, pixels in enumerate((PART, lamp(0.4))):
            frame = Frame(number, "test", 0, np.ascontiguousarray(pixels))
            answer = worker.inspect(frame, 2**62)
            verdict = decide(frame, answer, replace(recipe, deadline_ms=1e15), 1)
            judged = isinstance(answer, Inspection)
            assert judged == (number == 0)
            if not judged:
                assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.FRAME_EXPOSURE)
                assert "brightness" in worker.last_error and verdict.score is None
    finally:
        worker.close()


def answers(view: View, good: Sequence[Pixels], shown: Sequence[Pixels], folder: Path) -> list[str]:
    """What a station with limits from `good` says of each picture: "judged", or the reason's name."""
    for index, part in enumerate(good):
        cv2.imwrite(str(folder / f"{index:02}.png"), part)
    health = health_option(str(folder), view)
    engine = toy_pair(folder, health=health, roi=view.roi, view=view.to_json())
    recipe = load_recipe(recipe_path(engine))
    worker, said = InferenceWorker(open_backend(engine, recipe, "onnxruntime"), recipe, "sha"), list[str]()
    try:
        for number, pixels in enumerate(shown):
            answer = worker.inspect(Frame(number, "test", 0, np.ascontiguousarray(pixels)), 2**62)
            said.append("judged" if isinstance(answer, Inspection) else answer.name)
    finally:
        worker.close()
    return said


def test_limits_are_measured_in_the_region_of_interest(tmp_path: Path) -> None:
    """A neighbour who switches on a light beside the part disturbs nobody."""
    bright = PART.copy()
    bright[:50] = 255
    view = View((64, 64), (60, 60, 200, 200))
    assert answers(view, GOOD, [bright, lamp(0.4)], tmp_path) == ["judged", "FRAME_EXPOSURE"]


def test_what_the_mask_ignores_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    """The belt round the plate may change; what is looked at is measured as before, though it is a third."""
    mask = np.zeros(PART.shape[:2], np.uint8)
    mask[80:240, 70:250] = 255
    belts = [np.where(mask[..., None] > 0, picture, belt).astype(np.uint8)
             for picture, belt in ((PART, 250), (PART, 3), (lamp(0.5), 128),
                                   (cv2.GaussianBlur(PART, (0, 0), 2.5), 128), (moved(32), 128))]  # fmt: skip
    noise = np.random.default_rng(0).integers(0, 256, PART.shape, np.uint8)
    belts.insert(2, np.where(mask[..., None] > 0, PART, noise).astype(np.uint8))
    faults = ["FRAME_EXPOSURE", "FRAME_BLURRED", "FRAME_SHIFTED"]
    assert answers(View((64, 64), mask=mask), GOOD, belts, tmp_path) == ["judged"] * 3 + faults


def test_a_mask_that_leaves_next_to_nothing_has_limits_too(tmp_path: Path) -> None:
    mask = np.zeros(PART.shape[:2], np.uint8)
    mask[2:4, :] = 255  # thinner than a place, and in the margin where no shift can be told
    view = View((64, 64), mask=mask)
    assert answers(view, GOOD, [PART, lamp(0.4)], tmp_path) == ["judged", "FRAME_EXPOSURE"]


@pytest.mark.parametrize("at", [(0, 30, 2048, 100), (700, 61, 60, 60), (1200, 900, 23, 400)])
def test_a_narrow_mask_on_a_large_picture_calls_no_good_part_blurred(at: tuple[int, int, int, int]) -> None:
    """The story: no square of those looked at lay in the white; their grey filling had no sharpness."""
    x, y, width, height = at
    mask = np.zeros((1536, 2048), np.uint8)
    mask[y : y + height, x : x + width] = 255
    masked, grain = Masked(mask), np.random.default_rng(0)
    parts = [cv2.GaussianBlur(grain.integers(60, 190, (1536, 2048, 3), np.uint8), (0, 0), 1.5)
             for _ in range(12)]  # fmt: skip
    shown = [View((64, 64), mask=mask).shown(np.asarray(part, np.uint8)) for part in parts]
    limits = limits_of([look_at(pixels, masked) for pixels in shown[:8]], masked)
    assert [limits.fault(pixels) for pixels in shown[8:]] == [None] * 4
    blurred = np.asarray(cv2.GaussianBlur(parts[9], (0, 0), 6), np.uint8)
    fault = limits.fault(View((64, 64), mask=mask).shown(blurred))
    assert fault is not None and fault[0] is Reason.FRAME_BLURRED


def test_where_no_square_is_whole_nothing_is_said_of_sharpness() -> None:
    mask = np.zeros((600, 800), np.uint8)
    mask[::16] = mask[1::16] = 255  # stripes: all edges are the mask's
    masked, grain = Masked(mask), np.random.default_rng(0)
    looks = []
    for blur in (*[1.5] * 9, 6.0):
        part = cv2.GaussianBlur(grain.integers(60, 190, (600, 800, 3), np.uint8), (0, 0), blur)
        looks.append(look_at(View((64, 64), mask=mask).shown(np.asarray(part, np.uint8)), masked))
    assert limits_of(looks[:8], masked).sharpness < 1 == looks[8].sharpness == looks[9].sharpness


def test_an_aligned_part_may_lie_where_it_is_found(tmp_path: Path) -> None:
    """The story: the reference patch was found 16 pixels off, and the picture refused as shifted."""
    view = View((64, 64), (60, 76, 200, 160), reference=take_reference(GOOD[0], (100, 60, 133, 47)))
    shown = [moved(16), moved(28), cv2.GaussianBlur(moved(16), (0, 0), 2.5), lamp(0)]
    faults = ["FRAME_BLURRED", "FRAME_EXPOSURE"]  # where the patch is not found, it may be for the lamp
    assert answers(view, GOOD, shown, tmp_path) == ["judged"] * 2 + faults


def test_the_command_measures_and_takes_out(tmp_path: Path) -> None:
    engine, folder = toy_pair(tmp_path), tmp_path / "good"
    folder.mkdir()
    for index, part in enumerate(GOOD[:8]):
        cv2.imwrite(str(folder / f"{index}.png"), part)
    run = CliRunner().invoke
    assert run(app, ["recipe", str(engine), "--health", str(folder)]).exit_code == 0
    limits = health_of(load_recipe(recipe_path(engine)), None)
    assert limits is not None and limits.fault(PART) is None and limits.fault(lamp(0.4)) is not None
    assert run(app, ["recipe", str(engine), "--health", "off"]).exit_code == 0
    assert not load_recipe(recipe_path(engine)).health
    assert run(app, ["recipe", str(engine), "--health", "nowhere"]).exit_code == 2


def test_the_mask_among_the_good_pictures_is_not_measured(tmp_path: Path) -> None:
    """It is black and white: every lamp would do."""
    mask = np.zeros(PART.shape[:2], np.uint8)
    mask[50:] = 255
    for index, part in enumerate(GOOD[:8]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), part)
    masked, plain = View((64, 64), mask=mask), View((64, 64))
    before = [health_option(str(tmp_path), view) for view in (masked, plain)]
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    assert health_option(str(tmp_path), masked) == before[0]
    assert health_option(str(tmp_path), plain) != before[1]


def test_too_few_pictures_tell_nothing(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), PART)
    with pytest.raises(DataError, match=r"1 good pictures, 8 are needed"):
        health_entries([tmp_path / "0.png"], View((64, 64)))


def test_few_pictures_give_wider_limits() -> None:
    few, many = (limits_of([look_at(part) for part in GOOD[:count]]) for count in (4, 24))
    assert few.brightness[0] < many.brightness[0] and few.sharpness < many.sharpness


def test_what_is_read_back_judges_the_same() -> None:
    again = HealthLimits.from_json(json.loads(json.dumps(LIMITS.to_json())))
    for pixels in (PART, lamp(0.5), motion(12), moved(32)):
        first, second = LIMITS.fault(pixels), again.fault(pixels)
        assert (first and first[0]) == (second and second[0])
