"""Look at the test pictures once, for the final figures; nothing is chosen by them.

Image figures use the product's own score. MVTec LOCO AD's protocol takes the largest value of the map
instead, so that one is given too; LOCO's image AUROC is half the sum of good-against-logical and
good-against-structural, never one pool.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Set
from pathlib import Path

import numpy as np

from calibration.dataset import content_digest, load_image, naming
from calibration.figures import Evaluation, Judged, worst_false_rejects, worst_misses
from calibration.layouts import LOGICAL, STRUCTURAL, Dataset, LabelledImage
from calibration.learnt import UNTOLD
from calibration.localisation import DEFECTS_FILE, Localisation, mean_of_kinds, open_localisation
from calibration.metrics import Scores, auroc_of, bootstrap_mean_auroc
from calibration.refused import by_advice, cause, few
from edge.backends import Backend
from edge.errors import DataError, PartNotFound
from edge.frame import AnomalyMap, Inspection, Shot, make_frame
from edge.picture.image_health import HealthLimits, health_of
from edge.picture.images import read_image
from edge.picture.preprocess import resize
from edge.picture.view import View, view_of
from edge.recipe import Recipe, other_size
from edge.verdict import Outcome, decide

__all__ = ["CALM_PARTS", "SEED", "Evaluation", "Progress", "evaluate"]

SEED = 0  # of the bootstrap: printed figures must not change from run to run

# Without a limit for heat maps in the recipe: orange where one good part in twenty has a place as hot.
CALM_PARTS = 0.95

Progress = Callable[[int, int], None]  # pictures done, pictures in all


def evaluate(
    backend: Backend,
    recipe: Recipe,
    dataset: Dataset,
    progress: Progress | None = None,
    learnt: Set[str] | None = frozenset(),
) -> Evaluation:
    """Run every test picture through the backend, one at a time, and judge it as the station would.

    A plain folder's pictures are taken as good parts. `learnt` are the hex sha256 of what the model has
    learnt from: such test pictures are counted in a note; None: that cannot be told, which a note says.
    Raises DataError where there are no test pictures or one cannot be read, BackendFault where inference
    fails.
    """
    tests = dataset.test or [
        LabelledImage(path, "good") for path in dataset.train if dataset.layout == "plain"
    ]
    if not tests:
        hint = "Put pictures into test/good and test/<type>."
        raise DataError("there are no test pictures", str(dataset.root / "test"), hint)
    view = view_of(recipe)
    health = health_of(recipe, view.mask)
    localisation = open_localisation(dataset, view)
    images = []
    for done, image in enumerate(tests, 1):
        images.append(_judge(backend, recipe, view, image, localisation, health))
        if progress is not None:
            progress(done, len(tests))
    told = [dataset.note] if dataset.note else []
    notes = [*told, *_learnt_notes(images, learnt), *_size_notes(recipe, images), *_health_notes(images)]
    notes += _lost_notes(images)
    return _summarise(backend, recipe, dataset, images, localisation, notes)


def _judge(
    backend: Backend, recipe: Recipe, view: View, image: LabelledImage,
    localisation: Localisation | None, health: HealthLimits | None,
) -> Judged:  # fmt: skip
    pixels = read_image(image.path)
    size = (pixels.shape[0], pixels.shape[1])
    with naming(image.path):
        shown, lost = view.shown_anyway(pixels)
    fault = health.fault(shown) if health else None
    unfit = fault[0] if fault else None
    if lost is not None:
        outcome = Outcome(recipe.on_fault)
        return Judged(image.path, image.kind, math.inf, math.inf, outcome, math.nan, size, unfit, lost)
    window = resize(shown, view.size)
    start = time.perf_counter_ns()
    anomaly_map, score = backend.infer(window)
    took = time.perf_counter_ns() - start
    usable = bool(np.isfinite(anomaly_map).all())
    if localisation is not None and usable:
        localisation.add(image, anomaly_map, pixels)
    frame = make_frame(Shot(pixels), 0, image.path.name, captured_ns=0)
    outcome = decide(frame, Inspection(0, score, anomaly_map, "", 0, 0), recipe, now_ns=0).outcome
    peak = float(anomaly_map.max()) if usable else math.inf
    score = score if math.isfinite(score) else math.inf
    return Judged(image.path, image.kind, score, peak, outcome, took / 1e6, size, unfit)


def _summarise(
    backend: Backend, recipe: Recipe, dataset: Dataset, images: list[Judged], pixels: Localisation | None,
    notes: list[str],
) -> Evaluation:  # fmt: skip
    kinds = sorted({image.kind for image in images if not image.is_good})
    good, groups = _divide([(i.kind, i.score) for i in images], dataset)
    calm, peaks = _divide([(i.kind, i.peak) for i in images], dataset)
    spro = {kind: pixels.au_spro(kind) for kind in kinds} if pixels and dataset.layout == "loco" else {}
    shown = worst_misses(images) + worst_false_rejects(images)
    return Evaluation(
        dataset=dataset.name,
        recipe=recipe,
        backend=backend.name,
        images=images,
        image_auroc=_mean_auroc(good, groups),
        image_auroc_interval=bootstrap_mean_auroc(good, groups, SEED),
        image_auroc_of_map_maximum=_mean_auroc(calm, peaks),
        pixel_auroc=pixels.pixel_auroc() if pixels else math.nan,
        au_pro=pixels.au_pro() if pixels else math.nan,
        au_spro=mean_of_kinds(spro),
        au_spro_per_type=spro,
        per_type={kind: auroc_of(good, _of_kind(images, kind)) for kind in kinds},
        map_limit=_map_limit(recipe, calm),
        maps={i.path: map_of(backend, view_of(recipe), i.path) for i in shown},
        notes=[*notes, *_notes(dataset, images, pixels)],
    )


def map_of(backend: Backend, view: View, path: Path) -> AnomalyMap:
    """The picture's map; NaN, which is shown as hottest, where the part is not where it should be."""
    try:
        return backend.infer(load_image(path, view))[0]
    except PartNotFound:
        return np.full((1, 1), np.nan, np.float32)


def _divide(values: list[tuple[str, float]], dataset: Dataset) -> tuple[Scores, list[Scores]]:
    """(good, groups of anomalous ones): LOCO's two kinds apart, everything together for other sets."""
    good = np.array([value for kind, value in values if kind == "good"])
    if dataset.layout == "loco":
        groups = [np.array([v for kind, v in values if kind == k]) for k in (LOGICAL, STRUCTURAL)]
    else:
        groups = [np.array([value for kind, value in values if kind != "good"])]
    return good, [group for group in groups if group.size]


def _of_kind(images: list[Judged], kind: str) -> Scores:
    return np.array([image.score for image in images if image.kind == kind])


def _mean_auroc(good: Scores, groups: list[Scores]) -> float:
    return float(np.mean([auroc_of(good, group) for group in groups])) if groups else math.nan


def _map_limit(recipe: Recipe, peaks: Scores) -> float:
    """Where the maps of good parts end: what the station uses, else what the good test pictures show."""
    if "map_limit" in recipe.normalisation:
        return float(recipe.normalisation["map_limit"])
    finite = peaks[np.isfinite(peaks)]
    return float(np.quantile(finite, CALM_PARTS)) if finite.size else 1.0


def _learnt_notes(images: list[Judged], learnt: Set[str] | None) -> list[str]:
    if learnt is None:
        return [f"{UNTOLD.capitalize()}. The figures of learnt ones are better than the line will see."]
    known = sum(content_digest(image.path) in learnt for image in images) if learnt else 0
    what = f"{known} of {len(images)} test pictures were learnt from"
    return [f"{what}: their scores are lower than those of new parts."] if known else []


def _size_notes(recipe: Recipe, images: list[Judged]) -> list[str]:
    others = [error for image in images if (error := other_size(recipe, image.size))]
    if not others:
        return []
    what = f"In {len(others)} of {len(images)} files {others[0].what}"
    return [f"{what}: scores may mean little, and the station judges none such. {others[0].next_step}"]


def _health_notes(images: list[Judged]) -> list[str]:
    """All figures are the engine's; the station looks at the picture first."""
    unfit = [image for image in images if image.unfit]
    if not unfit:
        return []
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(image.kind for image in unfit).items()))
    why = ", ".join(sorted({image.unfit.name for image in unfit if image.unfit}))
    what = f"{len(unfit)} of {len(images)} pictures ({kinds}; {why}), which it does not judge"
    todo = "Look at light and camera, or measure anew: edge-inspect recipe ENGINE --health GOOD_PICTURES."
    return [f"The figures are the engine's alone: the station's health check would refuse {what}. {todo}"]


def _lost_notes(images: list[Judged]) -> list[str]:
    """One for each thing to do about it."""
    lost = {image.path: image.lost for image in images if image.lost}
    counted = f"of {len(images)} pictures the part was not found, so they count as rejected"
    return [f"In {len(g[0])} {counted}. {cause(g)}. {g[1].next_step}" for g in by_advice(lost)]


def _notes(dataset: Dataset, images: list[Judged], pixels: Localisation | None) -> list[str]:
    n_good = sum(image.is_good for image in images)
    broken = [i.path for i in images if not i.lost and math.inf in (i.score, i.peak)]
    bad = [image.outcome for image in images if not image.is_good]
    missed = bad.count(Outcome.PASS)
    unmasked = pixels.unmasked if pixels else 0
    kinds = {image.kind for image in images}
    like_loco = bool(kinds & {LOGICAL, STRUCTURAL}) or (dataset.root / DEFECTS_FILE).is_file()
    remarks = {
        "There are no good test pictures (test/good, test/OK): AUROC and false rejects cannot be told.": (
            not n_good
        ),
        "There are no anomalous test pictures: only false rejects can be told.": n_good == len(images),
        f"{missed} of {len(bad)} anomalous pictures pass. Lower limits find more and stop more good parts: "
        "the report shows both. More good pictures or build-engines --false-rejects lower them.": 2 * missed
        > len(bad),
        "There are no masks: how well the place is found cannot be told.": pixels is None and bad,
        f"{unmasked} anomalous pictures have no mask and are left out of the pixel figures.": unmasked,
        f"{len(broken)} pictures got no finite score or map; they count as rejected: {few(broken)}.": broken,
        "The pictures of a plain folder are taken as good parts. If the model has learnt from them, "
        "the figures are better than the line will see.": dataset.layout == "plain",
        "Figures for logical and structural anomalies are taken apart and averaged; "
        "for the place, AU-sPRO stands in for AU-PRO (MVTec LOCO AD's protocol).": dataset.layout == "loco",
        f"MVTec LOCO AD's protocol knows {LOGICAL} and {STRUCTURAL} alone: here all anomalies are taken "
        "together, as in any other set.": like_loco and dataset.layout != "loco" and n_good < len(images),
    }
    return [text for text, applies in remarks.items() if applies]
