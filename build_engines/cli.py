"""`build-engines`: from a trained model folder to engines."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from calibration.thresholds import FALSE_REJECT_RATE
from edge.errors import InspectError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def build(
    model: Annotated[Path, typer.Argument(help="Model folder, as `edge-inspect train` writes it.")],
    false_rejects: Annotated[
        float,
        typer.Option(help="Share of good parts that may be stopped; sets the limits.", min=1e-5, max=0.2),
    ] = FALSE_REJECT_RATE,
    int8: Annotated[bool, typer.Option(help="Also build an INT8 engine (explicit Q/DQ).")] = False,
) -> None:
    """Export the model to ONNX, check it against torch, set the limits from good parts, seal the recipe."""
    console = Console(stderr=True)
    try:
        from build_engines.build import build_onnx

        with console.status("loading") as status:
            result = build_onnx(model, false_rejects, lambda text: status.update(text))
    except ImportError as error:
        console.print(f"[red]error[/] {error.name} is missing. Install: pip install 'edge-inspect\\[train]'")
        raise typer.Exit(2) from error
    except InspectError as error:
        console.print("[red]error[/]", str(error), markup=True, highlight=False)
        raise typer.Exit(error.exit_code) from error
    recipe = result.recipe
    console.print(
        f"[green]built[/] {result.engine} (fp32), agrees with torch to {result.map_error:.0e} on the map"
    )
    console.print(f"limits: below {recipe.review:.3f} pass, from {recipe.fail:.3f} fail, between them review")
    console.print(f"expected false rejects: {result.expectation}")
    for note in result.thresholds.notes:
        console.print(f"[yellow]note[/] {note}")


def main() -> None:
    """Entry point."""
    app()
