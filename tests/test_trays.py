"""The trays keep their rules, each anomaly breaks one, and the masks say where."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tray.floor import CELLS
from tray.items import SHAPES
from tray.picture import LOGICAL, SIZE, STRUCTURAL, photograph
from tray.place import lay_out
from tray.rules import LABEL, MISTAKES, broken_rules, good_packing
from trays import DEFECTS, Part, parts_of, pixel_value, trays_of, write_set

from calibration.dataset import open_dataset
from calibration.localisation import open_localisation, read_defects
from edge.picture.images import read_image
from edge.picture.view import View

RULE = {  # the rule that a mistake breaks, as broken_rules says it
    "count": "contents of compartment",
    "missing": "contents of compartment",
    "surplus": "contents of compartment",
    "position": "contents of compartment",
    "combination": "one colour",
    "colour": "two black clips and a white one",
}


def test_good_trays_of_every_colour_break_no_rule() -> None:
    packings = [good_packing(np.random.default_rng(seed)) for seed in range(30)]
    assert {packing.cells[LABEL][0].colour for packing in packings} == {"red", "blue", "yellow"}
    assert [broken_rules(packing) for packing in packings] == [[]] * 30


@pytest.mark.parametrize("anomaly", LOGICAL)
def test_each_mistake_breaks_its_own_rule_only(anomaly: str) -> None:
    for seed in range(40):
        packing, chance = good_packing(np.random.default_rng(seed)), np.random.default_rng(seed)
        MISTAKES[anomaly](packing, chance)
        broken = {rule for rule in RULE.values() for found in broken_rules(packing) if found.startswith(rule)}
        allowed = {RULE[anomaly]} | ({RULE["colour"]} if anomaly == "surplus" else set())  # a clip too many
        assert RULE[anomaly] in broken and broken <= allowed, packing
        assert packing.defect in DEFECTS


def test_things_lie_inside_their_compartment_and_not_on_each_other() -> None:
    for seed in range(20):
        packing = good_packing(np.random.default_rng(seed))
        laid = lay_out(packing, np.random.default_rng(seed))
        assert sorted(t.item for t in laid) == sorted(i for cell in packing.cells for i in cell)
        for box, cell in zip(CELLS, packing.cells, strict=True):
            inside = [t for t in laid if box[0] < t.x < box[2] and box[1] < t.y < box[3]]
            assert sorted(t.item for t in inside) == sorted(cell)
            rounds = [t for t in inside if SHAPES[t.item.kind].room[0][0] == 0.0 and t.item.kind != "cable"]
            for i, one in enumerate(rounds):
                for other in rounds[:i]:
                    radii = sum(SHAPES[t.item.kind].room[0][1] for t in (one, other))
                    assert np.hypot(one.x - other.x, one.y - other.y) > radii


def test_the_same_seed_gives_the_same_picture_in_any_order() -> None:
    first = photograph(3, 5, "stain").pixels
    photograph(3, 6)
    assert np.array_equal(photograph(3, 5, "stain").pixels, first)
    assert not np.array_equal(photograph(4, 5, "stain").pixels, first)
    assert first.shape == (*SIZE, 3) and first.dtype == np.uint8


@pytest.mark.parametrize("anomaly", STRUCTURAL)
@pytest.mark.parametrize("index", range(4))
def test_damage_is_seen_where_the_mask_is_and_nowhere_else(anomaly: str, index: int) -> None:
    good, bad = photograph(1, index), photograph(1, index, anomaly)
    changed = np.abs(good.pixels.astype(int) - bad.pixels).max(axis=2)
    around = cv2.dilate(bad.mask, np.ones((15, 15), np.uint8)) > 0  # shadows, blur
    assert changed[bad.mask > 0].mean() > 15  # grey levels
    assert changed[~around].max() < 0.2 * changed.max() and around.mean() < 0.1
    assert not good.mask.any() and not good.defect


@pytest.mark.parametrize("anomaly", LOGICAL)
def test_a_mistake_is_marked_in_the_compartments_it_concerns(anomaly: str) -> None:
    for index in range(3):
        photo = photograph(2, index, anomaly)
        wrong = {c for c, cell in enumerate(photo.packing.cells) if any(i.wrong for i in cell)}
        if photo.packing.lacking is not None:
            wrong.add(photo.packing.lacking)
        marked = {c for c, box in enumerate(CELLS) if _middle_of(photo.mask, box).any()}
        assert marked == wrong != set()


def _middle_of(mask: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """What of a compartment stays inside it in any pose; the canvas is twice the picture and 40 wider."""
    x0, y0, x1, y1 = ((edge - 40) // 2 for edge in box)
    return mask[y0 + 12 : y1 - 12, x0 + 12 : x1 - 12]


def indices(part: Part) -> list[int]:
    starts = [part.first + number * part.step for number in range(len(part.anomalies))]
    return [start + i for start in starts for i in range(part.each)]


def test_no_tray_is_shown_twice_unless_asked_for() -> None:
    """Six mistakes on the same 13 trays counted as 78 pictures. The published set can still be drawn."""
    every = [index for part in parts_of(200) for index in indices(part)]
    assert len(set(every)) == len(every) == 200 + 50 + 66 + 130
    logical, structural = map(indices, parts_of(200, shared=True)[3:])
    assert logical == [*range(600, 613)] * 6 and structural == [*range(613, 626)] * 4


def test_a_mistake_is_made_on_the_tray_that_is_its_own() -> None:
    part = parts_of(good=8, bad=1)[3]
    photos = [photo for _, photo in trays_of(part, 3)]
    own = [photograph(3, 24 + number, anomaly) for number, anomaly in enumerate(LOGICAL)]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(photos, own, strict=True))


def test_the_set_is_read_as_loco_and_its_masks_fit(tmp_path: Path) -> None:
    write_set(tmp_path, parts_of(good=8, bad=2), seed=0)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "loco" and (len(dataset.train), len(dataset.validation)) == (8, 2)
    assert len(dataset.test) == 2 + 2 * (len(LOGICAL) + len(STRUCTURAL))
    defects = read_defects(tmp_path)
    assert {value: d.name for value, d in defects.items()} == {pixel_value(n): n for n in DEFECTS}
    localisation = open_localisation(dataset, View(SIZE))
    assert localisation is not None
    for image in dataset.test:
        localisation.add(image, _map_of(image.masks), read_image(image.path))
        for mask in image.masks:
            value = int(read_image(mask).max())
            assert defects[value].name.startswith(image.path.stem.partition("_")[0])
    assert localisation.unmasked == 0
    for kind in ("logical_anomalies", "structural_anomalies"):
        assert localisation.au_spro(kind) == pytest.approx(1.0, abs=0.02)


def _map_of(masks: tuple[Path, ...]) -> np.ndarray:
    """The map of a detector that is never wrong, float32 (384, 512)."""
    return np.max([read_image(m).max(axis=2) > 0 for m in masks] or [np.zeros(SIZE)], axis=0).astype(
        np.float32
    )
