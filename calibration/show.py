"""`edge-inspect evaluate`: figures in the terminal or as JSON, pictures in report.html."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from calibration.dataset import open_dataset
from calibration.evaluate import Evaluation, evaluate
from calibration.layouts import folders_beside_good
from calibration.learnt import learnt_from
from calibration.report import write_report
from calibration.tradeoff import at_the_review_limit
from edge.backends import open_backend
from edge.errors import DataError
from edge.paths import check_file
from edge.picture.view import view_of
from edge.recipe import load_pair, stale_note


def evaluate_and_report(
    model: Path, pictures: Path, backend_name: str, report: Path | None, as_json: bool, console: Console
) -> Evaluation:
    """Run the test pictures through the engine, write the report, print the figures. Raises InspectError."""
    engine, recipe, _ = load_pair(model)
    if note := stale_note(engine):
        console.print(f"[bold yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    path = report or engine.with_name("report.html")
    check_file(path, "--report")
    dataset = open_dataset(pictures, minimum=0, view=view_of(recipe))
    if dataset.layout == "plain" and (others := folders_beside_good(dataset.root)):
        what = f"the folders {', '.join(others)} would not be looked at"
        hint = f"Put what is to be judged into {pictures}/test/good and {pictures}/test/<defect>."
        raise DataError(what, str(pictures), hint)
    backend = open_backend(engine, recipe, backend_name)
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task("judging test pictures", total=None)
        result = evaluate(
            backend, recipe, dataset, lambda done, n: bars.update(task, completed=done, total=n),
            learnt_from(engine, recipe),
        )  # fmt: skip
    write_report(result, path)
    if as_json:
        print(result.to_json())
    else:
        console.print(figures_table(result))
        console.print(at_the_review_limit(result), highlight=False, markup=False, soft_wrap=True)
        for note in result.notes:
            console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"pictures and curves: {path}", highlight=False, soft_wrap=True)
    return result


def figures_table(result: Evaluation) -> Table:
    """The headline figures for a person; "-" where the set cannot tell."""
    table = Table(title=f"{result.recipe.name} on {result.dataset}", border_style="dim")
    for name in ("", "parts", "image AUROC", "stopped"):
        table.add_column(name, justify="left" if not name else "right")
    rejected, good = _percent(result.false_reject_rate), len(result.good)
    table.add_row("good", str(good), "", f"{rejected} (false rejects)")
    for kind, auroc in result.per_type.items():
        table.add_row(
            kind, str(len(result.of_type(kind))), _figure(auroc), _percent(result.detection_rate(kind))
        )
    low, high = result.image_auroc_interval
    table.add_section()
    interval = f" ({low:.4f} to {high:.4f})" if low == low else ""
    table.add_row("all", str(len(result.images)), _figure(result.image_auroc) + interval)
    table.add_row("pixel AUROC", "", _figure(result.pixel_auroc))
    table.add_row("AU-PRO (to 30 %)", "", _figure(result.au_pro))
    if result.au_spro_per_type:
        table.add_row("AU-sPRO (to 5 %)", "", _figure(result.au_spro))
    return table


def _figure(value: float) -> str:
    return f"{value:.4f}" if value == value else "-"


def _percent(value: float) -> str:
    return f"{value:.1%}" if value == value else "-"
