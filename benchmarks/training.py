"""How many pictures a second does training learn from, and what does the loop cost around the networks?

    python benchmarks/training.py [--steps 60]

One training step with everything (cached features from disk, standardisation, losses, optimiser) against the
floor: forward and backward of both students alone on maps in memory, in turn. The teacher's rate is told too.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from record import quantiles_ms, save_result
from rich.console import Console

from distillation.detector import Detector, DetectorConfig
from distillation.features import FeatureCache
from distillation.learn import set_channel_statistics
from distillation.train import TrainConfig, Trainer
from distillation.weights import load_teacher
from edge.cameras.parts import render_part
from edge.picture.preprocess import preprocess

PICTURES = 64


def floor_step(detector: Detector, maps: list[torch.Tensor]) -> float:
    """Seconds of forward and backward of both students, without loss terms, loading or optimiser."""
    begun = time.perf_counter()
    outputs = [*detector.local(maps), *detector.globl(maps)]
    sum(y.square().mean() for y in outputs).backward()  # type: ignore[union-attr]
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    config, training = DetectorConfig(), TrainConfig()
    images = np.stack([preprocess(render_part(1, i), config.input_size) for i in range(PICTURES)])
    detector = Detector(load_teacher(config.teacher), config)
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        cache = FeatureCache(Path(scratch) / "cache", detector.teacher, images, "cpu", lambda done, n: None)
        teacher_rate = PICTURES / (time.perf_counter() - begun)
        set_channel_statistics(detector, cache, range(PICTURES))
        rows = range(PICTURES)
        trainer = Trainer(detector, cache, rows, rows[:8], training, Path(scratch) / "checkpoint.pt")
        maps = detector.standardise(cache[list(range(training.batch))])
        whole, floor = [], []
        for i in range(arguments.steps + 5):
            begun = time.perf_counter()
            trainer.train_step()
            step = time.perf_counter() - begun
            bare = floor_step(detector, maps)
            if i >= 5:
                whole.append(step)
                floor.append(bare)
    figures = {
        "batch": training.batch,
        "step_ms": quantiles_ms(whole),
        "floor_ms": quantiles_ms(floor),
        "ratio_median": round(float(np.median(whole) / np.median(floor)), 3),
        "students_images_per_s": round(training.batch / float(np.median(whole)), 1),
        "teacher_images_per_s": round(teacher_rate, 1),
    }
    save_result("training", figures)
    Console(stderr=True).print(figures)


if __name__ == "__main__":
    main()
