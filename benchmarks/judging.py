"""One set, one detector: judge it with the product's own code, and keep the figures.

Ours goes the way of the commands: learn, build_engines, evaluate. A baseline goes the same way from the
export on: ONNX Runtime, limits from the same held-out good pictures, the same evaluation.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from baselines import BASELINES
from benchset import OURS, BenchSet, built, train_ours
from jobs import JUDGING_CODE, SCORE_CODE, Facts, code_digest

from build_engines.export import export_onnx
from build_engines.graph import onnx_bytes
from calibration.dataset import load_images
from calibration.evaluate import evaluate
from calibration.figures import Evaluation, Judged
from calibration.layouts import LOGICAL, STRUCTURAL, Dataset
from calibration.metrics import auroc_of
from calibration.report import write_report
from calibration.thresholds import fit_thresholds
from distillation.weights import load_teacher
from edge.backends import Backend
from edge.backends.ort import OnnxRuntimeBackend
from edge.picture.view import View
from edge.recipe import Recipe

FALSE_REJECTS_ALLOWED = 0.01  # of the good test pictures, for "recall at 1 % false rejects"
PLACE_FIGURES = ("pixel_auroc", "au_pro", "au_spro")


def judge_ours(bench: BenchSet, seed: int) -> dict[str, Any] | None:
    """Figures of our detector."""
    trained = train_ours(bench, seed)
    if trained is None:
        return None
    folder, training = trained

    def work() -> Facts:
        engine, recipe = built(folder)
        result = evaluate(OnnxRuntimeBackend(engine, recipe.input_size), recipe, bench.dataset)
        write_report(result, folder / "report.html")
        return figures_of(result, bench.dataset) | training

    return bench.jobs.once(f"results/{bench.name}-{OURS}-seed{seed}", _rests_on(bench, OURS, seed), work)


def judge_baseline(bench: BenchSet, kind: str, seed: int) -> dict[str, Any] | None:
    """Figures of one baseline."""
    folder = folder_of(bench, kind, seed)

    def work() -> Facts:
        bench.features()  # once for all of them: no part of one's minutes
        begun = time.monotonic()
        backend = fit_baseline(bench, kind, seed, folder)
        minutes = round((time.monotonic() - begun) / 60, 2)
        _, held = bench.split(seed)
        recipe = recipe_for(kind, backend, held, bench.detector.input_size)
        result = evaluate(backend, recipe, bench.dataset)
        figures = figures_of(result, bench.dataset) | {"training_minutes": minutes}
        return figures if BASELINES[kind].localises else figures | dict.fromkeys(PLACE_FIGURES)

    name = f"results/{bench.name}-{kind.replace(' ', '-')}-seed{seed}"
    return bench.jobs.once(name, _rests_on(bench, kind, seed), work)


def folder_of(bench: BenchSet, detector: str, seed: int) -> Path:
    """Where the engine of ours or of a baseline lies."""
    if detector == OURS:
        return bench.folder(OURS, seed, bench.rests_on(seed))
    return bench.folder(detector, seed, _rests_on(bench, detector, seed))


def _rests_on(bench: BenchSet, detector: str, seed: int) -> dict[str, Any]:
    facts = bench.rests_on(seed)
    if detector == OURS:
        return facts | {"judging": code_digest(*SCORE_CODE, *JUDGING_CODE)}
    known = {"judging": code_digest(*JUDGING_CODE), "baselines": code_digest("benchmarks/baselines.py")}
    return facts | known


def fit_baseline(bench: BenchSet, kind: str, seed: int, folder: Path) -> OnnxRuntimeBackend:
    """Fit, export to `folder/engine.onnx`, open."""
    config, cache = bench.detector, bench.features()
    rows, held = (np.array([bench.good.index(path) for path in part]) for part in bench.split(seed))
    baseline = BASELINES[kind](load_teacher(config.teacher), config)
    baseline.fit(cache, rows, held, bench.training(seed))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.onnx").write_bytes(onnx_bytes(export_onnx(baseline), ""))  # type: ignore[arg-type]
    return OnnxRuntimeBackend(folder / "engine.onnx", config.input_size)


def recipe_for(kind: str, backend: Backend, held: list[Path], size: tuple[int, int]) -> Recipe:
    """Limits from held-out good pictures, as ours are set."""
    limits = fit_thresholds([backend.infer(image)[1] for image in load_images(held, View(size))])
    return Recipe(kind, size, limits.review, limits.fail, expected_false_rejects=limits.to_recipe())


def figures_of(result: Evaluation, dataset: Dataset) -> dict[str, Any]:
    """What `evaluate` tells, what the recipe promised, and recall at 1 % false rejects.

    A plain folder has no test pictures: `evaluate` shows the good ones that were learnt from, and of their
    rejects nothing is kept.
    """
    recall = recall_at(result, FALSE_REJECTS_ALLOWED)
    fresh = bool(dataset.test and result.good)
    figures = json.loads(result.to_json())
    figures |= {} if fresh else {"n_good": 0, "false_reject_rate": None}
    return figures | {
        "per_type": figures["per_type"] | per_name(result),
        "recall_at_1_percent": recall if math.isfinite(recall) else None,
        "expected_false_rejects": dict(result.recipe.expected_false_rejects),
        "false_rejects": round(result.false_reject_rate * len(result.good)) if fresh else None,
    }


def per_name(result: Evaluation) -> dict[str, float]:
    """AUROC of what file names tell apart within LOCO's two types: logical_anomalies/count_003.png."""
    good = np.array([image.score for image in result.good])
    groups: dict[str, list[float]] = {}
    for image in result.images:
        if image.kind in (LOGICAL, STRUCTURAL) and (name := type_of(image)) != image.kind:
            groups.setdefault(name, []).append(image.score)
    return {key: auroc_of(good, np.array(groups[key])) for key in sorted(groups)} if good.size else {}


def type_of(image: Judged) -> str:
    """Its kind; of LOCO's two with what the file's name says: `logical: count`."""
    name = image.path.stem.rstrip("0123456789").strip("_-") if image.kind in (LOGICAL, STRUCTURAL) else ""
    return f"{image.kind}: {name}" if name else image.kind


def recall_at(result: Evaluation, allowed: float) -> float:
    """Share of anomalous test pictures above the lowest limit that stops at most `allowed` of the good ones.

    With fewer than 100 good test pictures that is: above every good one. NaN without both kinds.
    """
    good = np.sort([image.score for image in result.good])[::-1]
    bad = np.array([image.score for image in result.images if not image.is_good])
    if not good.size or not bad.size:
        return math.nan
    return float((bad > good[math.floor(allowed * good.size)]).mean())


def race(bench: BenchSet, engines: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Seconds for one picture, camera pixels to score: all engines in turn, after a round to warm up."""
    size = bench.detector.input_size
    runs = {name: OnnxRuntimeBackend(path, size).infer for name, path in engines.items()}
    pictures = load_images(
        [image.path for image in bench.dataset.test[:20]] or bench.dataset.train[:20], View(size)
    )
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            run(pictures[number % len(pictures)])
            times[name].append(time.perf_counter() - begun)
    return times
