"""A data set under the ablation: good pictures in three parts, anomalies made on one, all as features.

What is learnt from has its light variations with it, as the product's training has them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import trays
from anomalies import KINDS, draw
from jobs import TRAINING_CODE, Jobs, code_digest

from calibration.dataset import Images, dataset_digest, load_images, open_dataset
from calibration.localisation import DEFECTS_FILE
from distillation.augment import with_variants
from distillation.detector import DetectorConfig
from distillation.features import FeatureCache
from distillation.teacher import Teacher
from distillation.train import TrainConfig
from distillation.weights import load_teacher
from edge.picture.images import list_images
from edge.picture.preprocess import resize
from edge.picture.view import View

DRAWN = (512, 512)  # anomalies are drawn at this size; all pictures go through it, so that none is sharper
MOST_FITTED = 20  # the fewest with which the product judges the spread of scores by held-out ones alone
MOST_JUDGED = 40
COPIES_FOR = 40  # at least so many anomalies of each kind
JUDGING_CODE = ("benchmarks/ablation_set.py", "benchmarks/ablation_judging.py", "benchmarks/anomalies.py",
                "benchmarks/tray/*.py", "calibration/metrics.py")  # fmt: skip
TRAYS = ("tray good", "logical", "structural")
TRAY_SEED, TRAY_GOOD, TRAY_BAD = 1000, 120, 10  # a third of the good ones and 10 of each anomaly are drawn


@dataclass(frozen=True)
class Material:
    """One set seen by one teacher at one size. Parts are rows of the cache."""

    teacher: Teacher
    cache: FeatureCache
    pictures: int  # learnt from; so many rows of `learnt` come first, then their variations
    learnt: range
    fitted: range
    fitted_pixels: Images
    judged: dict[str, range]  # "good", then each kind of anomaly; of trays: "tray good", ...
    kinds: list[str]  # the self-made ones


class AblationSet:
    """`most` good pictures are learnt from; `seed` divides, draws anomalies, varies and trains."""

    def __init__(self, root: Path, jobs: Jobs, most: int, seed: int = 0):
        self.root, self.jobs, self.most, self.seed = root, jobs, most, seed
        self.name = root.resolve().name
        self._material: dict[tuple[str, tuple[int, int]], Material] = {}

    @cached_property
    def good(self) -> list[Path]:
        """Good pictures to learn from, never a test picture."""
        dataset = open_dataset(self.root)
        return [*dataset.train, *dataset.validation]

    def rests_on(self) -> dict[str, Any]:
        """What all figures of this set rest on, the row aside."""
        return self._facts

    @cached_property
    def _facts(self) -> dict[str, Any]:
        code = code_digest(*TRAINING_CODE, *JUDGING_CODE)
        return {"data": dataset_digest(self.good)[:12], "code": code, "most": self.most,
                "seed": self.seed}  # fmt: skip

    def parts(self) -> tuple[list[Path], list[Path], list[Path]]:
        """Seeded division into (learnt, fitted, judged)."""
        judged = min(MOST_JUDGED, len(self.good) // 3)
        fitted = min(MOST_FITTED, max(2, len(self.good) // 7))
        order = [self.good[i] for i in np.random.default_rng(self.seed).permutation(len(self.good))]
        learnt = order[judged + fitted :][: self.most]
        return sorted(learnt), sorted(order[judged : judged + fitted]), sorted(order[:judged])

    def material(self, config: DetectorConfig) -> Material:
        """Features of everything. Only the last teacher and size are kept open; files stay."""
        key = (config.teacher, config.input_size)
        if key not in self._material:
            self._material = {key: self._made(*key)}
        return self._material[key]

    def _made(self, name: str, size: tuple[int, int]) -> Material:
        learnt, fitted, judged = (_seen(paths) for paths in self.parts())
        copies = -(-COPIES_FOR // len(judged))
        parts = {"learnt": learnt, "fitted": fitted, "good": judged}
        parts |= {kind: draw(judged, kind, copies, self.seed) for kind in KINDS}
        parts |= drawn_trays(self.root, self.jobs.folder)
        small = {part: np.stack([resize(image, size) for image in images]) for part, images in parts.items()}
        pictures = len(small["learnt"])
        small["learnt"] = with_variants(small["learnt"], TrainConfig.variants, self.seed, TrainConfig.flips)
        teacher = load_teacher(name)
        folder = self.jobs.folder / "features" / f"{self.name}-{name}-{size[0]}"
        shown = np.concatenate(list(small.values()))
        cache = FeatureCache(folder, teacher, shown, "cpu", lambda done, total: None)
        rows = _rows_of(small)
        return Material(
            teacher,
            cache,
            pictures,
            rows.pop("learnt"),
            rows.pop("fitted"),
            small["fitted"],
            rows,
            list(KINDS),
        )


def drawn_trays(root: Path, work: Path) -> dict[str, Images]:
    """Trays of another seed, where the set at `root` is of trays: they are ours to choose by. Else nothing.

    TRAYS, at the size DRAWN; made once, in `work`.
    """
    note = root / DEFECTS_FILE
    if not (note.exists() and json.loads(note.read_text("utf-8")) == trays.defects_config()):
        return {}
    folder = work / "sets" / f"trays-seed{TRAY_SEED}-apart"  # not those of earlier code
    parts = trays.parts_of(TRAY_GOOD, TRAY_BAD)[2:]
    if not (folder / "made").exists():
        trays.write_set(folder, parts, TRAY_SEED)
        (folder / "made").touch()
    return {name: _seen(list_images(folder / part.folder)) for name, part in zip(TRAYS, parts, strict=True)}


def _seen(paths: Sequence[Path]) -> Images:
    return load_images(paths, View(DRAWN))


def _rows_of(parts: dict[str, Images]) -> dict[str, range]:
    ends = np.cumsum([len(images) for images in parts.values()]).tolist()
    starts = [0, *ends[:-1]]
    return {part: range(a, b) for part, a, b in zip(parts, starts, ends, strict=True)}
