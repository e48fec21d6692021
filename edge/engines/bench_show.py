"""`edge-inspect bench`: tables and a last sentence for a person, or JSON."""

import json
import shlex
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge.engines.bench import STAGES, Measured, measure, pictures_for
from edge.engines.choice import at_hand, choose, engines_of
from edge.engines.engine import enough_ms
from edge.engines.trial import Candidate
from edge.recipe import find_engine, load_pair

QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
MISSED = 1  # exit code


def bench_and_show(path: Path, backend: str, camera: str, count: int, as_json: bool, console: Console) -> int:
    """Measure and print; 1 where nothing measured meets its deadline, else 0. Raises InspectError."""
    candidates, note = candidates_for(path, backend)
    if note:
        console.print(f"[bold yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    pictures = pictures_for(load_pair(candidates[0].engine)[1], camera, count)
    results = []
    for candidate in candidates:
        with console.status(f"{candidate}: {count} pictures"):
            results.append(measure(candidate, pictures, count))
    height, width = pictures[0].shape[:2]
    if as_json:
        print(json.dumps({"picture": [height, width], "count": count, "results": [*map(to_json, results)]}))
    else:
        console.print(f"{count} {'camera' if camera else 'drawn'} pictures of {width}x{height}; times in ms")
        console.print(Columns([table_of(result) for result in results]))
        for result in results:
            console.print(judgement(result), highlight=False, soft_wrap=True, markup=False)
    return 0 if any(result.meets_deadline for result in results) else MISSED


def candidates_for(path: Path, backend: str) -> tuple[list[Candidate], str]:
    """What to measure, all at hand or what `run` would take, and what `run` says. Raises RecipeError."""
    choice = choose(path, "auto" if backend == "all" else backend)
    if backend == "all":
        return at_hand(engines_of(path)[0]), choice.note
    return [Candidate(find_engine(choice.engine), choice.backend)], choice.note


def table_of(measured: Measured) -> Table:
    """Stages down, quantiles across; two tables fit beside each other in a terminal of 80 columns."""
    title = f"{measured.candidate.engine.name}, {measured.backend}"
    table = Table(title=title, border_style="dim", pad_edge=False)
    table.add_column("stage")
    for name in (*QUANTILES, "first"):
        table.add_column(name, justify="right")
    for stage in STAGES:
        table.add_row(stage, *_cells(measured, stage))
    table.add_section()
    table.add_row("whole", *_cells(measured, "whole"), style="bold")
    table.add_row("opening", "", "", "", f"{measured.opening:.0f}")
    return table


def _cells(measured: Measured, stage: str) -> list[str]:
    values = [*(measured.quantile(stage, share) for share in QUANTILES.values()), measured.first[stage]]
    return [f"{value:.2f}" for value in values]


def judgement(measured: Measured) -> str:
    """Does it meet the deadline, with how much room, and what to do if not."""
    slowest, deadline = measured.slowest, measured.recipe.deadline_ms
    took = f"{measured.candidate}: the slowest picture took {slowest:.1f} ms"
    if 2 * slowest <= deadline:
        return f"{took}, the deadline of {deadline:g} ms is met with {deadline - slowest:.1f} ms to spare"
    state = f"the deadline of {deadline:g} ms is {'met, but tight' if measured.meets_deadline else 'missed'}"
    return f"{took}, {state}. {advice(measured)}"


def advice(measured: Measured) -> str:
    """What helps, by what takes the time."""
    words = ["recipe", str(measured.candidate.engine), "--deadline-ms", str(enough_ms(measured.slowest))]
    time = f"Give it time: {shlex.join(['edge-inspect', *words])}"
    before = sum(measured.quantile(stage, 0.5) for stage in ("align", "crop", "resize"))
    if before > measured.quantile("inference", 0.5):
        return f"Most of it goes before the engine: set the camera to smaller pictures. {time}"
    return f"Most of it is inference: look for a faster one with --backend all. {time}"


def to_json(measured: Measured) -> dict[str, Any]:
    """One result; milliseconds."""
    stages = (*STAGES, "whole")
    warm = {s: {q: round(measured.quantile(s, share), 4) for q, share in QUANTILES.items()} for s in stages}
    return {
        "engine": measured.candidate.engine.name, "precision": measured.precision,
        "recipe": measured.recipe.identity, "backend": measured.backend,
        "opening_ms": round(measured.opening, 1),
        "first_ms": {stage: round(measured.first[stage], 4) for stage in stages}, "warm_ms": warm,
        "deadline_ms": measured.recipe.deadline_ms, "meets_deadline": measured.meets_deadline,
    }  # fmt: skip
