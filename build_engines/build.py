"""One model folder -> engine and recipe: export, compare with torch, set limits, seal."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from build_engines.export import OPSET, OUTPUTS, export_onnx, write_onnx
from calibration.thresholds import Thresholds, describe, fit_thresholds
from distillation.detector import Detector
from distillation.model import About, load_model
from edge import __version__
from edge.backends.ort import OnnxRuntimeBackend
from edge.errors import RecipeError
from edge.frame import Pixels
from edge.recipe import Artefact, Recipe, dumps, recipe_path, save_recipe, sha256_of

MAX_MAP_ERROR = 1e-4  # torch against ONNX Runtime, absolute; the map's unit is a good part's spread
PARITY_BATCHES = (1, 2, 5)


@dataclass(frozen=True)
class BuildResult:
    """What was built and how well it agrees with the trained model."""

    engine: Path
    recipe: Recipe
    thresholds: Thresholds
    map_error: float
    score_error: float

    @property
    def expectation(self) -> str:
        """False rejects in a line engineer's words."""
        return describe(self.thresholds)


def build_onnx(folder: Path, false_reject_rate: float, say: Callable[[str], None]) -> BuildResult:
    """Build `folder/NAME.onnx` and its recipe. Raises InspectError; a half-made engine is never left behind.

    The limits come from the held-out good pictures, seen through the very engine that will judge.
    """
    detector, about, images = load_model(folder)
    say("exporting")
    model = export_onnx(detector)
    say(f"comparing with torch on {len(images)} good pictures")
    map_error, score_error = compare_with_torch(detector, model, images)
    if map_error > MAX_MAP_ERROR:
        what = f"the exported graph is off by {map_error:.1e} (allowed {MAX_MAP_ERROR:.0e})"
        raise RecipeError(what, str(folder), "Report this with the model; do not use the engine.")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        candidate = Path(scratch) / "candidate.onnx"
        write_onnx(model, candidate, "")
        backend = OnnxRuntimeBackend(candidate, detector.config.input_size)
        say("setting limits")
        thresholds = fit_thresholds([backend.infer(image)[1] for image in images], false_reject_rate)
    engine = folder / f"{about.name}.onnx"
    recipe = _recipe(detector, about, thresholds)
    write_onnx(model, engine, dumps(recipe))
    recipe = recipe.with_artefact(Artefact(engine.name, sha256_of(engine), "fp32"))
    save_recipe(recipe, recipe_path(engine))
    return BuildResult(engine, recipe, thresholds, map_error, score_error)


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


def _recipe(detector: Detector, about: About, thresholds: Thresholds) -> Recipe:
    return Recipe(
        name=about.name,
        input_size=detector.config.input_size,
        review=thresholds.review,
        fail=thresholds.fail,
        roi=about.roi,
        training_set={"sha256": about.digest, "trained_on": about.trained_on, "held_out": about.held_out},
        normalisation=about.normalisation,
        expected_false_rejects=thresholds.to_recipe(),
        made_with={
            "edge-inspect": __version__, "torch": torch.__version__, "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__, "opset": str(OPSET), "teacher": detector.config.teacher,
        },
    )  # fmt: skip
