"""The quality bench: work is done once, the known methods are what they say, bounds are judged as stated."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from baselines import BASELINES, greedy_k_center
from benchset import detector_of
from curves import log_curves
from jobs import Jobs
from judging import figures_of
from quality import arguments_of, baseline_seeds_of
from quality_table import markdown, summary
from thresholds import is_strictly_within, is_within

from build_engines.export import export_onnx
from calibration.dataset import open_dataset
from calibration.evaluate import evaluate
from distillation.augment import with_variants
from distillation.detector import DetectorConfig
from distillation.features import FeatureCache
from distillation.train import TrainConfig
from distillation.weights import load_teacher
from edge.cameras.parts import render_part
from edge.errors import DataError
from edge.picture.preprocess import preprocess
from edge.recipe import Recipe

SIZE = (64, 64)


class Calm:
    """A backend that finds nothing."""

    name, input_size = "calm", SIZE

    def infer(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        return np.zeros(SIZE, np.float32), 1.0

    def close(self) -> None: ...


def counted(calls: list[int]) -> dict[str, int]:
    calls.append(1)
    return {"value": len(calls)}


def test_a_killed_bench_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A second run takes the kept result; what rests on something else, or is half a file, is done again."""
    calls: list[int] = []
    for _ in range(2):
        assert Jobs(tmp_path).once("a/b", {"code": "1"}, lambda: counted(calls)) == {"value": 1}
    assert Jobs(tmp_path, done_only=True).once("a/b", {"code": "2"}, lambda: counted(calls)) is None
    assert Jobs(tmp_path).once("a/b", {"code": "2"}, lambda: counted(calls)) == {"value": 2}
    (tmp_path / "a" / "b.json").write_text('{"rests_on": {"co')
    assert Jobs(tmp_path).once("a/b", {"code": "2"}, lambda: counted(calls)) == {"value": 3}


def test_a_coreset_reaches_every_corner() -> None:
    """A thousand points in one heap and one in each of three corners: four choices must find all corners."""
    torch.manual_seed(0)
    corners = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
    points = torch.cat([0.1 * torch.randn(1000, 2), corners])
    assert {1000, 1001, 1002} <= set(greedy_k_center(points, 4).tolist())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    images = np.stack([preprocess(render_part(5, i), SIZE) for i in range(24)])
    folder = tmp_path_factory.mktemp("features")
    shown = with_variants(images, 1, seed=0)
    return FeatureCache(folder, load_teacher("efficientnet-lite0"), shown, "cpu", lambda done, total: None)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_known_method_is_exported_and_sees_a_grey_square(kind: str, cache: FeatureCache) -> None:
    baseline = BASELINES[kind](load_teacher("efficientnet-lite0"), DetectorConfig(input_size=SIZE))
    baseline.fit(cache, np.arange(20), np.arange(20, 24), TrainConfig(steps=30))
    good = np.stack([preprocess(render_part(5, 100 + i), SIZE) for i in range(8)])
    bad = good.copy()
    bad[:, 20:44, 20:44] = 128
    session = onnxruntime.InferenceSession(export_onnx(baseline).SerializeToString())  # type: ignore[arg-type]
    pixels = np.concatenate([good, bad])
    maps, scores = session.run(["anomaly_map", "score"], {"pixels": pixels})
    with torch.inference_mode():
        assert np.allclose(baseline(torch.from_numpy(pixels))[1].numpy(), scores, rtol=1e-3)
    assert maps.shape == (16, *SIZE)
    assert np.median(scores[8:]) > scores[:8].max()
    if baseline.localises:
        assert maps[8:, 20:44, 20:44].mean() > 1.2 * maps[:8, 20:44, 20:44].mean()


def test_a_count_is_within_unless_it_contradicts_the_bounds() -> None:
    """Of 100 parts with bounds 1 to 3 %: the chance of 8 or more at 3 % is 1.1 %, of 7 or more 3.1 %; none at
    all has a chance of 37 % at 1 %. (scipy.stats.binom)"""
    assert [is_within(count, 100, 0.01, 0.03) for count in (0, 7, 8)] == [True, True, False]
    assert [is_strictly_within(count, 100, 0.01, 0.03) for count in (0, 1, 3, 4)] == [
        False,
        True,
        True,
        False,
    ]
    assert not is_within(0, 1000, 0.01, 0.03)  # 0.004 %: rejects too few to have been promised


def test_the_table_shows_mean_and_deviation_over_seeds() -> None:
    promised = {"rate": 0.003, "low": 0.0, "high": 0.02}
    runs = {seed: {"image_auroc": auroc, "per_type": {"cut": auroc}, "expected_false_rejects": promised,
                   "false_rejects": seed, "n_good": 60, "training_minutes": 2.0}
            for seed, auroc in enumerate((0.98, 0.99))}  # fmt: skip
    table = markdown({"reels": {"ours": {"summary": summary(runs), "infer_ms": None, "seeds": runs}}})
    assert "| reels | ours | 0.985 ± 0.007 | - | - | - | 0, 1 of 60 (0 to 2) | 2.0 ± 0.0 |" in table
    assert "| reels | cut | 0.985 ± 0.007 |" in table


def test_a_folder_of_good_pictures_alone_says_nothing_of_rejects(tmp_path: Path) -> None:
    """Of the pictures learnt from "0 of 16 stopped" was told, as if they were new; and one such folder left
    all other sets without a mean."""
    (tmp_path / "good").mkdir()
    for i in range(16):
        cv2.imwrite(str(tmp_path / "good" / f"{i}.png"), preprocess(render_part(5, i), SIZE))
    dataset = open_dataset(tmp_path / "good")
    recipe = Recipe("parts", SIZE, 1.6, 1.9, expected_false_rejects={"rate": 0.003, "low": 0.0, "high": 0.02})
    plain = figures_of(evaluate(Calm(), recipe, dataset), dataset) | {"training_minutes": 2.0}
    assert (plain["false_rejects"], plain["false_reject_rate"], plain["n_good"]) == (None, None, 0)

    judged = plain | {"image_auroc": 0.9, "false_rejects": 1, "n_good": 60}
    by_set = {"parts": plain, "reels": judged, "nails": judged | {"image_auroc": 0.8}}
    table = markdown(
        {name: {"ours": {"summary": summary({0: run}), "seeds": {0: run}}} for name, run in by_set.items()}
    )
    assert "| parts | ours | - | - | - | - | - | 2.0 |" in table
    assert "| reels | ours | 0.900 | - | - | - | 1 of 60 (0 to 2) |" in table
    assert "| mean of 2 sets | ours | 0.850 |" in table


@pytest.mark.parametrize(
    ("options", "seeds"),
    [((), [0, 1, 2]), (("--baseline-seeds", "0"), [0]), (("--no-baselines",), [])],
)
def test_baselines_may_have_fewer_seeds_than_ours(
    options: tuple[str, ...], seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published table has one seed of baselines: the command that makes it says so."""
    monkeypatch.setattr(sys, "argv", ["quality.py", "data", "--work", "work", *options])
    assert baseline_seeds_of(arguments_of()) == seeds


def test_a_detector_for_trying_is_the_default_but_for_what_is_named() -> None:
    assert detector_of("") == DetectorConfig()
    tried = detector_of("measure=both,fusion=trusted")
    assert (tried.measure, tried.fusion) == ("both", "trusted")
    assert replace(tried, measure=DetectorConfig.measure, fusion=DetectorConfig.fusion) == DetectorConfig()
    with pytest.raises(DataError, match=r"no such setting: kind, heads.*Known: teacher, local"):
        detector_of("kind=odd,heads")


def test_another_input_size_can_be_tried() -> None:
    tried = detector_of("input_size=512,measure=both")
    assert tried == replace(DetectorConfig(), input_size=(512, 512), measure="both")
    for wrong in ("input_size", "input_size=large"):
        with pytest.raises(DataError, match="not a number of pixels"):
            detector_of(wrong)


def test_a_curve_goes_through_the_means() -> None:
    picture = log_curves({"reels": {10: [0.9, 1.0], 100: [1.0, 1.0]}}, "pictures", "AUROC")
    assert picture.count("<circle") == 4
    assert 'points="64.0,130.7 550.0,20.0"' in picture  # 0.95 between 0.85 and 1, then the top right corner
