"""The view: one for training, build, evaluation and station; sealed; a part out of place never passes."""

import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from faults.test_station_faults import running
from rich.console import Console
from test_align import LABEL, moved
from test_train import SMALL, Quiet
from toy import SIDE, toy_pair
from typer.testing import CliRunner

from build_engines.build import build_engines
from build_engines.listener import Listener
from build_engines.pictures import open_calibration
from calibration.dataset import load_images, open_dataset, split_held_out
from calibration.evaluate import evaluate
from calibration.layouts import LabelledImage
from calibration.localisation import Localisation
from calibration.show import evaluate_and_report
from calibration.views import ViewOptions, is_mask, make_view
from distillation.learn import learn
from distillation.model import load_model
from distillation.train import TrainConfig
from edge.backends import open_backend
from edge.cameras.ground import belt
from edge.cameras.parts import render_part
from edge.cli import app
from edge.demo.show import ENGINE
from edge.errors import DataError, InspectError, PartNotFound, RecipeError
from edge.frame import Pixels, Shot
from edge.picture.align import find_pose, take_reference
from edge.picture.images import read_painted
from edge.picture.preprocess import preprocess
from edge.picture.view import IGNORED, View, view_of
from edge.recipe import load_pair, load_recipe, recipe_path
from edge.settings import change_recipe, readable
from edge.station.evidence import EvidenceWriter
from edge.verdict import Outcome, Reason

PART = (30, 40, 260, 240)  # x, y, width, height: the simulated part with a margin


def ring(height: int = 320, width: int = 320) -> Pixels:
    """A mask of free shape: a disc with a hole."""
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), height // 3, 255, -1)
    cv2.circle(mask, (width // 2, height // 2), height // 10, 0, -1)
    return mask


def full_view() -> View:
    return View((SIDE, SIDE), PART, ring(240, 260), take_reference(render_part(5, 0), LABEL), (120, 130))


def test_a_plain_view_is_the_region_resized_and_leaves_no_trace_in_the_recipe(tmp_path: Path) -> None:
    picture = render_part(5, 0)
    assert np.array_equal(View((64, 64), PART).see(picture), preprocess(picture, (64, 64), PART))
    assert View((64, 64), PART).to_json() == {}
    assert "view" not in json.loads(recipe_path(toy_pair(tmp_path)).read_text())


def test_a_view_survives_the_recipe_and_shows_the_same(tmp_path: Path) -> None:
    view, picture = full_view(), render_part(5, 1)
    engine = toy_pair(tmp_path, roi=PART, view=view.to_json())
    loaded = view_of(load_pair(engine)[1])
    assert loaded.size == (120, 130) and loaded.chosen_tiles == view.chosen_tiles
    assert np.array_equal(loaded.see(picture), view.see(picture))
    change_recipe(engine, {"review": 1.2})
    assert np.array_equal(view_of(load_pair(engine)[1]).see(picture), view.see(picture))


@pytest.mark.parametrize("entry", ["mask", "reference", "canvas"])
def test_a_view_that_was_changed_or_lost_is_refused(tmp_path: Path, entry: str) -> None:
    engine = toy_pair(tmp_path, roi=PART, view=full_view().to_json())
    raw = json.loads(recipe_path(engine).read_text())
    del raw["view"][entry]
    recipe_path(engine).write_text(json.dumps(raw))
    with pytest.raises(RecipeError, match="changed by hand"):
        load_pair(engine)


@pytest.mark.parametrize(
    "view",
    [{"mask": "AAAA"}, {"mask": "!"}, {"canvas": [3]}, {"zoom": 2}, {"reference": {"box": [0, 0, 9, 9]}}],
)
def test_a_sealed_view_that_makes_no_sense_never_runs(tmp_path: Path, view: dict[str, object]) -> None:
    engine, recipe, _ = load_pair(toy_pair(tmp_path, view=view))
    with pytest.raises(RecipeError, match="view cannot be read"):
        open_backend(engine, recipe)


def test_a_shown_recipe_is_readable_the_file_is_whole(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path, roi=PART, view=full_view().to_json())
    shown = json.loads(readable(load_pair(engine)[1]))
    assert shown["view"]["mask"].endswith("characters") and max(map(len, str(shown).split())) < 100
    assert load_recipe(recipe_path(engine)).view["mask"] == full_view().to_json()["mask"]


def shown_lines(folder: Path, view: View) -> dict[str, str]:
    engine = toy_pair(folder, roi=view.roi, view=view.to_json())
    lines = CliRunner().invoke(app, ["recipe", str(engine)]).output.splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def test_a_shown_recipe_says_what_is_looked_at(tmp_path: Path) -> None:
    told = shown_lines(tmp_path, full_view())
    assert told["region"] == "260x240 at 30,40"
    assert told["mask"] == f"{(ring(240, 260) > 0).mean():.1%} of the region is looked at"
    assert told["align"] == "to the mark 132x46 at 100,60 of the first picture"
    assert told["tiles"] == "6, cut from 130x120 pixels"
    told = shown_lines(tmp_path, View((SIDE, SIDE), mask=ring()))
    assert told["mask"] == f"{(ring() > 0).mean():.1%} of the picture is looked at"
    assert not told.keys() & {"region", "align", "tiles"}


def test_a_shown_recipe_whose_view_makes_no_sense_ends_in_words(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path, view={"zoom": 2})
    result = CliRunner().invoke(app, ["recipe", str(engine)])
    assert result.exit_code == 3 and "view cannot be read" in result.output


def test_what_the_mask_ignores_is_not_seen_at_all() -> None:
    """Not a single bit: the grey is laid before the resize, so nothing from outside is mixed in."""
    view, picture = View((SIDE, SIDE), mask=ring()), render_part(5, 0)
    spoilt = np.where(ring()[..., None] > 0, picture, np.uint8(255 - picture))
    assert not np.array_equal(picture, spoilt)
    assert np.array_equal(view.see(picture), view.see(spoilt))
    assert tuple(view.see(picture)[0, 0]) == IGNORED
    assert not np.array_equal(view.see(picture), view.see(255 - picture))


@pytest.mark.parametrize("roi", [None, PART])
def test_the_mask_is_known_by_its_look_and_nothing_else_is_taken_for_it(
    tmp_path: Path, roi: tuple[int, int, int, int] | None
) -> None:
    first, drawn, cut = (tmp_path / name for name in ("part.png", "drawn.png", "cut.png"))
    cv2.imwrite(str(first), render_part(5, 0))
    cv2.imwrite(str(drawn), cv2.GaussianBlur(ring(), (3, 3), 0))  # soft edges, as a paint program leaves them
    view = make_view(first, (SIDE, SIDE), ViewOptions(roi, drawn))
    assert view.mask is not None
    cv2.imwrite(str(cut), view.mask)
    assert is_mask(drawn, view) and is_mask(cut, view)
    assert not is_mask(first, view)
    assert not is_mask(drawn, replace(view, mask=None))
    for other in (255 - ring(), ring() // 2 + 20, ring(200, 220)):  # another, a grey one, one of another size
        cv2.imwrite(str(drawn), other)
        assert not is_mask(drawn, view)
    drawn.write_bytes(b"\x89PNG not really")
    assert not is_mask(drawn, view)  # whoever reads it says so


@pytest.mark.parametrize("name", ["layer.png", "layer.tif", "layer.bmp"])
def test_a_layer_painted_white_on_nothing_looks_at_the_white_alone(tmp_path: Path, name: str) -> None:
    """The story: a transparent PNG, white in colour everywhere, was silently taken for a white mask."""
    first, drawn = tmp_path / "part.png", tmp_path / name
    cv2.imwrite(str(first), render_part(5, 0))
    for hidden in (np.full((320, 320, 3), 255, np.uint8), render_part(5, 0) | ring()[..., None]):
        cv2.imwrite(str(drawn), np.dstack([hidden, ring()]))
        view = make_view(first, (SIDE, SIDE), ViewOptions(mask=drawn))
        assert view.mask is not None and np.array_equal(view.mask, ring())
        assert is_mask(drawn, view)
    cv2.imwrite(str(drawn), np.dstack([hidden, 255 - ring()]))
    assert not is_mask(drawn, view)


def test_a_layer_that_is_stored_turned_is_refused(tmp_path: Path) -> None:
    """Its transparency cannot be read turned: upside down it would hide the wrong places, without a word."""
    drawn, layer = tmp_path / "layer.png", np.zeros((20, 20, 4), np.uint8)
    layer[:5] = 255
    png = cv2.imencode(".png", layer)[1].tobytes()
    drawn.write_bytes(png)
    assert read_painted(drawn)[0, 0] == 255
    exif = b"eXIf" + struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 0x112, 3, 1, 3, 0)  # by 180 degrees
    length, check = struct.pack(">I", len(exif) - 4), struct.pack(">I", zlib.crc32(exif))
    drawn.write_bytes(png[:33] + length + exif + check + png[33:])  # after the first chunk
    with pytest.raises(DataError, match=r"stored turned.*Save it upright"):
        read_painted(drawn)


def test_a_layer_of_16_bits_and_soft_edges(tmp_path: Path) -> None:
    first, drawn = tmp_path / "part.png", tmp_path / "layer.png"
    cv2.imwrite(str(first), render_part(5, 0))
    alpha = cv2.GaussianBlur(ring(), (5, 5), 0).astype(np.uint16) * 257
    cv2.imwrite(str(drawn), np.dstack([np.full_like(alpha, 65535)] * 3 + [alpha]))
    mask = make_view(first, (SIDE, SIDE), ViewOptions(mask=drawn)).mask
    assert mask is not None and np.array_equal(mask > 0, alpha >= 128 * 257)


@pytest.mark.parametrize(("good", "mask"), [(".", "."), ("good", "."), ("train/good", "."),
                                            ("train/good", "train/good")])  # fmt: skip
def test_a_mask_among_the_pictures_sets_no_limits_and_is_no_good_part(
    tmp_path: Path, good: str, mask: str
) -> None:
    """The story: `train --mask` left it out, `--calibration-set` took it for a good part: the pass limit
    became three times as high. Beside train/good the folder that had been learnt was refused."""
    engine = toy_pair(tmp_path, view=View((SIDE, SIDE), mask=ring()).to_json())
    _, recipe, _ = load_pair(engine)
    root = tmp_path / "parts"
    for place, name, pixels in [*((good, str(i), render_part(5, i)) for i in range(8)), (mask, "a", ring())]:
        (root / place).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / place / f"{name}.png"), pixels)
    assert len(open_calibration(engine, recipe, view_of(recipe), root).images) == 8
    if good.startswith("train"):  # else the pictures themselves are judged
        (root / "test/good").mkdir(parents=True)
        cv2.imwrite(str(root / "test/good/0.png"), render_part(5, 8))
        cv2.imwrite(str(root / "test/good/mask.png"), ring())
    result = evaluate_and_report(engine, root, "onnxruntime", None, True, Console(stderr=True))
    assert len(result.images) == (1 if good.startswith("train") else 8)


def test_the_map_is_calm_outside_the_mask_and_untouched_inside(tmp_path: Path) -> None:
    view = View((SIDE, SIDE), mask=ring())
    plain = open_backend(toy_pair(tmp_path), load_recipe(recipe_path(toy_pair(tmp_path))))
    masked = open_backend(*load_pair(toy_pair(tmp_path, "masked", view=view.to_json()))[:2])
    seen = view.see(render_part(5, 0))
    (whole, score), (shown, same) = plain.infer(seen), masked.infer(seen)
    inside = cv2.resize(ring(), (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0
    assert same == score
    assert np.array_equal(shown[inside], whole[inside])
    assert 0 < inside.sum() < inside.size and not shown[~inside].any()


def test_tiles_that_see_nothing_are_left_out_and_cost_nothing() -> None:
    mask = np.zeros((640, 640), np.uint8)
    mask[300:340, 60:600] = 255  # a strip
    view = View((SIDE, SIDE), mask=mask, canvas=(320, 320))
    assert view.tiling is not None and view.chosen_tiles is not None
    assert 0 < len(view.chosen_tiles) < len(view.tiling.corners) / 2
    covered = view.tiling.join(np.ones((len(view.chosen_tiles), SIDE, SIDE), np.float32), view.chosen_tiles)
    assert view.looked_at is not None and (covered[view.looked_at] == 1).all()


def test_pixels_that_are_ignored_are_neither_miss_nor_false_alarm(tmp_path: Path) -> None:
    """Half of the defect and a false alarm lie where the mask says "ignore": the figures are perfect."""
    mask = np.full((64, 64), 255, np.uint8)
    mask[:, :32] = 0
    truth, hot = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.float32)
    truth[20:30, 20:44] = 255
    hot[20:30, 32:44], hot[50:60, 5:15] = 1, 2
    cv2.imwrite(str(tmp_path / "truth.png"), truth)
    image, pixels = (
        LabelledImage(tmp_path / "x.png", "scratch", (tmp_path / "truth.png",)),
        np.zeros((64, 64, 3)),
    )
    figures = {}
    for name, view in {"masked": View((64, 64), mask=mask), "whole": View((64, 64))}.items():
        localisation = Localisation(None, view)
        localisation.add(image, hot, pixels.astype(np.uint8))
        figures[name] = localisation.pixel_auroc(), localisation.au_pro()
    assert figures["masked"] == (1.0, pytest.approx(1.0))
    assert max(figures["whole"]) < 0.9


def test_ground_truth_is_laid_onto_the_reference_as_its_picture_is(tmp_path: Path) -> None:
    view = View((SIDE, SIDE), PART, reference=take_reference(render_part(5, 0), LABEL))
    truth = np.zeros((320, 320), np.uint8)
    truth[150:170, 150:190] = 255
    picture, pose = moved(render_part(5, 0), 14, -10, 4)
    cv2.imwrite(str(tmp_path / "t.png"), cv2.warpAffine(truth, pose, (320, 320), flags=cv2.INTER_NEAREST))
    localisation = Localisation(None, view)
    hot = view.window(truth, None).astype(np.float32)
    localisation.add(LabelledImage(tmp_path / "x.png", "dent", (tmp_path / "t.png",)), hot, picture)
    assert localisation.pixel_auroc() > 0.93  # 2 pixels of 20 at the edge are rounding


def good_and_lost() -> Iterator[tuple[Pixels, Reason]]:
    part = render_part(5, 1)
    yield part, Reason.WITHIN_LIMITS
    yield moved(part, 12, -8, 4)[0], Reason.WITHIN_LIMITS
    yield moved(part, 45, 0, 0)[0], Reason.PART_NOT_FOUND  # too far
    yield moved(part, 0, 0, 180)[0], Reason.PART_NOT_FOUND  # upside down
    yield np.ascontiguousarray(belt()[:320, :320].astype(np.uint8)), Reason.PART_NOT_FOUND  # no part
    yield part[:300], Reason.RECIPE_MISMATCH  # the camera was set to another size
    yield render_part(5, 2), Reason.WITHIN_LIMITS


def test_what_the_mask_looks_at_must_be_in_sight() -> None:
    """The story: a part shifted by 30 pixels; its left edge with the scratch lay outside the picture, was
    filled with a mirror image, and passed."""
    white = np.zeros((320, 320), np.uint8)
    white[46:274, 10:290] = 255
    view = View((SIDE, SIDE), mask=white, reference=take_reference(render_part(5, 0), LABEL))
    view.see(moved(render_part(5, 1), 3, 0, 0)[0])
    with pytest.raises(PartNotFound, match="leaves the picture"):
        view.see(moved(render_part(5, 1), -30, 0, 0)[0])


def test_sizes_that_do_not_fit_each_other_are_no_view() -> None:
    with pytest.raises(ValueError, match="smaller than a tile"):
        View((SIDE, SIDE), canvas=(3, 3))
    with pytest.raises(ValueError, match="does not fit"):
        View((SIDE, SIDE), (0, 0, 20, 10), mask=np.full((20, 10), 255, np.uint8))


@pytest.mark.parametrize("on_fault", ["fail", "review"])
def test_a_part_that_is_not_found_never_passes_and_the_next_one_is_judged(
    tmp_path: Path, on_fault: str
) -> None:
    view = View((SIDE, SIDE), reference=take_reference(render_part(5, 0), LABEL))
    pictures, reasons = zip(*good_and_lost(), strict=True)
    changes = {"view": view.to_json(), "on_fault": on_fault, "review": 2.0, "fail": 2.5}
    with running(tmp_path, [Shot(p.copy()) for p in pictures], **changes) as (station, _, verdicts):
        station.run()
    assert [v.reason for v in verdicts] == list(reasons)
    for verdict in verdicts:
        expected = Outcome.PASS if verdict.reason is Reason.WITHIN_LIMITS else Outcome(on_fault)
        assert verdict.outcome is expected and (verdict.score is None) == verdict.reason.is_fault


def test_a_region_that_was_not_wholly_seen_is_not_judged() -> None:
    view = View((SIDE, SIDE), (5, 5, 310, 310), reference=take_reference(render_part(5, 0), LABEL))
    view.see(render_part(5, 0))
    with pytest.raises(PartNotFound, match="leaves the picture"):
        view.see(moved(render_part(5, 0), 20, 0, 0)[0])


def test_the_heat_map_is_laid_over_the_aligned_picture(tmp_path: Path) -> None:
    """The story: the map is of the aligned part; over the picture as it came it would mark another place."""
    view = View((SIDE, SIDE), reference=take_reference(render_part(5, 0), LABEL))
    picture = moved(render_part(5, 1), 15, 12, 0)[0]
    changes = {"view": view.to_json(), "review": 1e-6, "fail": 5.0}
    writer = EvidenceWriter(tmp_path / "heat", load_pair(toy_pair(tmp_path, **changes))[1], map_limit=1e9)
    with running(tmp_path, [Shot(picture.copy())], observers=[writer], **changes) as (station, _, _):
        station.run()
    writer.close()
    (saved,) = (cv2.imread(str(path)).astype(int) for path in (tmp_path / "heat").iterdir())
    assert np.abs(saved - view.aligned(picture)).mean() < 4 < np.abs(saved - picture).mean()


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts that do not lie still, as a data set; one test part is upside down."""
    root = tmp_path_factory.mktemp("loose")
    rng = np.random.default_rng(0)
    for folder, count in (("train/good", 16), ("test/good", 3), ("test/missing", 3)):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            part = render_part(8, i, "missing" if folder.endswith("missing") else None)
            cv2.imwrite(
                str(root / folder / f"{i:03}.png"),
                moved(part, *rng.uniform(-14, 14, 2), rng.uniform(-4, 4))[0],
            )
    cv2.imwrite(str(root / "test" / "missing" / "upside.png"), moved(render_part(8, 99), 0, 0, 180)[0])
    return root


def first_label(root: Path) -> tuple[int, int, int, int]:
    """Where the label lies in the first picture: what a person would draw a box round."""
    first = cv2.imread(str(root / "train" / "good" / "000.png"))
    x, y = find_pose(first, take_reference(render_part(5, 0), LABEL)) @ (LABEL[0], LABEL[1], 1)
    return round(float(x)), round(float(y)), LABEL[2], LABEL[3]


def test_from_loose_parts_to_a_report_through_one_view(loose: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), ring())
    options = ViewOptions(None, tmp_path / "mask.png", first_label(loose))
    watcher = Quiet()
    learn(loose, tmp_path / "m", watcher, SMALL, TrainConfig(steps=20), options=options)
    assert f"mask: {(ring() > 0).mean():.1%} of the picture is looked at" in watcher.said
    (built,) = build_engines(tmp_path / "m", 0.003, int8=False, listener=Listener())
    recipe = load_pair(tmp_path / "m")[1]
    assert recipe.view.keys() == {"mask", "reference"} and built.recipe == recipe
    held_out = load_model(tmp_path / "m")[2]
    assert all((image[0, 0] == IGNORED).all() for image in held_out)
    result = evaluate(open_backend(built.engine, recipe), recipe, open_dataset(loose))
    (upside,) = (image for image in result.images if image.path.name == "upside.png")
    assert upside.outcome is Outcome.FAIL and not np.isfinite(upside.score)
    (note,) = (note for note in result.notes if "was not found" in note)
    assert note.startswith("In 1 of 7 pictures") and "upside.png: the reference patch is not there" in note
    assert all(np.isfinite(image.score) for image in result.images if image is not upside)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large pictures: seven parts side by side, 1120 x 160."""
    root = tmp_path_factory.mktemp("wide")
    for i in range(12):
        row = np.hstack([cv2.resize(render_part(4, i * 7 + k), (160, 160)) for k in range(7)])
        cv2.imwrite(str(root / f"{i:03}.png"), row)
    return root


def test_from_large_pictures_to_limits_through_tiles(wide: Path, tmp_path: Path) -> None:
    watcher = Quiet()
    learn(wide, tmp_path / "m", watcher, SMALL, TrainConfig(steps=20), options=ViewOptions(tile=True))
    assert any("tiles of 20 a picture" in text for text in watcher.said)
    _, about, held_out = load_model(tmp_path / "m")
    assert (about.trained_on, about.held_out) == (10, 2) and held_out.shape == (2, 80, 560, 3)
    (built,) = build_engines(tmp_path / "m", 0.003, int8=False, listener=Listener())
    backend = open_backend(built.engine, built.recipe)
    images = load_images(sorted(wide.iterdir()), view_of(built.recipe))
    scores = [backend.infer(image)[1] for image in images]
    assert built.recipe.review > min(scores)  # limits are of whole pictures: the largest of twenty tiles
    assert built.recipe.expected_false_rejects["pictures"] == 2
    spoilt = images[0].copy()
    spoilt[30:50, 270:290] = (0, 0, 255)
    anomaly_map, score = backend.infer(spoilt)
    y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
    assert score > scores[0] and abs(y - 40) < 24 and abs(x - 280) < 24


def test_pictures_without_the_patch_are_named_when_training(loose: Path, tmp_path: Path) -> None:
    for path in (loose / "train" / "good").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("x-empty.png", "y-upside.png"):
        cv2.imwrite(str(tmp_path / name), belt()[:320, :320].astype(np.uint8))
    with pytest.raises(PartNotFound, match=r"in 2 of 18 pictures .*x-empty.png, y-upside.png") as caught:
        view = make_view(
            tmp_path / "000.png", (SIDE, SIDE), ViewOptions((120, 120, 80, 80), align=first_label(loose))
        )
        load_images(sorted(tmp_path.iterdir()), view)
    assert "--align" in caught.value.next_step


def test_training_names_every_picture_that_cannot_be_aligned_and_why(loose: Path, tmp_path: Path) -> None:
    """The story: three of 33 were named, the fourth, held out, in the next try; it left the picture, and
    the advice was another mark."""
    data, part = tmp_path / "parts", render_part(8, 99)
    shutil.copytree(loose / "train" / "good", data)
    paths = sorted(data.iterdir())
    learnt, held = split_held_out(paths, [], 0)
    lost = {learnt[3]: 0, held[0]: 0, held[1]: 180}  # turned by
    x, y, width, height = first_label(loose)
    for path, degrees in lost.items():
        cv2.imwrite(str(path), moved(part, 0 if degrees else 25, 0, degrees)[0])
    options = ViewOptions((5, 5, 310, 310), align=(x, y, width, height))
    for path in set(paths) - lost.keys():
        cv2.imwrite(str(path), cv2.imread(str(paths[0])))
    with pytest.raises(PartNotFound, match="in 3 of 16 pictures") as caught:
        learn(data, tmp_path / "m", Quiet(), SMALL, TrainConfig(steps=1), options=options)
    shifted, turned = caught.value.what.split(": ", 1)[1].split("; ")
    assert shifted.startswith(f"{learnt[3].name}, {held[0].name}: ") and "leaves the picture" in shifted
    assert turned.startswith(f"{held[1].name}: ") and "is not there" in turned
    assert "smaller --roi" in caught.value.next_step and "another mark" in caught.value.next_step


def test_a_picture_of_another_size_than_the_mask_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "small.png"), render_part(5, 0)[:300])
    with pytest.raises(DataError, match="does not fit the mask") as caught:
        load_images([tmp_path / "small.png"], View((SIDE, SIDE), mask=ring()))
    assert "small.png" in caught.value.where


def test_a_mask_may_be_of_the_picture_or_of_the_region(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), render_part(5, 0))
    x, y, width, height = PART
    cv2.imwrite(str(tmp_path / "picture.png"), ring())
    cv2.imwrite(str(tmp_path / "region.png"), ring()[y : y + height, x : x + width])
    views = [
        make_view(tmp_path / "part.png", (SIDE, SIDE), ViewOptions(PART, tmp_path / name))
        for name in ("picture.png", "region.png")
    ]
    assert views[0].mask is not None and np.array_equal(views[0].mask, views[1].mask)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mask", "nowhere.png"), "no file of this name"),
        (("--mask", "{mask}"), "the mask is 50x40, not 320x320"),
        (("--mask", "{black}"), "nothing to look at"),
        (("--mask", "{white}"), "it ignores nothing"),
        (("--mask", "{photograph}"), "a photograph, not a mask"),
        (("--context-grid", "0"), "0 x 0 context places"),
        (("--align", "1,2,3"), "is not a region"),
        (("--align", "300,300,60,60", "--roi", "40,40,240,240"), "leaves the picture"),
        (("--align", "0,0,8,8", "--roi", "40,40,240,240"), "too small"),
        (("--align", "40,40,60,60"), "would not be seen"),
        (("--tile",), "not enough for tiles"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_words(
    loose: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), ring(40, 50))
    cv2.imwrite(str(tmp_path / "black.png"), ring() * 0)
    cv2.imwrite(str(tmp_path / "white.png"), ring() * 0 + 255)
    photograph = min(loose.rglob("*.png"))
    masks = {name: tmp_path / f"{name}.png" for name in ("mask", "black", "white")}
    named = [w.format(**masks, photograph=photograph) for w in words]
    result = CliRunner().invoke(
        app, ["train", str(loose), "--out", str(tmp_path / "m"), "--size", "64", *named]
    )
    assert result.exit_code == 2
    assert message in " ".join(result.output.split()) and "Traceback" not in result.output
    assert words[0] in result.output and not (tmp_path / "m").exists()


def test_a_recipe_of_before_views_keeps_its_seal() -> None:
    assert load_pair(ENGINE)[1].view == {}


def test_the_view_is_part_of_the_recipes_identity(tmp_path: Path) -> None:
    recipe = load_pair(toy_pair(tmp_path))[1]
    assert replace(recipe, view=View((SIDE, SIDE), mask=ring()).to_json()).digest != recipe.digest


def test_every_error_of_a_patch_names_the_option() -> None:
    with pytest.raises(InspectError) as caught:
        take_reference(np.zeros((320, 320, 3), np.uint8), LABEL)
    assert caught.value.where == "--align"
