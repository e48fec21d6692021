"""Does an engine in lower precision judge as FP32 does, on real parts?

    python benchmarks/engines.py MODEL=SET [MODEL=SET ...]

MODEL is a folder that `build-engines` has built from, SET its data set with labelled test pictures. What the
gate of `build-engines` says of FP16, and of INT8 with a tenth and a fifth of the work in float: by the
labelled pictures, on which nothing is fitted and by which nothing is chosen, and by self-made anomalies as a
user has them. A GPU is not asked: the CPU runs the graph with every rounding written out. MODEL stays as it
is.
"""

import argparse
from pathlib import Path
from typing import Any

from jobs import errors_in_words
from record import save_result
from rich.console import Console

from build_engines.gate import Gate, gate_pictures
from build_engines.graph import load_onnx
from build_engines.listener import Listener
from build_engines.pictures import halves, open_calibration
from build_engines.plans import MOST_PIECES
from build_engines.precision import emulated, to_half
from build_engines.quantise import FLOAT_SHARES, Tries
from calibration.thresholds import FALSE_REJECT_RATE
from edge.picture.view import view_of
from edge.recipe import load_pair

SHARES = FLOAT_SHARES[:2]

console = Console(stderr=True)


def figures_of(folder: Path, data: Path) -> dict[str, Any]:
    """The recipe of the model, and precision -> the gate's figures."""
    engine, recipe, _ = load_pair(folder)
    view, model = view_of(recipe), load_onnx(engine)
    fitting, held_out = halves(open_calibration(engine, recipe, view, None).images)
    labelled = open_calibration(engine, recipe, view, data)
    of_anomalies = gate_pictures(held_out, labelled.good, labelled.anomalous), gate_pictures(held_out)
    gates = [Gate(model, pictures, FALSE_REJECT_RATE, view) for pictures in of_anomalies]
    tries = Tries(model, view.pieces(fitting, MOST_PIECES), Listener().say)
    graphs = {"fp16": model} | {f"int8, {1 - share:.0%}": tries.graph(share)[1] for share in SHARES}
    found: dict[str, Any] = {"recipe": recipe.identity, "size": [*recipe.input_size]}
    for name, graph in graphs.items():
        stand_in = emulated(to_half(graph).model)
        judged = [gate.judge(stand_in, name) for gate in gates]
        for result in judged:
            console.print(f"{data.name} {name}: {result}", highlight=False)
        found[name] = {result.anomalies: result.to_json() for result in judged}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="+", metavar="MODEL=SET")
    pairs = [pair.partition("=") for pair in parser.parse_args().pairs]
    with errors_in_words():
        sets = {Path(data).name: figures_of(Path(model), Path(data)) for model, _, data in pairs}
    save_result("engines", {"sets": sets})


if __name__ == "__main__":
    main()
