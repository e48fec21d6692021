"""Evaluation from files to figures, with a real ONNX model that finds dark places."""

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console
from test_align import LABEL, moved
from toy import SIDE, toy_pair

from build_engines.pictures import open_calibration
from calibration.dataset import content_digest, open_dataset
from calibration.evaluate import evaluate
from calibration.figures import Evaluation, worst_false_rejects, worst_misses
from calibration.localisation import Defect, read_defects
from calibration.show import evaluate_and_report
from edge.backends import Backend, open_backend
from edge.cameras.parts import render_part
from edge.errors import DataError
from edge.picture.align import take_reference
from edge.picture.image_health import limits_of, look_at
from edge.picture.images import read_image
from edge.picture.view import View
from edge.recipe import Recipe, load_recipe, recipe_path
from edge.verdict import Outcome, Reason

SIZE = (32, 32)
RECIPE = Recipe("darkness", SIZE, review=0.5, fail=0.8)


def darkness_model(path: Path) -> Path:
    """map = 1 - grey / 255, score = its largest value; made of the operators a detector is made of."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, *SIZE, 3])
    outputs = [
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, *SIZE]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, [1]),
    ]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["value"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["value", "channels"], ["grey"], keepdims=0),
        helper.make_node("Div", ["grey", "white"], ["light"]),
        helper.make_node("Sub", ["one", "light"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map", "places"], ["score"], keepdims=0),
    ]
    constants = [
        helper.make_tensor("channels", TensorProto.INT64, [1], [3]),
        helper.make_tensor("places", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
    ]
    graph = helper.make_graph(nodes, "darkness", [pixels], outputs, constants)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return open_backend(darkness_model(tmp_path_factory.mktemp("engine") / "darkness.onnx"), RECIPE)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def part(rng: np.random.Generator, darkest: float = 0.3) -> np.ndarray:
    """A light, slightly speckled part (64x48) whose darkest pixel has the score `darkest`."""
    pixels = rng.integers(200, 240, (64, 48, 1)).repeat(3, axis=2).astype(np.uint8)
    pixels[:16, :16] = round(255 * (1 - darkest))
    return pixels


def add_spot(folder: Path, name: str, kind: str, rng: np.random.Generator, score: float) -> np.ndarray:
    """An anomalous part: a dark square away from the calm corner. Gives its mask."""
    pixels, mask = part(rng), np.zeros((64, 48), np.uint8)
    pixels[32:48, 20:36] = round(255 * (1 - score))
    mask[32:48, 20:36] = 255
    write(folder / "test" / kind / f"{name}.png", pixels)
    return mask


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """10 good parts (one too dark), 4 scratches (one too light to be caught), 3 stains, all with masks."""
    rng = np.random.default_rng(0)
    for i in range(8):
        write(tmp_path / "train" / "good" / f"{i}.png", part(rng))
    for i in range(10):
        write(tmp_path / "test" / "good" / f"{i}.png", part(rng, 0.6 if i == 3 else 0.3))
    for kind, scores in {"scratch": (0.9, 0.9, 0.7, 0.4), "stain": (0.95, 0.95, 0.95)}.items():
        for i, score in enumerate(scores):
            mask = add_spot(tmp_path, str(i), kind, rng, score)
            write(tmp_path / "ground_truth" / kind / f"{i}_mask.png", mask)
    return tmp_path


def run(backend: Backend, root: Path, recipe: Recipe = RECIPE) -> Evaluation:
    return evaluate(backend, recipe, open_dataset(root, minimum=0))


def test_figures_by_hand(backend: Backend, mvtec: Path) -> None:
    result = run(backend, mvtec)
    assert (len(result.good), result.n_anomalous) == (10, 7)
    # 70 pairs; the 0.4 scratch loses against the 0.6 good part only.
    assert result.image_auroc == pytest.approx(69 / 70)
    assert result.per_type == {"scratch": pytest.approx(39 / 40), "stain": 1.0}
    low, high = result.image_auroc_interval
    assert low < result.image_auroc <= high == 1.0
    assert result.image_auroc_of_map_maximum == result.image_auroc  # this model's score is the maximum
    assert result.false_reject_rate == 0.1
    assert (result.detection_rate("scratch"), result.detection_rate("stain")) == (0.75, 1.0)
    assert [i.outcome for i in result.of_type("scratch")] == [
        Outcome.FAIL, Outcome.FAIL, Outcome.REVIEW, Outcome.PASS,
    ]  # fmt: skip
    assert result.pixel_auroc > 0.98
    assert 0.8 < result.au_pro < 1
    assert math.isnan(result.au_spro)
    assert result.notes == []


def test_limits_that_let_most_anomalies_pass_are_said(backend: Backend, mvtec: Path) -> None:
    lax = replace(RECIPE, review=0.92, fail=0.99)  # of seven the three stains alone are above
    (note,) = run(backend, mvtec, lax).notes
    assert note.startswith("4 of 7 anomalous pictures pass.") and "--false-rejects" in note


def test_worst_pictures_come_first_and_have_their_maps(backend: Backend, mvtec: Path) -> None:
    result = run(backend, mvtec)
    miss, false_reject = worst_misses(result.images)[0], worst_false_rejects(result.images)[0]
    assert (miss.kind, miss.path.stem, false_reject.path.stem) == ("scratch", "3", "3")
    assert result.maps[miss.path].shape == SIZE
    assert len(result.maps) <= 16
    assert result.map_limit == pytest.approx(0.3 + 0.3 * 0.55, abs=0.02)  # 95 % of ten parts: 0.3 but one 0.6


def test_as_many_of_each_type_are_shown(backend: Backend, mvtec: Path) -> None:
    """The story: the eight hardest were all cracks, and nobody saw what was missed of the other types."""
    rng = np.random.default_rng(1)
    for i in range(4, 14):
        add_spot(mvtec, str(i), "scratch", rng, 0.35)
    images = run(backend, mvtec).images
    shown = worst_misses(images)
    assert Counter(image.kind for image in shown) == {"scratch": 5, "stain": 3}  # there are three stains
    assert [image.score for image in shown] == sorted(image.score for image in shown)
    many = [replace(images[-1], kind=f"type {i % 40}", score=float(i)) for i in range(120)]
    assert [image.score for image in worst_misses(many)] == list(range(24))  # one each, and no page of 40
    assert [image.kind for image in worst_misses(many[:9])] == [f"type {i}" for i in range(9)]


def test_json_is_one_object_with_the_agreed_names(backend: Backend, mvtec: Path) -> None:
    fields = json.loads(run(backend, mvtec).to_json())
    names = "image_auroc pixel_auroc au_pro per_type false_reject_rate n_good n_anomalous"
    assert set(names.split()) <= fields.keys()
    assert fields["au_spro"] is None
    assert fields["n_per_type"] == {"scratch": 4, "stain": 3}
    assert fields["infer_ms"]["p99"] >= fields["infer_ms"]["median"] > 0
    assert fields["recipe"] == RECIPE.identity


def test_pictures_of_another_size_than_learnt_from_are_counted(backend: Backend, mvtec: Path) -> None:
    same = replace(RECIPE, training_set={"picture": [64, 48]})
    assert run(backend, mvtec, same).notes == run(backend, mvtec).notes
    other = replace(RECIPE, training_set={"picture": [64, 49]})
    assert run(backend, mvtec, other).notes[0].startswith("In 17 of 17 files the pictures are 48x64, those")


def test_parts_that_are_not_found_are_named_by_cause_even_where_they_are_all(tmp_path: Path) -> None:
    """The story: on a changed ground no mark was found. A warning of numpy's, and "25 pictures got no finite
    score or map, or show no part": two causes in one line, no name, no word of the mark."""
    view = View((SIDE, SIDE), (5, 5, 310, 310), reference=take_reference(render_part(5, 0), LABEL))
    engine = toy_pair(tmp_path, roi=view.roi, view=view.to_json())
    root = tmp_path / "parts"
    for i in range(12):
        write(root / "test" / "good" / f"{i:02}.png", np.full((320, 320, 3), 90, np.uint8))
    write(root / "test" / "scratch" / "00.png", moved(render_part(5, 1), 25, 0, 0)[0])
    result = evaluate_and_report(engine, root, "onnxruntime", None, False, Console(stderr=True))
    assert all(image.outcome is Outcome.FAIL for image in result.images)
    gone, cut = (note for note in result.notes if "was not found" in note)
    assert gone.startswith("In 12 of 13 pictures") and "00.png, 01.png" in gone and "10.png" not in gone
    assert "the reference patch is not there" in gone and "another mark" in gone
    assert cut.startswith("In 1 of 13 pictures") and "leaves the picture" in cut and "--roi" in cut
    assert not any("finite" in note for note in result.notes)
    assert json.loads(result.to_json())["infer_ms"] == {"median": None, "p99": None}
    assert "nan\N{NO-BREAK SPACE}ms" not in (tmp_path / "report.html").read_text("utf-8")


def test_pictures_that_the_station_would_not_judge_are_told(backend: Backend, mvtec: Path) -> None:
    """The story: 7 of 60 pictures were stopped by the station and passed here, and nothing said why."""
    good = [read_image(path) for path in sorted((mvtec / "train" / "good").iterdir())]
    health = limits_of([look_at(pixels) for pixels in good]).to_json()
    lit = next(path for path in sorted((mvtec / "test").rglob("*.png")) if path.parent.name != "good")
    cv2.imwrite(str(lit), np.full_like(read_image(lit), 255))
    found = run(backend, mvtec, replace(RECIPE, health=health))
    (note,) = [note for note in found.notes if "the engine's alone" in note]
    unfit = {image.path: image.unfit for image in found.images if image.unfit}
    assert unfit[lit] is Reason.FRAME_EXPOSURE and f"would refuse {len(unfit)} of 17 pictures" in note
    assert lit.parent.name in note and "FRAME_EXPOSURE" in note and "--health GOOD_PICTURES" in note
    plain = run(backend, mvtec)
    assert found.image_auroc == plain.image_auroc and not any("engine's alone" in n for n in plain.notes)


def test_test_pictures_that_were_learnt_from_are_counted(backend: Backend, mvtec: Path) -> None:
    learnt = {content_digest(mvtec / "test" / "good" / f"{i}.png") for i in (3, 4, 5)}
    result = evaluate(backend, RECIPE, open_dataset(mvtec), learnt=learnt)
    assert result.notes == [
        "3 of 17 test pictures were learnt from: their scores are lower than those of new parts."
    ]
    others = {content_digest(path) for path in (mvtec / "train" / "good").iterdir()}
    assert evaluate(backend, RECIPE, open_dataset(mvtec), learnt=others).notes == []


@pytest.mark.parametrize("name", ["calibration.npz", "toy.calibration.npz"])
def test_what_was_learnt_is_told_by_the_file_beside_the_engine(tmp_path: Path, name: str) -> None:
    """The story: test pictures were copied from the good ones, and their figures shone."""
    engine = toy_pair(tmp_path, training_set={"sha256": "ab"})
    paths = [write(tmp_path / "test" / "good" / f"{i}.png", np.full((8, 8, 3), i)) for i in range(3)]
    good = tmp_path / "other"
    copies = [write(good / f"{i}.png", np.full((8, 8, 3), i)) for i in range(8)]
    assert content_digest(copies[1]) == content_digest(paths[1])
    learnt = np.frombuffer(bytes.fromhex(content_digest(paths[1])), np.uint8).reshape(1, 32)
    recipe, view = load_recipe(recipe_path(engine)), View(SIZE)
    for whose, told in (
        ({"training_set": np.array("ab")}, "1 of 3"),
        ({}, "1 of 3"),  # made by hand: it does not say whose it is
        ({"training_set": np.array("another")}, "cannot be told"),
        (None, "cannot be told"),
    ):
        if whose is None:
            (tmp_path / name).write_bytes(b"half a file")
        else:
            np.savez(tmp_path / name, images=np.zeros((2, *SIZE, 3), np.uint8), learnt=learnt, **whose)
        result = evaluate_and_report(engine, tmp_path, "onnxruntime", None, True, Console(stderr=True))
        assert [told in note for note in result.notes if "learnt" in note] == [True]
        note = open_calibration(engine, recipe, view, good).note
        assert ("1 of 8" if told == "1 of 3" else told) in note  # the build says the same


def test_progress_counts_every_picture(backend: Backend, mvtec: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(backend, RECIPE, open_dataset(mvtec), lambda done, total: seen.append((done, total)))
    assert seen == [(i, 17) for i in range(1, 18)]


def test_region_of_interest_cuts_pictures_and_masks_alike(backend: Backend, mvtec: Path) -> None:
    """Without the corner that makes one good part dark, there is no false reject; the spots stay inside."""
    result = run(backend, mvtec, replace(RECIPE, roi=(16, 16, 32, 48)))
    assert result.false_reject_rate == 0
    assert result.image_auroc == 1
    assert result.pixel_auroc > 0.99


def test_without_masks_image_figures_remain(backend: Backend, mvtec: Path) -> None:
    for mask in mvtec.glob("ground_truth/*/*.png"):
        mask.unlink()
    result = run(backend, mvtec)
    assert result.image_auroc == pytest.approx(69 / 70)
    assert json.loads(result.to_json())["pixel_auroc"] is None
    assert ["no masks" in note for note in result.notes] == [True]


def test_one_missing_mask_is_counted_and_left_out(backend: Backend, mvtec: Path) -> None:
    (mvtec / "ground_truth" / "stain" / "0_mask.png").unlink()
    assert run(backend, mvtec).notes[0].startswith("1 anomalous pictures have no mask")


def test_a_mask_of_16_bits_says_the_same(backend: Backend, mvtec: Path) -> None:
    """Zero is nothing, whatever else is an anomaly: labels may be small numbers in 16 bits."""
    before = run(backend, mvtec)
    for path in mvtec.glob("ground_truth/*/*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        write(path, (mask > 0).astype(np.uint16) * 300)
    after = run(backend, mvtec)
    assert after.pixel_auroc == before.pixel_auroc < 1 and after.au_pro == before.au_pro


def test_a_picture_that_does_not_fit_the_view_is_named(backend: Backend, mvtec: Path) -> None:
    odd = write(mvtec / "test" / "stain" / "1.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(DataError, match="region of interest leaves the picture") as caught:
        run(backend, mvtec, replace(RECIPE, roi=(0, 0, 48, 60)))
    assert str(odd) in caught.value.where


def test_mask_of_another_size_is_refused_by_name(backend: Backend, mvtec: Path) -> None:
    mask = write(mvtec / "ground_truth" / "stain" / "0_mask.png", np.full((9, 9), 255, np.uint8))
    with pytest.raises(DataError, match="the mask is 9x9, its picture 48x64") as caught:
        run(backend, mvtec)
    assert caught.value.where == str(mask)


def test_without_anomalies_false_rejects_remain(backend: Backend, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        write(tmp_path / f"{i}.png", part(rng, 0.7 if i == 0 else 0.3))
    result = run(backend, tmp_path)
    assert result.false_reject_rate == 0.25
    assert json.loads(result.to_json())["image_auroc"] is None
    assert any("plain folder" in note for note in result.notes)
    assert any("no anomalous" in note for note in result.notes)


def test_without_good_test_pictures_detection_remains(backend: Backend, tmp_path: Path) -> None:
    add_spot(tmp_path, "0", "stain", np.random.default_rng(0), 0.9)
    result = run(backend, tmp_path)
    fields = json.loads(result.to_json())
    assert (fields["detection_rate"], fields["per_type"]) == ({"stain": 1.0}, {"stain": None})
    assert fields["false_reject_rate"] is None
    assert any("no good test pictures" in note for note in result.notes)


def test_without_test_pictures_the_folder_is_named(backend: Backend, tmp_path: Path) -> None:
    write(tmp_path / "train" / "good" / "0.png", part(np.random.default_rng(0)))
    with pytest.raises(DataError, match="no test pictures") as caught:
        run(backend, tmp_path)
    assert caught.value.where == str(tmp_path / "test")


@pytest.fixture
def loco(tmp_path: Path) -> Path:
    """Two logical anomalies of two regions each, three structural ones; masks carry the defect's number."""
    rng = np.random.default_rng(1)
    entries = [
        {
            "defect_name": "missing",
            "pixel_value": 255,
            "saturation_threshold": 64,
            "relative_saturation": False,
        },
        {"defect_name": "dent", "pixel_value": 254, "saturation_threshold": 1.0, "relative_saturation": True},
    ]
    (tmp_path / "defects_config.json").write_text(json.dumps(entries))
    for i in range(6):
        write(tmp_path / "test" / "good" / f"{i:03}.png", part(rng, 0.3 if i else 0.6))
    for kind, value, scores in (("logical", 255, (0.9, 0.5)), ("structural", 254, (0.9, 0.9, 0.9))):
        for i, score in enumerate(scores):
            mask = add_spot(tmp_path, f"{i:03}", f"{kind}_anomalies", rng, score)
            folder = tmp_path / "ground_truth" / f"{kind}_anomalies" / f"{i:03}"
            write(folder / "000.png", mask // 255 * value)
            if kind == "logical":  # something else is missing in the dark corner: found only by its darkness
                write(folder / "001.png", np.roll(mask, (-32, -20), (0, 1)) // 255 * value)
    return tmp_path


def test_loco_takes_both_kinds_apart(backend: Backend, loco: Path) -> None:
    result = run(backend, loco)
    assert result.per_type == {"logical_anomalies": pytest.approx(11 / 12), "structural_anomalies": 1.0}
    assert result.image_auroc == pytest.approx((11 / 12 + 1) / 2)  # pooled it would be 29/30
    assert result.au_spro == pytest.approx(np.mean(list(result.au_spro_per_type.values())))
    assert result.au_spro_per_type["structural_anomalies"] > result.au_spro_per_type["logical_anomalies"]
    fields = json.loads(result.to_json())
    assert fields["au_pro"] is None
    assert set(fields["au_spro_per_type"]) == {"logical_anomalies", "structural_anomalies"}


@pytest.mark.parametrize(
    "renamed", [("structural_anomalies",), ("structural_anomalies", "logical_anomalies")]
)
def test_own_types_in_locos_layout_are_judged_as_any_other_set(
    backend: Backend, loco: Path, renamed: tuple[str, ...]
) -> None:
    """The story: of test/scratch beside LOCO's two types nothing was in the image AUROC; with own types alone
    there was none at all, without a word."""
    for kind in renamed:
        for part_of_set in ("test", "ground_truth"):
            (loco / part_of_set / kind).rename(loco / part_of_set / f"own_{kind}")
    result = run(backend, loco)
    assert (result.n_anomalous, result.image_auroc) == (5, pytest.approx(29 / 30))
    assert 0 < result.au_pro <= 1 and math.isnan(result.au_spro)
    assert [note for note in result.notes if "protocol knows" in note]


def test_without_anomalies_nothing_is_said_of_how_they_are_taken(backend: Backend, loco: Path) -> None:
    for kind in ("logical_anomalies", "structural_anomalies"):
        shutil.rmtree(loco / "test" / kind)
    (note,) = run(backend, loco).notes
    assert note == "There are no anomalous test pictures: only false rejects can be told."


def test_saturation_is_in_pixels_or_a_share_and_never_more_than_the_anomaly(loco: Path) -> None:
    defects = read_defects(loco)
    mask = np.arange(200).reshape(10, 20) < 100
    assert defects[255].region(mask).saturation == 64
    assert defects[254].region(mask).saturation == 100
    assert Defect("large", 5000, relative=False).region(mask).saturation == 100
    assert Defect("half", 0.5, relative=True).region(mask).saturation == 50


def test_loco_with_a_missing_list_or_an_unknown_value_names_the_file(backend: Backend, loco: Path) -> None:
    mask = loco / "ground_truth" / "structural_anomalies" / "000" / "000.png"
    write(mask, np.full((64, 48), 7, np.uint8))
    with pytest.raises(DataError, match="mask value 7") as caught:
        run(backend, loco)
    assert caught.value.where == str(mask)
    (loco / "defects_config.json").write_text('[{"defect_name": "x"}]')
    with pytest.raises(DataError, match="pixel_value"):
        run(backend, loco)
