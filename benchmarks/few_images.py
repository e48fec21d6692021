"""How many good pictures does the detector need?

    python benchmarks/few_images.py DATA --work DIR [--sets a,b] [--counts 8,10,20,50,100,200] [--draws 3]
        [--size 256] [--save | --table]

Image AUROC and limits against the number of good pictures given to `edge-inspect train` (which holds a
seventh of them out itself), three seeded draws each, always judged on the whole test part. Draws are nested:
the 10 pictures of a draw are among its 20. Each result is kept in DIR as it comes, so a run that was killed
goes on. Writes few_images.json and few.svg to DIR, with `--save` to benchmarks/results and docs/images.
At 256 pixels a training takes a third of the time it takes at the default size.

The curve begins at 8, the fewest that `edge-inspect train` takes: with 5, of which 3 are left to learn from,
a trial on MVTec AD transistor (100 steps, two draws) had an image AUROC of 0.76, with 8 of 0.87. The whole is
sets x counts x draws trainings: at 256 pixels about an hour and a half for one set on one core.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import judging
import numpy as np
from benchset import BenchSet, console
from curves import log_curves
from jobs import Jobs, errors_in_words, linked_set
from quality import find_sets
from record import add_save, save_result, target_of
from rich.table import Table

from calibration.dataset import MIN_GOOD_IMAGES
from distillation.detector import DetectorConfig
from distillation.train import TrainConfig

COUNTS = (8, 10, 20, 50, 100, 200)
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "few.svg"


def drawn_set(bench: BenchSet, count: int, draw: int) -> BenchSet:
    """The set with only `count` of its good pictures to learn from, and its whole test part."""
    pool = [*bench.dataset.train, *bench.dataset.validation]
    order = sorted(np.random.default_rng(draw).permutation(len(pool))[:count])
    folder = bench.jobs.folder / "sets" / f"{bench.name}-{count}-{draw}"
    linked_set(folder, {"train/good": [pool[i] for i in order]})
    drawn = BenchSet(folder, bench.jobs, bench.steps, bench.detector)
    drawn.dataset = replace(bench.dataset, train=drawn.dataset.train, validation=[])
    return drawn


def curve(bench: BenchSet, counts: list[int], draws: int) -> dict[int, list[dict[str, Any]]]:
    """{pictures: figures of each draw}; counts that the set has not, or that are too few, are left out."""
    pool = len(bench.dataset.train) + len(bench.dataset.validation)
    found = {}
    for count in (c for c in counts if MIN_GOOD_IMAGES <= c <= pool):
        judged = [judging.judge_ours(drawn_set(bench, count, draw), seed=draw) for draw in range(draws)]
        found[count] = [figures for figures in judged if figures is not None]
    return {count: judged for count, judged in found.items() if judged}


def summary(by_count: dict[int, list[dict[str, Any]]]) -> dict[int, dict[str, Any]]:
    """What the curve and a person need of each count."""
    return {
        count: {
            "image_auroc": [round(run["image_auroc"], 4) for run in runs],
            "false_rejects": [run["false_rejects"] for run in runs],
            "n_good": runs[0]["n_good"],
            "expected": [run["expected_false_rejects"] for run in runs],
            "training_minutes": [run["training_minutes"] for run in runs],
        }
        for count, runs in by_count.items()
    }


def table_of(results: dict[str, dict[int, dict[str, Any]]]) -> Table:
    """One row per set and count."""
    table = Table("set", "good pictures", "image AUROC, mean", "draws", "good parts stopped")
    for name, by_count in results.items():
        for count, r in by_count.items():
            values = r["image_auroc"]
            counts = [str(count) for count in r["false_rejects"] if count is not None]
            stopped = f"{', '.join(counts)} of {r['n_good']}" if counts else "-"
            each = ", ".join(f"{value:.3f}" for value in values)
            table.add_row(name, str(count), f"{np.mean(values):.3f}", each, stopped)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with one data set per subfolder")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--sets", default="", help="names with commas; default: all")
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=TrainConfig.steps, help="for trying; is recorded")
    parser.add_argument("--size", type=int, default=DetectorConfig.input_size[0], help="pixels a side")
    add_save(parser)
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.counts.split(",")]
    detector = DetectorConfig(input_size=(arguments.size, arguments.size))
    with errors_in_words():
        jobs = Jobs(arguments.work, done_only=arguments.table)
        roots = find_sets(arguments.data, arguments.sets)
        sets = [BenchSet(root, jobs, arguments.steps, detector) for root in roots]
        results = {bench.name: summary(curve(bench, counts, arguments.draws)) for bench in sets}
    if (target := target_of(arguments)) is not None:
        save_result("few_images", {"size": arguments.size, "steps": arguments.steps, "sets": results}, target)
        lines = {name: {c: r["image_auroc"] for c, r in by.items()} for name, by in results.items()}
        picture = PICTURE if arguments.save else target / PICTURE.name
        picture.write_text(log_curves(lines, "good pictures to learn from", "image AUROC"))
    console.print(table_of(results))


if __name__ == "__main__":
    main()
