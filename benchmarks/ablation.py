"""What does each part of the detector bring? An ablation that may choose, since it sees no test picture.

    python benchmarks/ablation.py DATA --work DIR [--sets a,b] [--rows name,name] [--steps 300] [--most 100]
        [--seed 0] [--save | --table]

Good pictures of each set are divided in three: learnt from, fitted with, and judged. The figure is the image
AUROC of the judged ones against self-made anomalies on them (benchmarks/anomalies.py), mean over the kinds;
for a set that benchmarks/trays.py drew, also of logical and structural anomalies drawn with another seed.
Few pictures and short trainings: differences count, not heights. Rows that differ only in what is fitted
after training share one training. Each result is kept in DIR as it comes: a run that was killed goes on
where it stopped, `--table` shows what is there. Writes ablation.json and ablation.md after every row to DIR,
with `--save` to benchmarks/results.
"""

import argparse
from pathlib import Path
from typing import Any

from ablation_judging import judge
from ablation_rows import BY_NAME, ROWS, Row
from ablation_set import AblationSet
from ablation_table import markdown, rich_table
from benchset import console
from jobs import Jobs, errors_in_words
from quality import find_sets
from record import add_save, save_result, target_of

from edge.errors import InspectError

STEPS, MOST = 300, 100

Results = dict[str, dict[str, dict[str, Any]]]  # row -> set -> figures


def run(sets: list[AblationSet], rows: list[Row], steps: int, target: Path | None) -> Results:
    """Everything; rows outside, so that a run that was cut short has all sets for its rows. Without `target`
    nothing is written."""
    results: Results = {}
    for row in rows:
        for bench in sets:
            if (found := judge(bench, row, steps)) is not None:
                results.setdefault(row.name, {})[bench.name] = found
                console.print(f"{row.name}: {bench.name} {found['image_auroc']:.4f}", highlight=False)
        if target is not None:
            write(results, {"steps": steps, "most": sets[0].most, "seed": sets[0].seed}, target)
    return results


def write(results: Results, settings: dict[str, int], target: Path) -> None:
    """What is there so far, for programs and for people."""
    save_result("ablation", {**settings, "rows": results}, target)
    (target / "ablation.md").write_text(markdown(results))


def find_rows(names: str) -> list[Row]:
    """The rows named, the default before them; all without names. Raises InspectError for an unknown one."""
    wanted = [name.strip() for name in names.split(",")] if names else [row.name for row in ROWS]
    if unknown := [name for name in wanted if name not in BY_NAME]:
        raise InspectError(f"no such row: {', '.join(unknown)}", "--rows", f"Known: {', '.join(BY_NAME)}.")
    named = {BY_NAME[name].name: BY_NAME[name] for name in wanted}
    return list(({ROWS[0].name: ROWS[0]} | named).values())


def arguments_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with one data set per subfolder")
    parser.add_argument("--work", type=Path, required=True, help="folder for features, students and results")
    parser.add_argument("--sets", default="", help="names with commas; default: all")
    parser.add_argument("--rows", default="", help="names with commas; default: all")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--most", type=int, default=MOST, help="good pictures to learn from")
    parser.add_argument("--seed", type=int, default=0, help="of division, anomalies, variations and training")
    add_save(parser)
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of()
    with errors_in_words():
        arguments.work.mkdir(parents=True, exist_ok=True)
        jobs = Jobs(arguments.work, done_only=arguments.table)
        roots = find_sets(arguments.data, arguments.sets)
        sets = [AblationSet(root, jobs, arguments.most, arguments.seed) for root in roots]
        results = run(sets, find_rows(arguments.rows), arguments.steps, target_of(arguments))
    console.print(rich_table(results))


if __name__ == "__main__":
    main()
