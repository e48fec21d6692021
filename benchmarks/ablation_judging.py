"""One row of the ablation on one set: students trained or taken over, constants fitted, pictures judged."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_rows import Row
from ablation_set import AblationSet, Material
from jobs import Facts, digest_of
from torch import nn

from calibration.metrics import auroc_of
from distillation.detector import Detector
from distillation.fit import fit_constants
from distillation.learn import set_channel_statistics
from distillation.train import TrainConfig, Trainer

BATCH = 8


def judge(bench: AblationSet, row: Row, steps: int) -> dict[str, Any] | None:
    """The figures of one row on one set; None where they are not there and may not be made."""

    def work() -> Facts:
        begun = time.monotonic()
        with row.constants():
            material = bench.material(row.detector())
            detector = fitted(bench, row, steps, material)
            return figures(detector, material) | {"seconds": round(time.monotonic() - begun, 1)}

    label = row.name.replace(" ", "-").replace("%", "percent")
    return bench.jobs.once(
        f"results/{bench.name}-{label}-seed{bench.seed}", bench.rests_on() | row.facts(steps), work
    )


def fitted(bench: AblationSet, row: Row, steps: int, material: Material) -> Detector:
    """The row's detector, its students taken from an earlier row where they are the same."""
    torch.manual_seed(bench.seed)
    detector = Detector(material.teacher, row.detector())
    set_channel_statistics(detector, material.cache, material.learnt)
    students = nn.ModuleList([detector.local, detector.globl])
    facts = bench.rests_on() | row.learnt(steps)
    path = bench.jobs.folder / "students" / f"{bench.name}-{digest_of(facts)}.pt"
    if not path.exists():
        config = replace(row.training(steps), seed=bench.seed)
        train(detector, config, material, path)
    students.load_state_dict(torch.load(path, weights_only=True))
    torch.manual_seed(bench.seed)  # the same words for all rows that share their features
    learnt, held = material.learnt, material.fitted
    fit_constants(detector, material.cache, material.pictures, learnt, held, material.fitted_pixels)
    return detector


def train(detector: Detector, config: TrainConfig, material: Material, path: Path) -> None:
    """Train the students and keep their weights in `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".checkpoint")
    trainer = Trainer(detector, material.cache, material.learnt, material.fitted, config, checkpoint)
    trainer.resume()
    trainer.run(lambda step: None)
    temporary = path.with_suffix(".part")
    torch.save(trainer.students.state_dict(), temporary)
    temporary.replace(path)
    checkpoint.unlink(missing_ok=True)


def figures(detector: Detector, material: Material) -> dict[str, Any]:
    """Image AUROC of each kind of anomaly against its good pictures, and the mean of the self-made ones."""
    scores = {part: scores_of(detector, material, rows) for part, rows in material.judged.items()}
    made = {kind: auroc_of(scores["good"], scores[kind]) for kind in material.kinds}
    found = {"image_auroc": float(np.mean(list(made.values()))), "per_kind": made}
    for kind in ("logical", "structural") if "logical" in scores else ():
        found[kind] = auroc_of(scores["tray good"], scores[kind])
    return found


@torch.inference_mode()
def scores_of(detector: Detector, material: Material, rows: range) -> np.ndarray:  # type: ignore[type-arg]
    """Scores (N,) of cached pictures."""
    detector.teacher = nn.Identity()  # it has spoken: its maps come from the cache
    batches = [detector(material.cache[rows[i : i + BATCH]])[1] for i in range(0, len(rows), BATCH)]
    return torch.cat(batches).double().numpy()
