"""Does anything slip through when everything breaks? A simulated line with seeded faults.

    python benchmarks/soak.py [--parts 20000] [--seed 1] [--work DIR] [--json] [--save]

A real station in a process of its own (engine, camera thread, archive, Modbus server) is driven by a PLC
of another Modbus library. Every part is good or bad at random, its number and goodness lie in its
picture; faults come about every 150 parts: at the camera, the engine, the PLC, the broker, the disk, the
clock, the process. Counted are passes for bad or unseen parts, verdicts paired with the wrong part,
verdicts that the PLC took and the archive lost; memory and handles; the time from fault to safe state.
Exit code 1 where one of the first three is not 0.

With --work a run that was stopped goes on where it was. --save writes results/soak.json.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from record import RESULTS, save_result
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from soak_faults import Fault, plan
from soak_judge import Counts, Sample
from soak_line import BrokerProcess, Line

KEPT_EVERY = 1000  # parts
SAMPLED_EVERY = 250
MUST_BE_0 = ("false_pass", "mispaired", "lost_verdicts")


def soak(parts: int, seed: int, work: Path, console: Console, kinds: tuple[Fault, ...]) -> dict[str, Any]:
    """All parts, or the rest of them where `work` holds the first ones of the same run."""
    kept = work / f"soak-seed{seed}.json"
    counts, samples = _load(kept)
    first = counts.parts + 1
    columns = (
        TextColumn("parts"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console))
        task = progress.add_task("", total=parts, completed=counts.parts)
        line = Line(work, counts, samples)
        if first <= parts:
            stack.enter_context(line.running())
        for number in range(first, parts + 1):
            line.bring(number, plan(seed, number, kinds))
            if number % SAMPLED_EVERY == 0:
                line.take_sample()
                wrong = sum(getattr(counts, name) for name in MUST_BE_0)
                progress.update(
                    task, completed=number, description=f"{sum(counts.faults.values())} faults, {wrong} wrong"
                )
            if number % KEPT_EVERY == 0 and number < parts and line.settle():
                kept.write_text(
                    json.dumps({"counts": asdict(counts), "samples": [asdict(s) for s in samples]})
                )
    return counts.summary(samples)


def at_hand(console: Console) -> tuple[Fault, ...]:
    """All faults; without those of a broker where there is none."""
    if BrokerProcess.program:
        return tuple(Fault)
    console.print("mosquitto is not installed: the broker's faults are left out")
    return tuple(fault for fault in Fault if fault not in (Fault.BROKER_GONE, Fault.BROKER_FROZEN))


def _load(kept: Path) -> tuple[Counts, list[Sample]]:
    if not kept.exists():
        return Counts(), []
    content = json.loads(kept.read_text())
    return Counts(**content["counts"]), [Sample(**sample) for sample in content["samples"]]


def table_of(figures: dict[str, Any]) -> Table:
    """For people."""
    table = Table(
        "", "count", title=f"{figures['parts']:,} parts, {sum(figures['faults'].values()):,} faults"
    )
    rows = {
        "passes for bad or unseen parts": "false_pass", "verdicts with the wrong part": "mispaired",
        "verdicts taken and lost": "lost_verdicts", "passed": "passed", "failed": "failed",
        "no decision": "undecided", "rejected without a result": "without_result",
        "good parts stopped": "good_stopped", "bytes leaked per 1,000 parts": "leaked_bytes_per_1000",
        "handles grown": "handles_grown", "time to safe state, p99, ms": "safe_state_p99_ms",
    }  # fmt: skip
    for words, name in rows.items():
        bad = name in MUST_BE_0 and figures[name]
        table.add_row(words, f"[bold red]{figures[name]}[/]" if bad else str(figures[name]))
    for kind, times in figures["safe_state_ms"].items():
        table.add_row(f"  {kind}", f"{times['median']} (max {times['max']}) ms, {times['n']} times")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder to keep the run in; default: a temporary one")
    parser.add_argument("--faults", default="", help="only these, names with commas; default: all")
    parser.add_argument("--json", action="store_true", help="the counts as JSON on the standard output")
    parser.add_argument("--save", action="store_true", help="write results/soak.json")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    kinds = tuple(Fault[name] for name in arguments.faults.split(",") if name) or at_hand(console)
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        figures = soak(arguments.parts, arguments.seed, work, console, kinds)
    if arguments.save:
        save_result("soak", {"seed": arguments.seed, **figures}, RESULTS)
    if arguments.json:
        print(json.dumps({"seed": arguments.seed, **figures}))
    else:
        console.print(table_of(figures))
        for text in figures["details"]:
            console.print(text, style="red", highlight=False)
    sys.exit(any(figures[name] for name in MUST_BE_0))


if __name__ == "__main__":
    main()
