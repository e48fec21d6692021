"""One model folder -> engine and recipe: export, compare with torch, set limits, seal."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from build_engines.export import export_onnx
from build_engines.gate import Gate, gate_pictures
from build_engines.graph import OPSET, OUTPUTS
from build_engines.listener import Listener
from build_engines.pictures import halves, open_calibration
from build_engines.plans import MOST_PIECES
from build_engines.quantise import quantise
from build_engines.seal import BuildResult, Sealer, made_of
from distillation.detector import Detector, DetectorConfig
from distillation.model import CHECKPOINT_FILE, About, load_model
from edge import __version__
from edge.errors import RecipeError
from edge.frame import Pixels
from edge.picture.view import View
from edge.recipe import Recipe, load_recipe, recipe_path

MAX_MAP_ERROR = 1e-4  # torch against ONNX Runtime, absolute; the map's unit is a good part's spread
MAX_SCORE_ERROR = 1e-3  # the same for the score; a typical good part has 1
PARITY_BATCHES = (1, 2, 5)


def build_engines(
    folder: Path, false_reject_rate: float, int8: bool, listener: Listener, force: bool = False,
    calibration_set: Path | None = None,
) -> Iterator[BuildResult]:  # fmt: skip
    """Build `folder/NAME.onnx`, then `NAME.int8.onnx` where asked for, each with its recipe.

    Raises InspectError; a half-made or refused engine is never left behind. `force` keeps an INT8 engine that
    the accuracy gate refuses, and the recipe says so. Limits, INT8 and gate take the pictures of
    `calibration_set` in place of the held-out ones.
    """
    detector, about, images = load_model(folder)
    if (folder / CHECKPOINT_FILE).exists():
        listener.note("a training still runs here or was interrupted: this is the model from before it")
    view = View.from_json(detector.config.input_size, about.roi, about.view)
    draft = _draft(detector.config, about, false_reject_rate)
    calibration = open_calibration(folder / f"{about.name}.onnx", draft, view, calibration_set)
    if calibration.note:
        listener.note(calibration.note)
    listener.say("exporting")
    model = export_onnx(detector)
    pieces = view.pieces(images, MOST_PIECES)
    listener.say(f"comparing with torch on {len(images)} good pictures")
    map_error, score_error = compare_with_torch(detector, model, pieces)
    if map_error > MAX_MAP_ERROR or score_error > MAX_SCORE_ERROR:
        what = (
            f"the exported graph is off by {map_error:.1e} on the map (allowed {MAX_MAP_ERROR:.0e}) and "
            f"{score_error:.1e} on the score (allowed {MAX_SCORE_ERROR:.0e})"
        )
        raise RecipeError(what, str(folder), "Report this with the model; do not use the engine.")
    images = calibration.images
    sealer = Sealer(folder, draft, view, images, false_reject_rate, model)
    result = sealer.seal(model, "fp32", f"agrees with torch to {map_error:.0e} on the map")
    of = made_of(result.engine)
    forget(result.engine, of, listener)
    yield result
    if int8:
        fitting, judging = halves(images)
        pictures = gate_pictures(judging, calibration.good, calibration.anomalous)
        gate = Gate(model, pictures, false_reject_rate, view)
        found = quantise(model, view.pieces(fitting, MOST_PIECES), gate, listener)
        kept = found if force else found.accepted()
        yield sealer.seal(kept.model, "int8", str(found), {"gate": found.gate.verdict, **of})


def forget(fp32: Path, of: Mapping[str, str], listener: Listener) -> None:
    """Remove the engines that were not made `of` this FP32 engine, graph and limits: each would still be
    accepted with its own recipe."""
    patterns = f"{fp32.stem}.int8.onnx", f"{fp32.stem}.*.sm*.plan"
    engines = sorted(engine for pattern in patterns for engine in fp32.parent.glob(pattern))
    others = [engine for engine in engines if not _says(engine, of)]
    for engine in others:
        recipe_path(engine).unlink(missing_ok=True)  # first: an engine without a recipe is refused
        engine.unlink()
    if others:
        names = ", ".join(engine.name for engine in others)
        listener.note(f"removed, for they were built from another {fp32.name}: {names}")


def _says(engine: Path, facts: Mapping[str, str]) -> bool:
    try:
        return facts.items() <= load_recipe(recipe_path(engine)).made_with.items()
    except RecipeError:
        return False


def compare_with_torch(detector: Detector, model: onnx.ModelProto, images: Pixels) -> tuple[float, float]:
    """Largest absolute difference of map and score between torch and ONNX Runtime, over several batches."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    worst = [0.0, 0.0]
    for batch in PARITY_BATCHES:
        pixels = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
        with torch.inference_mode():
            expected = [t.numpy() for t in detector(torch.from_numpy(pixels))]
        for i, (e, found) in enumerate(
            zip(expected, session.run(list(OUTPUTS), {"pixels": pixels}), strict=True)
        ):
            worst[i] = max(worst[i], float(np.abs(e - found).max()))
    return worst[0], worst[1]


def _draft(config: DetectorConfig, about: About, false_reject_rate: float) -> Recipe:
    """The recipe before there is an engine; its limits are not set yet."""
    return Recipe(
        name=about.name,
        input_size=config.input_size,
        review=1.0,
        fail=1.0,
        roi=about.roi,
        view=about.view,
        health=about.health,
        training_set={
            "sha256": about.digest, "trained_on": about.trained_on, "held_out": about.held_out,
            **({"picture": [*about.picture]} if about.picture else {}),
        },
        normalisation=about.normalisation,
        made_with={
            "edge-inspect": __version__, "torch": torch.__version__, "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__, "opset": str(OPSET), "teacher": config.teacher,
            "false_rejects": f"{false_reject_rate:g}",  # for plans that are built of it with nobody there
        },
    )  # fmt: skip
