"""How good is the detector on real sets, from one fixed configuration, and beside known methods?

    python benchmarks/quality.py DATA --work DIR [--sets a,b] [--seeds 0,1,2] [--baseline-seeds 0]
        [--no-baselines] [--procedural] [--save | --table]

Trains, builds and evaluates every data set under DATA exactly as the commands do, with the defaults, and four
baselines on the same teacher (benchmarks/baselines.py); test pictures are looked at in the end and choose
nothing. Each result is kept in DIR/results as it comes: a run that was killed goes on where it stopped,
`--table` shows what is there. Writes quality.json and quality.md to DIR, with `--save` to benchmarks/results.
"""

import argparse
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import judging
from baselines import BASELINES
from benchset import OURS, BenchSet, console, detector_of
from jobs import Facts, Jobs, code_digest, errors_in_words
from quality_table import markdown, rich_tables, summary
from record import add_save, quantiles_ms, save_result, target_of

from distillation.train import TrainConfig
from edge.errors import DataError
from edge.recipe import find_engine

TRAYS = Path(__file__).with_name("trays.py")
RACE_ROUNDS = 60  # three to warm up: of the 57 others the largest is told, no percentile

Figures = dict[str, dict[int, dict[str, Any]]]  # detector -> seed -> figures


def run_set(bench: BenchSet, seed: int, baselines: bool, figures: Figures) -> None:
    """Ours and the baselines on one set with one seed, added to `figures`."""
    ours = judging.judge_ours(bench, seed)
    found = {OURS: ours}
    for kind in BASELINES if baselines else ():
        console.print(f"{bench.name}, seed {seed}: {kind}", highlight=False)
        found[kind] = judging.judge_baseline(bench, kind, seed)
    for detector, result in found.items():
        if result is not None:
            figures.setdefault(detector, {})[seed] = result


def race_set(bench: BenchSet, seed: int, detectors: list[str]) -> dict[str, Any]:
    """Milliseconds a picture of all detectors in one run, and how many times ours each needs."""
    engines = {name: find_engine(judging.folder_of(bench, name, seed)) for name in detectors}

    def work() -> Facts:
        times = {name: quantiles_ms(t[3:]) for name, t in judging.race(bench, engines, RACE_ROUNDS).items()}
        ours = times[OURS]
        return {
            name: t | {"of_ours_median": round(t["median"] / ours["median"], 2)} for name, t in times.items()
        }

    rests_on = {"engines": {name: path.parent.name for name, path in engines.items()},
                "judging": code_digest("benchmarks/judging.py")}  # fmt: skip
    return bench.jobs.once(f"results/{bench.name}-race-seed{seed}", rests_on, work) or {}


def run(sets: list[BenchSet], seeds: list[int], baseline_seeds: list[int]) -> dict[str, Any]:
    """Everything; seeds outside, so that a run that was cut short has all sets with the first seed."""
    figures: dict[str, Figures] = {bench.name: {} for bench in sets}
    for seed in seeds:
        for bench in sets:
            run_set(bench, seed, seed in baseline_seeds, figures[bench.name])
    results = {}
    for bench in sets:
        bench.forget_features()
        of_set = {detector: by_seed for detector, by_seed in figures[bench.name].items() if by_seed}
        raced = [detector for detector, by_seed in of_set.items() if seeds[0] in by_seed]
        times = race_set(bench, seeds[0], raced) if OURS in raced else {}
        results[bench.name] = {
            detector: {"summary": summary(by_seed), "infer_ms": times.get(detector), "seeds": by_seed}
            for detector, by_seed in of_set.items()
        }
    return results


def find_sets(data: Path, names: str) -> list[Path]:
    """The data sets under `data`, or those named. Raises DataError where one is not there."""
    if not data.is_dir():
        raise DataError("the folder does not exist", str(data), "Give the folder that holds the data sets.")
    wanted = names.split(",") if names else sorted(p.name for p in data.iterdir() if p.is_dir())
    missing = [name for name in wanted if not (data / name).is_dir()]
    if missing or not wanted:
        raise DataError(f"no such data set: {', '.join(missing) or 'none'}", str(data), "Check --sets.")
    return [data / name for name in wanted]


def procedural_set(work: Path) -> Path:
    """The rendered set with logical and structural defects, made once. Raises DataError."""
    folder = work / "trays-apart"  # not those of earlier code
    if not TRAYS.is_file():
        raise DataError("the script that draws the set is not there", str(TRAYS), "Leave out --procedural.")
    if not (folder / "made").exists():
        subprocess.run([sys.executable, str(TRAYS), str(folder), "--good", "200", "--seed", "0"], check=True)
        (folder / "made").touch()
    return folder


def arguments_of() -> argparse.Namespace:
    """The command line; the other benches of quality take the same first options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with one data set per subfolder")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--sets", default="", help="names with commas; default: all")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of training and division")
    parser.add_argument(
        "--baseline-seeds", metavar="SEEDS", help="those of them with baselines; default: all"
    )
    parser.add_argument("--no-baselines", action="store_true", help="our detector only")
    parser.add_argument(
        "--procedural", action="store_true", help="also the set that benchmarks/trays.py draws"
    )
    parser.add_argument("--steps", type=int, default=TrainConfig.steps, help="for trying; is recorded")
    parser.add_argument(
        "--detector", default="", help="for trying, as measure=both,fusion=trusted; is recorded"
    )
    add_save(parser)
    parser.add_argument(
        "--peer-json", type=Path, help="figures of benchmarks/anomalib_peer.py to show beside"
    )
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """ "0,1,2" as numbers."""
    return [int(number) for number in text.split(",")]


def baseline_seeds_of(arguments: argparse.Namespace) -> list[int]:
    """The seeds with baselines."""
    return [] if arguments.no_baselines else numbers(arguments.baseline_seeds or arguments.seeds)


def main() -> None:
    arguments = arguments_of()
    with errors_in_words():
        arguments.work.mkdir(parents=True, exist_ok=True)
        roots = find_sets(arguments.data, arguments.sets)
        roots += [procedural_set(arguments.work)] if arguments.procedural else []
        jobs = Jobs(arguments.work, done_only=arguments.table)
        detector = detector_of(arguments.detector)
        sets = [BenchSet(root, jobs, arguments.steps, detector) for root in roots]
        seeds = numbers(arguments.seeds)
        results = run(sets, seeds, baseline_seeds_of(arguments))
    if (target := target_of(arguments)) is not None:
        tried = {"steps": arguments.steps, "detector": asdict(detector)}
        save_result("quality", {"seeds": seeds, **tried, "sets": results}, target)
        (target / "quality.md").write_text(markdown(results, arguments.peer_json))
    for table in rich_tables(results):
        console.print(table)


if __name__ == "__main__":
    main()
