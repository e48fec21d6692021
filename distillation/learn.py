"""From a folder of good pictures to a trained model folder. The order of events, nothing else.

pictures -> teacher features (cached) -> students -> constants on held-out good pictures -> model folder
"""

import shlex
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from calibration.dataset import content_digest, dataset_digest, load_images, open_dataset, split_held_out
from calibration.health import health_entries
from calibration.likeness import advice
from calibration.look import thumbnails
from calibration.views import ViewOptions, make_view
from distillation.affinity import MEASURES
from distillation.augment import with_variants
from distillation.detector import Detector, DetectorConfig
from distillation.features import FeatureCache, Rows
from distillation.fit import fit_constants
from distillation.mapfusion import FUSIONS, NORMALISATIONS
from distillation.model import CHECKPOINT_FILE, About, save_model
from distillation.students import BOTTLENECKS, LOCAL_STUDENTS
from distillation.train import Step, TrainConfig, Trainer
from distillation.weights import TEACHERS, load_teacher
from edge.errors import InspectError
from edge.picture.view import IGNORED
from edge.picture.view_show import mask_share

CACHE = ".edge-inspect-features"  # a name that nobody else uses: --restart deletes it
MAX_CONTEXT_GRID = 32  # 1,024 places: nothing of places x places becomes larger than that
MOST_TILES_LEARNT = 1000  # 0.7 GB of features while it trains, and a minute for the pooled distances
MOST_TILES_HELD_OUT = 200  # looked at twenty times in a run


class Watcher(Protocol):
    """Who shows the progress."""

    def say(self, text: str) -> None:
        """One line for the person who waits."""

    def download(self, done: int, total: int) -> None:
        """So many bytes of the teacher's weights are here; total is 0 where the server does not say."""

    def features(self, done: int, total: int) -> None:
        """So many pictures have gone through the teacher."""

    def step(self, step: Step) -> None:
        """One training step is done."""


@dataclass(frozen=True)
class LearnResult:
    """What `edge-inspect train` tells at the end."""

    folder: Path
    trained_on: int
    held_out: int
    best_step: int


def learn(
    data: Path, out: Path, watcher: Watcher, detector_config: DetectorConfig, config: TrainConfig,
    teacher_weights: Path | None = None, options: ViewOptions = ViewOptions(),  # noqa: B008
) -> LearnResult:  # fmt: skip
    """Train on the good pictures under `data` and write the model folder `out`.

    Resumes when a run with the same pictures and settings was interrupted. Raises DataError for pictures
    that cannot be used, InspectError for settings or weights that cannot.
    """
    _check_config(detector_config)
    dataset = open_dataset(data, mask=options.mask)
    train_paths, held_paths = split_held_out(dataset.train, dataset.validation, config.seed)
    sizes: Counter[tuple[int, int]] = Counter()
    view = make_view(min(train_paths + held_paths), detector_config.input_size, options)
    images = load_images([*train_paths, *held_paths], view, sizes)  # in one, to name all that do not fit
    whole, held_out = images[: len(train_paths)], images[len(train_paths) :]
    train = view.pieces(whole, MOST_TILES_LEARNT, config.seed)
    held = view.pieces(held_out, MOST_TILES_HELD_OUT, config.seed)
    watcher.say(_describe(len(train_paths), len(held_paths), sizes))
    if share := mask_share(view):
        watcher.say(f"mask: {share}")
    if dataset.note:
        watcher.say(f"note: {dataset.note}")
    if view.tiling is not None:
        watcher.say(
            f"{len(train)} tiles of {len(view.tiling.corners)} a picture to learn from, {len(held)} held out"
        )
    for found in advice(thumbnails(images, view.looked_at)):
        see = shlex.join(["edge-inspect", "check-data", str(data)])
        watcher.say(f"warning: {found.what}. {found.next_step} See: {see}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(config.seed)
    teacher = load_teacher(detector_config.teacher, teacher_weights, watcher.download).to(device)
    detector = Detector(teacher, detector_config).to(device)
    out.mkdir(parents=True, exist_ok=True)

    shown = with_variants(train, config.variants, config.seed, config.flips)
    if view.looked_at is not None:  # a variation may not move what the station never sees
        variations = shown.reshape(-1, *train.shape)  # (1 + variants, N, H, W, 3)
        variations[:, (train == IGNORED).all(axis=3)] = IGNORED
    pictures = np.concatenate([shown, held])
    cache = FeatureCache(out / CACHE, teacher, pictures, device, watcher.features)
    rows, held_rows = range(len(shown)), range(len(shown), len(pictures))
    set_channel_statistics(detector, cache, rows)
    checkpoint = out / CHECKPOINT_FILE
    trainer = Trainer(detector, cache, rows, held_rows, config, checkpoint, device)
    if trainer.resume():
        watcher.say(f"resumed at step {trainer.state.step} of {config.steps}")
    elif checkpoint.exists():
        watcher.say("begun anew: the interrupted run here had other pictures or settings, or is broken")
    best = trainer.run(watcher.step)
    normalisation = fit_constants(detector, cache, len(train), rows, held_rows, held, device)

    about = About(
        name=out.resolve().name, trained_on=len(train_paths), held_out=len(held_paths),
        digest=dataset_digest([*train_paths, *held_paths]), roi=view.roi, normalisation=normalisation,
        training=asdict(config), view=view.to_json(), picture=next(iter(sizes)) if len(sizes) == 1 else None,
        health=health_entries([*train_paths, *held_paths], view),
    )  # fmt: skip
    save_model(out, detector.cpu(), about, held_out, [content_digest(path) for path in train_paths])
    _remove_checkpoint(out)
    cache.delete()
    return LearnResult(out, len(train_paths), len(held_paths), best)


def set_channel_statistics(detector: Detector, cache: FeatureCache, rows: Rows) -> None:
    """Standardisation of the teacher's channels over these cached pictures."""
    for k, (mean, std) in enumerate(cache.channel_statistics(rows)):
        getattr(detector, f"mean{k}").copy_(mean)
        getattr(detector, f"std{k}").copy_(std)


def _check_config(config: DetectorConfig) -> None:
    for value, known, option in (
        (config.teacher, TEACHERS, "--teacher"),
        (config.local_student, LOCAL_STUDENTS, "--local-student"),
        (config.measure, MEASURES, "--measure"),
        (config.bottleneck, BOTTLENECKS, "--bottleneck"),
        (config.normalisation, NORMALISATIONS, "--normalisation"),
        (config.fusion, FUSIONS, "--fusion"),
    ):
        if value not in known:
            raise InspectError(f"{value!r} is not known", option, f"Known: {', '.join(known)}.")
    if not 1 <= config.context_grid <= MAX_CONTEXT_GRID:
        what = f"{config.context_grid} x {config.context_grid} context places"
        raise InspectError(what, "--context-grid", f"Take 1 to {MAX_CONTEXT_GRID}.")
    _check_size(config.input_size)


def _check_size(size: tuple[int, int]) -> None:
    if any(side % 32 or side < 64 for side in size):  # the fused map has stride 32
        what = f"input size {size[0]}x{size[1]} is not made of multiples of 32 from 64 on"
        raise InspectError(what, "--size", "Take 256, 320, 384 or 512.")


def _describe(train: int, held: int, sizes: Counter[tuple[int, int]]) -> str:
    text = f"{train} good pictures to learn from, {held} held out for the limits"
    if len(sizes) > 1:
        text += f"; {len(sizes)} different picture sizes, all resized to one"
    return text


def remove_leftovers(out: Path) -> None:
    """Forget an interrupted run."""
    _remove_checkpoint(out)
    shutil.rmtree(out / CACHE, ignore_errors=True)


def _remove_checkpoint(out: Path) -> None:
    for path in out.glob(f"{CHECKPOINT_FILE}*"):  # also what a kill left of one that was being written
        path.unlink(missing_ok=True)
