"""A data set under the bench: pictures, division, cached features, and our model trained on it."""

import time
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs import TRAINING_CODE, Facts, Jobs, code_digest, data_digest, digest_of
from rich.console import Console

from build_engines.build import build_engines
from build_engines.listener import Listener
from calibration.dataset import Dataset, load_images, open_dataset, split_held_out
from calibration.thresholds import FALSE_REJECT_RATE
from distillation.augment import with_variants
from distillation.detector import DetectorConfig
from distillation.features import FeatureCache
from distillation.learn import learn
from distillation.model import CHECKPOINT_FILE
from distillation.progress import ProgressBars
from distillation.train import TrainConfig
from distillation.weights import load_teacher
from edge.errors import DataError
from edge.picture.view import View
from edge.recipe import Recipe, load_pair

OURS = "ours"
SIZE = "input_size"  # one side in pixels; the other settings of --detector are words

console = Console(stderr=True)


@dataclass
class BenchSet:
    """A data set with what is computed once for it; other `steps` or another `detector` are for trying."""

    root: Path
    jobs: Jobs
    steps: int = TrainConfig.steps
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    name: str = ""
    _cache: FeatureCache | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.root.resolve().name

    @cached_property
    def dataset(self) -> Dataset:
        return open_dataset(self.root)

    @cached_property
    def data(self) -> str:
        return data_digest(self.dataset)

    def training(self, seed: int) -> TrainConfig:
        """The fixed configuration."""
        return TrainConfig(seed=seed, steps=self.steps)

    def rests_on(self, seed: int) -> dict[str, Any]:
        """What a model of ours is made of."""
        return {
            "data": self.data, "code": code_digest(*TRAINING_CODE), "detector": asdict(self.detector),
            "training": asdict(self.training(seed)),
        }  # fmt: skip

    def folder(self, detector: str, seed: int, rests_on: Facts) -> Path:
        """Where the model of this detector and seed lies: never that of other code or data."""
        name = detector.replace(" ", "-")
        return self.jobs.folder / "models" / f"{self.name}-{name}-seed{seed}-{digest_of(rests_on)}"

    @property
    def good(self) -> list[Path]:
        """All good pictures that may be learnt from."""
        return [*self.dataset.train, *self.dataset.validation]

    def features(self) -> FeatureCache:
        """Teacher features of all good pictures to learn from: train, then validation, then a light variation
        of each in the same order, as our own training has them."""
        if self._cache is None:
            config = self.detector
            images = load_images(self.good, View(config.input_size))
            shown = with_variants(images, TrainConfig.variants, TrainConfig.seed, TrainConfig.flips)
            teacher, folder = load_teacher(config.teacher), self.jobs.folder / "features" / self.name
            self._cache = FeatureCache(folder, teacher, shown, "cpu", lambda done, total: None)
        return self._cache

    def forget_features(self) -> None:
        """Free the disk (a third of a megabyte a picture)."""
        if self._cache is not None:
            self._cache.delete()
            self._cache = None

    def split(self, seed: int) -> tuple[list[Path], list[Path]]:
        """The product's own division of the good pictures into (train, held out)."""
        return split_held_out(self.dataset.train, self.dataset.validation, seed)


def detector_of(text: str) -> DetectorConfig:
    """ "measure=both,input_size=512" -> the default with these. Raises DataError for what it has not."""
    words = dict(pair.split("=", 1) if "=" in pair else (pair, "") for pair in text.split(",") if pair)
    known = [name for name, value in asdict(DetectorConfig()).items() if isinstance(value, str)] + [SIZE]
    if unknown := [name for name in words if name not in known]:
        raise DataError(f"no such setting: {', '.join(unknown)}", "--detector", f"Known: {', '.join(known)}.")
    side = words.pop(SIZE, str(DetectorConfig().input_size[0]))
    if not side.isdecimal():
        raise DataError(f"{side!r} is not a number of pixels", f"--detector {SIZE}", "Give one side, as 512.")
    return replace(DetectorConfig(), input_size=(int(side), int(side)), **words)


def train_ours(bench: BenchSet, seed: int) -> tuple[Path, dict[str, Any]] | None:
    """Model folder and how the training went; None where it has not been done and may not be."""
    rests_on = bench.rests_on(seed)
    folder = bench.folder(OURS, seed, rests_on)

    def work() -> Facts:
        resumed = (folder / CHECKPOINT_FILE).exists()
        begun = time.monotonic()
        with ProgressBars(console) as bars:
            learned = learn(bench.root, folder, bars, bench.detector, bench.training(seed))
        minutes = None if resumed else round((time.monotonic() - begun) / 60, 2)
        return {
            "trained_on": learned.trained_on, "held_out": learned.held_out, "best_step": learned.best_step,
            "training_minutes": minutes,
        }  # fmt: skip

    place = folder.relative_to(bench.jobs.folder)
    trained = bench.jobs.once(f"{place}/training", rests_on, work)
    return None if trained is None else (folder, trained)


def built(folder: Path) -> tuple[Path, Recipe]:
    """Engine and recipe of a model folder, built with today's code."""
    list(build_engines(folder, FALSE_REJECT_RATE, int8=False, listener=Listener()))
    engine, recipe, _ = load_pair(folder)
    return engine, recipe
