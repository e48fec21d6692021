"""How good is the detector on real sets, from one fixed configuration?

    python benchmarks/quality.py DATA --work DIR [--sets a,b] [--seed 0]

Trains, builds and evaluates every data set under DATA exactly as the commands do, with the defaults; test
pictures are looked at once, at the end. Writes benchmarks/results/quality.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from record import save_result
from rich.console import Console
from rich.table import Table

from build_engines.build import build_engines
from calibration.dataset import open_dataset
from calibration.evaluate import evaluate
from calibration.report import write_report
from calibration.thresholds import FALSE_REJECT_RATE
from distillation.detector import DetectorConfig
from distillation.learn import learn
from distillation.progress import ProgressBars
from distillation.train import TrainConfig
from edge.backends import open_backend
from edge.recipe import load_pair

console = Console(stderr=True)


def run_set(data: Path, work: Path, seed: int) -> dict[str, Any]:
    """Train, build, evaluate one set; minutes and figures."""
    folder = work / data.name
    begun = time.monotonic()
    with ProgressBars(console) as bars:
        learned = learn(data, folder, bars, DetectorConfig(), TrainConfig(seed=seed))
    minutes = (time.monotonic() - begun) / 60
    (built,) = build_engines(folder, FALSE_REJECT_RATE, int8=False, say=lambda text: None)
    engine, recipe, _ = load_pair(folder)
    result = evaluate(open_backend(engine, recipe), recipe, open_dataset(data))
    write_report(result, folder / "report.html")
    return {
        "trained_on": learned.trained_on, "held_out": learned.held_out, "best_step": learned.best_step,
        "training_minutes": round(minutes, 2), "export": built.agreement,
        "expected_false_rejects": recipe.expected_false_rejects, **json.loads(result.to_json()),
    }  # fmt: skip


def table_of(results: dict[str, Any]) -> Table:
    """One row per set."""
    table = Table("set", "image AUROC", "per type", "pixel", "AU-PRO", "false rejects", "minutes")
    for name, r in results.items():
        types = ", ".join(f"{kind} {auroc:.3f}" for kind, auroc in r["per_type"].items())
        pixel = [f"{r[key]:.3f}" if r[key] is not None else "-" for key in ("pixel_auroc", "au_pro")]
        rejects = f"{r['false_reject_rate']:.3f} of {r['n_good']}"
        table.add_row(name, f"{r['image_auroc']:.4f}", types, *pixel, rejects, f"{r['training_minutes']:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with one data set per subfolder")
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained models")
    parser.add_argument("--sets", default="", help="names with commas; default: all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    root = arguments.data
    names = arguments.sets.split(",") if arguments.sets else sorted(p.name for p in root.iterdir())
    sets = [root / name for name in names if (root / name).is_dir()]
    results = {data.name: run_set(data, arguments.work, arguments.seed) for data in sets}
    save_result("quality", {"seed": arguments.seed, "sets": results})
    console.print(table_of(results))


if __name__ == "__main__":
    main()
