"""What is each part of the score worth, and which shares of them? Of the models that quality.py trained.

    python benchmarks/quality.py DATA --work DIR       # trains them, where that is still to be done
    python benchmarks/parts.py DATA --work DIR [--sets a,b] [--seeds 0,1,2] [--save | --table]

May choose, since it sees no test picture: image AUROC of held-out good pictures against self-made anomalies
on them (benchmarks/anomalies.py), mean over the kinds, and how many of these the limits stop; for a set that
benchmarks/trays.py drew also of logical and structural anomalies drawn with another seed. Each model's parts
are kept in DIR as they come.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ablation_set import DRAWN, TRAYS, drawn_trays
from anomalies import KINDS, draw
from benchset import BenchSet, console, detector_of, train_ours
from jobs import Facts, Jobs, code_digest, errors_in_words
from quality import find_sets, numbers
from record import add_save, save_result, target_of
from rich.table import Table

from calibration.metrics import auroc_of
from calibration.thresholds import fit_thresholds
from distillation.detector import Detector
from distillation.model import load_model
from distillation.score import ALIKE, SHARES, ScoreFusion
from edge.errors import InspectError
from edge.frame import Pixels
from edge.picture.preprocess import resize

MOST, BATCH = 40, 8  # held-out pictures that are looked at; pictures of one run
JUDGING_CODE = ("benchmarks/parts.py", "benchmarks/ablation_set.py", "benchmarks/anomalies.py",
                "benchmarks/tray/*.py")  # fmt: skip

Floats = npt.NDArray[np.float64]
Parts = Mapping[str, Mapping[str, Floats]]  # kind of picture -> part -> (N,) deviations from a typical one
PartsOf = Callable[[BenchSet, int], Parts | None]  # of the model with a seed
Ways = Mapping[str, Mapping[str, float]]  # name -> share of each part
Results = Mapping[str, Mapping[str, Mapping[str, float]]]  # way -> set -> figures

# What is compared: the share of each part. Of the grid the best are shown, all are kept.
NAMED: dict[str, Mapping[str, float]] = {
    "today": SHARES,
    "alike": dict.fromkeys(SHARES, 1.0),
    "without pooled": SHARES | {"pooled": 0.0},
    "map, local, words": {"map": 1.0, "local": 1.0, "words": 1.0},
    **{f"{name} alone": {name: 1.0} for name in SHARES},
}
GRID = {"map": (0.5, 1.0, 2.0), "local": (1.0,), "words": (1.0, 2.0, 4.0), "deep": (0.25, 0.5, 1.0, 2.0),
        "pooled": (0.25, 0.5, 1.0)}  # fmt: skip
_RASTER = [dict(zip(GRID, shares, strict=True)) for shares in product(*GRID.values())]
WAYS = NAMED | {", ".join(f"{name} {share:g}" for name, share in of.items()): of for of in _RASTER}
SHOWN = 12


def parts_of(bench: BenchSet, seed: int) -> Parts | None:
    """Of one model; None where it is not trained, or its parts are not there and may not be made."""
    done = replace(bench, jobs=Jobs(bench.jobs.folder, done_only=True))
    if (trained := train_ours(done, seed)) is None:
        return None

    def work() -> Facts:
        detector, _, held = load_model(trained[0])
        return {kind: of_pictures(detector, images) for kind, images in pictures(bench, held).items()}

    rests_on = bench.rests_on(seed) | {"parts": code_digest(*JUDGING_CODE)}
    found = bench.jobs.once(f"results/{bench.name}-parts-seed{seed}", rests_on, work)
    return found and {kind: {p: np.array(x) for p, x in of.items()} for kind, of in found.items()}


def pictures(bench: BenchSet, held: Pixels) -> dict[str, Pixels]:
    """Good ones, each kind of anomaly, trays; all went through DRAWN, so that none is sharper."""
    order = np.random.default_rng(0).permutation(len(held))[:MOST]
    good, size = np.stack([resize(image, DRAWN) for image in held[np.sort(order)]]), bench.detector.input_size
    copies = -(-MOST // len(good))
    shown = {"good": good} | {kind: draw(good, kind, copies, 0) for kind in KINDS}
    shown |= drawn_trays(bench.root, bench.jobs.folder)
    return {kind: np.stack([resize(image, size) for image in images]) for kind, images in shown.items()}


@torch.inference_mode()
def of_pictures(detector: Detector, images: Pixels) -> dict[str, list[float]]:
    """Each part of the score, in deviations from a typical good picture."""
    score, seen = detector.score, list[torch.Tensor]()
    hook = score.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for start in range(0, len(images), BATCH):
        detector(torch.from_numpy(images[start : start + BATCH]))
    hook.remove()
    above = (torch.cat(seen) * score.weights - score.centres) / score.spread  # (N, parts)
    return {name: column.tolist() for name, column in zip(score.names, above.T, strict=True)}


def scores_of(parts: Mapping[str, Floats], shares: Mapping[str, float]) -> Floats:
    """(N,), by the detector's own fusion with these shares."""
    fusion = ScoreFusion([*shares], ALIKE)  # any names; their shares follow
    fusion.weights.fill_(1.0)  # the parts are in deviations already
    fusion.shares.copy_(torch.tensor([*shares.values()]) / sum(shares.values()))
    stacked = torch.tensor(np.stack([parts[name] for name in shares], axis=1), dtype=torch.float32)
    return fusion(stacked).double().numpy()


def figures(parts: Parts, shares: Mapping[str, float]) -> dict[str, float]:
    """AUROC, 0..1: "made" of self-made anomalies, and of trays "logical" and "structural"; "stopped": share
    of the self-made ones at or above the limit that these good pictures set."""
    scores = {kind: scores_of(of, shares) for kind, of in parts.items()}
    limit = fit_thresholds(scores["good"]).review
    found = {"made": float(np.mean([auroc_of(scores["good"], scores[kind]) for kind in KINDS])),
             "stopped": float(np.mean([(scores[kind] >= limit).mean() for kind in KINDS]))}  # fmt: skip
    good, *anomalous = TRAYS
    return found | {kind: auroc_of(scores[good], scores[kind]) for kind in anomalous if kind in scores}


def compare(sets: list[BenchSet], seeds: list[int], parts_of: PartsOf, ways: Ways) -> dict[str, Any]:
    """Way -> set -> figures, means over the seeds, and how many models they are of."""
    found = {bench.name: [p for s in seeds if (p := parts_of(bench, s)) is not None] for bench in sets}
    if not all(found.values()):
        missing = ", ".join(name for name, of in found.items() if not of)
        hint = "Run benchmarks/quality.py with it first."
        raise InspectError(f"no trained models: {missing}", "--work", hint)
    return {
        way: {name: mean_figures(of, shares) for name, of in found.items()} for way, shares in ways.items()
    }


def mean_figures(models: list[Parts], shares: Mapping[str, float]) -> dict[str, float]:
    """Means of `figures`, and how many models they are of."""
    rows = [figures(parts, shares) for parts in models]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"models": len(rows)}


def mean_over_sets(of_sets: Mapping[str, Mapping[str, float]]) -> float:
    """AUROC, of each set one figure: the trays' three columns count as one."""
    columns = ("made", *TRAYS[1:])
    return float(np.mean([np.mean([of[k] for k in columns if k in of]) for of in of_sets.values()]))


def best_of(results: Results) -> list[str]:
    """What has a name, and the best of the grid."""
    grid = sorted(set(results) - set(NAMED), key=lambda way: -mean_over_sets(results[way]))
    return [*NAMED, *grid[:SHOWN]]


def table(results: Results, ways: Iterable[str]) -> Table:
    """For people, in per cent, the best mean first."""
    kinds = ("made", *TRAYS[1:], "stopped")
    first = next(iter(results.values()))
    columns = [(name, kind) for name, of in first.items() for kind in kinds if kind in of]
    means = "AUROC, mean", "stopped, mean"
    shown = Table("shares", *(f"{name}: {kind}" for name, kind in columns), *means)
    for way in sorted(ways, key=lambda way: -mean_over_sets(results[way])):
        cells = [f"{results[way][name][kind]:.1%}" for name, kind in columns]
        stopped = float(np.mean([of["stopped"] for of in results[way].values()]))
        shown.add_row(way, *cells, f"{mean_over_sets(results[way]):.2%}", f"{stopped:.1%}")
    return shown


def choose(about: str, name: str, parts_of: PartsOf, ways: Ways) -> dict[str, Any]:
    """The command line of a bench that compares ways of scoring -> its results, saved as `name`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with one data set per subfolder")
    parser.add_argument("--work", type=Path, required=True, help="quality.py's folder of models and results")
    parser.add_argument("--sets", default="", help="names with commas; default: all")
    parser.add_argument("--seeds", default="0,1,2", help="of quality.py's trainings")
    parser.add_argument("--detector", default="", help="quality.py's, where it was given one")
    add_save(parser)
    arguments = parser.parse_args()
    with errors_in_words():
        jobs = Jobs(arguments.work, done_only=arguments.table)
        detector, roots = detector_of(arguments.detector), find_sets(arguments.data, arguments.sets)
        sets = [BenchSet(root, jobs, detector=detector) for root in roots]
        results = compare(sets, numbers(arguments.seeds), parts_of, ways)
    if (target := target_of(arguments)) is not None:
        shares = {way: dict(of) for way, of in ways.items()}
        seeds = {"seeds": numbers(arguments.seeds), "detector": asdict(detector)}
        save_result(name, {**seeds, "shares": shares, "auroc": results}, target)
    return results


def main() -> None:
    results = choose(__doc__ or "", "parts", parts_of, WAYS)
    console.print(table(results, best_of(results)))


if __name__ == "__main__":
    main()
