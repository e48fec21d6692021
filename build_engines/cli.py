"""`build-engines`: from a trained model folder to engines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from calibration.thresholds import FALSE_REJECT_RATE
from edge.cli import VersionOption, plain_errors, show_note

if TYPE_CHECKING:
    from build_engines.build import BuildResult

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def build(
    model: Annotated[Path, typer.Argument(help="Model folder, as `edge-inspect train` writes it.")],
    false_rejects: Annotated[
        float,
        typer.Option(help="Share of good parts that may be stopped; sets the limits.", min=1e-5, max=0.2),
    ] = FALSE_REJECT_RATE,
    int8: Annotated[bool, typer.Option("--int8", help="Also build NAME.int8.onnx (explicit Q/DQ).")] = False,
    version: VersionOption = False,
) -> None:
    """Export the model to ONNX, check it against torch, set the limits from good parts, seal the recipe."""
    console = Console(stderr=True)
    with plain_errors():
        from build_engines.build import build_engines
        from edge.paths import check_folder
        from edge.settings import set_by_hand

        check_folder(model, "model")
        by_hand = {engine: set_by_hand(engine) for engine in sorted(model.glob("*.onnx"))}
        with console.status("loading") as status:
            for result in build_engines(model, false_rejects, int8, status.update):
                _show(console, result)
                if options := by_hand.get(result.engine):
                    again = f"edge-inspect recipe {result.engine} {options}"
                    show_note(f"settings made by hand are gone; where they shall hold again: {again}")


def _show(console: Console, result: "BuildResult") -> None:
    recipe = result.recipe
    precision = recipe.artefacts[0].precision
    console.print(f"[green]built[/] {result.engine} ({precision}): {result.agreement}", highlight=False)
    console.print(f"limits: below {recipe.review:.3f} pass, from {recipe.fail:.3f} fail, between them review")
    console.print(f"expected false rejects: {result.expectation}")
    for note in result.thresholds.notes:
        console.print(f"[yellow]note[/] {note}")


def main() -> None:
    """Entry point."""
    app()
