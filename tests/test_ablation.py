"""The ablation: anomalies are seeded and seen, rows that share a training train once, parts never overlap."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ablation import find_rows, run
from ablation_rows import BY_NAME, ROWS, Row
from ablation_set import DRAWN, AblationSet
from ablation_table import markdown
from anomalies import KINDS, draw
from jobs import Jobs

from calibration.dataset import load_images
from distillation import affinity
from distillation.augment import with_variants
from edge.cameras.parts import render_part
from edge.errors import InspectError
from edge.picture.preprocess import preprocess, resize
from edge.picture.view import View

TINY = {"input_size": (64, 64)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "parts"
    (folder / "train" / "good").mkdir(parents=True)
    for i in range(16):
        cv2.imwrite(str(folder / "train" / "good" / f"{i}.png"), preprocess(render_part(5, i), (128, 128)))
    return folder


def test_another_surface_shows_on_a_plain_part_too() -> None:
    """The story: smoothing changes nothing there, and half of these anomalies were good pictures."""
    plain = np.full((1, 128, 128, 3), 140, np.uint8)
    assert all((bad != plain[0]).any() for bad in draw(plain, "rough", 20, seed=0))


@pytest.mark.parametrize("kind", KINDS)
def test_an_anomaly_changes_a_part_of_the_picture_and_is_the_same_again(kind: str) -> None:
    good = np.stack([preprocess(render_part(5, i), (512, 512)) for i in range(3)])
    kept = good.copy()
    bad = draw(good, kind, 2, seed=1)
    assert (bad.shape, bad.dtype) == ((6, 512, 512, 3), np.uint8)
    assert np.array_equal(good, kept)
    assert np.array_equal(bad, draw(good, kind, 2, seed=1))
    assert not np.array_equal(bad, draw(good, kind, 2, seed=2))
    changed = (np.repeat(good, 2, axis=0) != bad).any(axis=3).mean(axis=(1, 2))
    assert (changed > 0).all()
    if kind in ("uneven", "rough"):  # everywhere, or nearly, but by little
        by = np.abs(np.repeat(good, 2, axis=0).astype(float) - bad).mean(axis=(1, 2, 3))
        assert (changed > 0.1).all() and (by < 10).all()
    else:
        assert (changed < 0.35).all()


def test_rows_with_the_same_students_share_them_and_nothing_is_done_twice(root: Path, tmp_path: Path) -> None:
    rows = [Row("default", TINY), Row("local only", TINY | {"branches": ("local",)})]
    sets = [AblationSet(root, Jobs(tmp_path), most=100)]
    results = run(sets, rows, 3, tmp_path)
    (students,) = (tmp_path / "students").iterdir()
    students.unlink()  # whoever trained again would write it again
    assert run(sets, rows, 3, tmp_path) == results
    assert not students.exists()
    assert set(results["local only"]["parts"]["per_kind"]) == set(KINDS)
    lines = (tmp_path / "ablation.md").read_text().splitlines()
    assert lines[0] == "| row | parts | mean | difference |"
    assert lines[2].startswith("| default |") and lines[2].endswith("| +0.0 |")
    assert results["default"]["parts"]["per_kind"] != results["local only"]["parts"]["per_kind"]


def test_learnt_fitted_and_judged_pictures_are_different_ones(root: Path, tmp_path: Path) -> None:
    parts = AblationSet(root, Jobs(tmp_path), most=5).parts()
    assert [len(part) for part in parts] == [5, 2, 5]
    assert len({path for part in parts for path in part}) == 12
    again, other = (AblationSet(root, Jobs(tmp_path), most=5, seed=seed) for seed in (0, 1))
    assert again.parts() == parts != other.parts() and again.rests_on() != other.rests_on()


def test_the_students_learn_from_pictures_and_their_variations(root: Path, tmp_path: Path) -> None:
    """Every row was trained without the variations that the product learns from and its facts told of."""
    bench = AblationSet(root, Jobs(tmp_path), most=5)
    material = bench.material(Row("default", TINY).detector())
    assert (material.pictures, len(material.learnt)) == (5, 5 * (1 + Row("default").training(3).variants))
    drawn = load_images(bench.parts()[0], View(DRAWN))
    pictures = np.stack([resize(image, TINY["input_size"]) for image in drawn])
    with torch.inference_mode():
        expected = material.teacher(torch.from_numpy(with_variants(pictures, 1, seed=0)))
    for cached, maps in zip(material.cache[material.learnt], expected, strict=True):
        assert torch.allclose(cached, maps, rtol=0.01, atol=0.01)  # kept in half precision
    assert material.fitted.start == material.learnt.stop


def test_every_row_can_be_asked_for_by_its_name() -> None:
    """A row with a comma in its name was cut at it; `input 384` was unknown once 384 was the default."""
    for name, row in BY_NAME.items():
        assert find_rows(name) == ([ROWS[0]] if row == ROWS[0] else [ROWS[0], row])
    size = Row("default").detector().input_size[0]
    assert find_rows(f"input {size}") == [ROWS[0]]


def test_every_row_differs_from_all_others() -> None:
    facts = [repr(row.facts(300)) for row in ROWS]
    assert len(set(facts)) == len(facts)
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_constant_of_the_method_is_changed_only_while_its_row_runs() -> None:
    before = affinity.NORM_FLOOR
    with next(row for row in ROWS if row.name == "norm floor 0").constants():
        assert affinity.NORM_FLOOR == 0
    assert before == affinity.NORM_FLOOR > 0


def test_a_row_without_all_sets_has_no_mean() -> None:
    base = {"a": {"image_auroc": 0.9}, "b": {"image_auroc": 0.7, "logical": 0.6, "structural": 0.8}}
    table = markdown({"default": base, "sum": {"a": {"image_auroc": 0.95}}, "max": base})
    assert "| default | 90.0 | 70.0 | 80.0 | +0.0 | 60.0 | 80.0 |" in table
    assert "| sum | 95.0 | - | - | - | - | - |" in table


def test_an_unknown_row_is_named() -> None:
    assert [row.name for row in find_rows("map alone")] == ["default", "map alone"]
    with pytest.raises(InspectError, match="no such row: maps alone"):
        find_rows("maps alone")
