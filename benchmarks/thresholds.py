"""Do the printed bounds on false rejects hold?

    python benchmarks/thresholds.py DATA --work DIR [--sets a,b] [--splits 20] [--retrain N] [--save]

Writes thresholds.json to DIR, with `--save` to benchmarks/results.

One trained model for each set (that of benchmarks/quality.py with seed 0, where DIR has it). The scores of
its held-out good pictures and of test/good are pooled and divided anew, seeded, into two parts of the same
sizes; limits are fitted on one, rejects counted on the other.

A split counts as within when the count x of m pictures does not contradict the printed bounds [low, high]:

    P(X >= x) >= 2.5 % at a true rate of high, and P(X <= x) >= 2.5 % at one of low,    X ~ Binomial(m, rate)

which is to say that the exact (Clopper-Pearson) 95 % interval of the observed rate meets the printed one.
The strict count allows nothing for counting: floor(low m) <= x <= ceil(high m), as the bounds are printed.

What it shows: that the step from n scores to a limit is honest for good parts of this set. What it does not:
the splits overlap, so 20 of them are not 20 independent trials; the training pictures and the model are
fixed; the held-out pictures also ended the training, so the pool is not quite of one kind; new batches and
lamps are in no split. `--retrain N` divides all good pictures anew N times, training ones too, and trains
each time: the test that nothing of this fixes but the batch, at N trainings a set.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from benchset import BenchSet, built, console, train_ours
from jobs import Facts, Jobs, code_digest, errors_in_words, linked_set
from quality import find_sets
from record import add_save, save_result, target_of
from rich.table import Table

from calibration.dataset import load_images
from calibration.thresholds import COVERAGE, FALSE_REJECT_RATE, Thresholds, fit_thresholds
from distillation.train import TrainConfig
from edge.backends.ort import OnnxRuntimeBackend
from edge.picture.view import view_of

WANTED = 0.9  # share of splits within: 18 of 20
TAIL = (1 - COVERAGE) / 2  # each bound's own chance to be wrong, and the count's


def at_most(count: int, n: int, rate: float) -> float:
    """P(X <= count) of X ~ Binomial(n, rate)."""
    return math.fsum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(count + 1))


def is_within(count: int, n: int, low: float, high: float) -> bool:
    """Whether `count` rejects of `n` good parts do not contradict the bounds; see above."""
    at_least = 1 - at_most(count - 1, n, high)
    return at_least >= TAIL and at_most(count, n, low) >= TAIL


def is_strictly_within(count: int, n: int, low: float, high: float) -> bool:
    """Whether `count` lies between the bounds, rounded outwards to whole parts as they are printed."""
    return math.floor(low * n) <= count <= math.ceil(high * n)


def try_split(scores: np.ndarray, held: int, seed: int) -> dict[str, Any]:  # type: ignore[type-arg]
    """Limits from `held` of the scores (n,), rejects counted on the others."""
    order = np.random.default_rng(seed).permutation(len(scores))
    return judged(fit_thresholds(scores[order[:held]]), scores[order[held:]])


def judged(limits: Thresholds, scores: np.ndarray) -> dict[str, Any]:  # type: ignore[type-arg]
    """What was promised and what came."""
    count, n = int((scores >= limits.review).sum()), len(scores)
    return {
        "rejects": count, "of": n, "expected": limits.expected_rate, "low": limits.low, "high": limits.high,
        "within": is_within(count, n, limits.low, limits.high),
        "strictly": is_strictly_within(count, n, limits.low, limits.high),
    }  # fmt: skip


def good_scores(bench: BenchSet, seed: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Scores of (held-out good pictures, test/good) through the engine of one trained model."""
    trained = train_ours(bench, seed)
    assert trained is not None
    engine, recipe = built(trained[0])
    backend = OnnxRuntimeBackend(engine, recipe.input_size)
    test = [image.path for image in bench.dataset.test if image.kind == "good"]
    parts = (bench.split(seed)[1], test)
    held, fresh = (
        np.array([backend.infer(image)[1] for image in load_images(part, view_of(recipe))]) for part in parts
    )
    return held, fresh


def fixed_model(bench: BenchSet, splits: int) -> dict[str, Any]:
    """All splits of one model's scores."""

    def work() -> Facts:
        held, fresh = good_scores(bench, seed=0)
        pool = np.concatenate([held, fresh])
        return {
            "as_trained": judged(fit_thresholds(held), fresh),
            "splits": [try_split(pool, len(held), seed) for seed in range(splits)],
        }

    rests_on = bench.rests_on(0) | code() | {"splits": splits}
    return bench.jobs.once(f"results/{bench.name}-thresholds", rests_on, work) or {}


def retrained(bench: BenchSet, seed: int) -> dict[str, Any]:
    """All good pictures divided anew, in the same sizes; a model trained and judged on its own parts."""
    good = [image.path for image in bench.dataset.test if image.kind == "good"]
    pool = [*bench.dataset.train, *bench.dataset.validation, *good]
    order = [pool[i] for i in np.random.default_rng(seed).permutation(len(pool))]
    train, held = (len(part) for part in bench.split(seed))
    parts = {"train/good": order[:train], "validation/good": order[train : train + held],
             "test/good": order[train + held :]}  # fmt: skip
    folder = linked_set(bench.jobs.folder / "sets" / f"{bench.name}-again{seed}", parts)
    again = BenchSet(folder, bench.jobs, bench.steps, bench.detector)

    def work() -> Facts:
        held_scores, fresh = good_scores(again, seed)
        return judged(fit_thresholds(held_scores), fresh)

    return bench.jobs.once(f"results/{again.name}-thresholds", again.rests_on(seed) | code(), work) or {}


def code() -> Facts:
    """What the counts rest on besides the model."""
    files = ("calibration/thresholds.py", "benchmarks/thresholds.py", "build_engines/build.py")
    return {"thresholds": code_digest(*files), "rate": FALSE_REJECT_RATE}


def tally(splits: list[dict[str, Any]]) -> dict[str, Any]:
    """How many splits were within, how many strictly, whether enough; rejects of all, expected and found."""
    within = sum(split["within"] for split in splits)
    return {
        "within": within, "strictly": sum(split["strictly"] for split in splits), "of": len(splits),
        "holds": within >= WANTED * len(splits),
        "rejects": sum(split["rejects"] for split in splits),
        "expected": round(sum(split["expected"] * split["of"] for split in splits), 2),
        "judged": sum(split["of"] for split in splits),
    }  # fmt: skip


def run_set(bench: BenchSet, splits: int, retrain: int) -> dict[str, Any]:
    """Everything about one set."""
    result = fixed_model(bench, splits)
    found = {"as_trained": result["as_trained"], "tally": tally(result["splits"]), "splits": result["splits"]}
    if retrain:
        again = [retrained(bench, seed) for seed in range(retrain)]
        found |= {"retrained_tally": tally(again), "retrained": again}
    return found


def table_of(results: dict[str, Any]) -> Table:
    """One row per set and kind of split."""
    table = Table("set", "splits", "within", "strictly", "rejects found (expected)", "holds")
    for name, result in results.items():
        for key, kind in (("tally", "one model"), ("retrained_tally", "trained anew")):
            if (t := result.get(key)) is None:
                continue
            found = f"{t['rejects']} ({t['expected']:.1f}) of {t['judged']:,}"
            shares = (f"{t['within']} of {t['of']}", f"{t['strictly']} of {t['of']}")
            table.add_row(name, kind, *shares, found, "yes" if t["holds"] else "no")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with one data set per subfolder")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--sets", default="", help="names with commas; default: all")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument(
        "--retrain", type=int, default=0, metavar="N", help="also N splits with a training each"
    )
    parser.add_argument("--steps", type=int, default=TrainConfig.steps, help="for trying; is recorded")
    add_save(parser, table=False)
    arguments = parser.parse_args()
    with errors_in_words():
        jobs = Jobs(arguments.work)
        roots = find_sets(arguments.data, arguments.sets)
        sets = [BenchSet(root, jobs, arguments.steps) for root in roots]
        results = {bench.name: run_set(bench, arguments.splits, arguments.retrain) for bench in sets}
    if (target := target_of(arguments)) is not None:
        save_result("thresholds", {"steps": arguments.steps, "tail": TAIL, "sets": results}, target)
    console.print(table_of(results))


if __name__ == "__main__":
    main()
