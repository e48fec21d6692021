"""One model folder -> engine and recipe: export, compare with torch, set limits, seal."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from build_engines.export import OPSET, OUTPUTS, export_onnx, write_onnx
from build_engines.quantise import quantise
from calibration.thresholds import Thresholds, describe, fit_thresholds
from distillation.detector import Detector, DetectorConfig
from distillation.model import About, load_model
from edge import __version__
from edge.backends import behind_view
from edge.backends.ort import OnnxRuntimeBackend
from edge.errors import RecipeError
from edge.frame import Pixels
from edge.recipe import Artefact, Recipe, dumps, recipe_path, save_recipe, sha256_of
from edge.view import View

MAX_MAP_ERROR = 1e-4  # torch against ONNX Runtime, absolute; the map's unit is a good part's spread
MAX_LIMIT = 100.0  # of the pass limit; trained models have 1.2 to 2, and a limit up there passes everything
MAX_SCORE_ERROR = 1e-3  # the same for the score; a typical good part has 1
PARITY_BATCHES = (1, 2, 5)
MOST_TILES = 64  # of large held-out pictures: for the comparison with torch and for INT8


@dataclass(frozen=True)
class BuildResult:
    """What was built, and how well it agrees with what it was made from."""

    engine: Path
    recipe: Recipe
    thresholds: Thresholds
    agreement: str

    @property
    def expectation(self) -> str:
        """False rejects in a line engineer's words."""
        return describe(self.thresholds)


Say = Callable[[str], None]


def build_engines(folder: Path, false_reject_rate: float, int8: bool, say: Say) -> Iterator[BuildResult]:
    """Build `folder/NAME.onnx`, then `NAME.int8.onnx` where asked for, each with its recipe.

    Raises InspectError; a half-made or refused engine is never left behind.
    """
    detector, about, images = load_model(folder)
    say("exporting")
    model = export_onnx(detector)
    view = View.from_json(detector.config.input_size, about.roi, about.view)
    pieces = view.pieces(images, MOST_TILES)
    say(f"comparing with torch on {len(images)} good pictures")
    map_error, score_error = compare_with_torch(detector, model, pieces)
    if map_error > MAX_MAP_ERROR or score_error > MAX_SCORE_ERROR:
        what = (
            f"the exported graph is off by {map_error:.1e} on the map (allowed {MAX_MAP_ERROR:.0e}) and "
            f"{score_error:.1e} on the score (allowed {MAX_SCORE_ERROR:.0e})"
        )
        raise RecipeError(what, str(folder), "Report this with the model; do not use the engine.")
    sealer = _Sealer(folder, detector.config, about, view, images, false_reject_rate)
    yield sealer.seal(model, "fp32", f"agrees with torch to {map_error:.0e} on the map")
    if int8:
        quantised = quantise(model, pieces, say)
        text = (
            f"{quantised.int8_mac_share:.0%} of the work in INT8, AUROC on self-made anomalies "
            f"{-quantised.auroc_loss:+.4f}, score correlation {quantised.score_correlation:.4f}"
        )
        yield sealer.seal(quantised.model, "int8", text)
    else:  # one of an earlier model would still be accepted beside the new engine
        for path in (sealer.engine("int8"), recipe_path(sealer.engine("int8"))):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Sealer:
    """Limits from held-out good pictures, seen through the very engine that will judge; then the recipe."""

    folder: Path
    config: DetectorConfig
    about: About
    view: View
    images: Pixels
    false_reject_rate: float

    def engine(self, precision: str) -> Path:
        """Where the engine of a precision stands."""
        return self.folder / f"{self.about.name}{'' if precision == 'fp32' else '.' + precision}.onnx"

    def seal(self, model: onnx.ModelProto, precision: str, agreement: str) -> BuildResult:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            candidate = Path(scratch) / "candidate.onnx"
            write_onnx(model, candidate, "")
            backend = behind_view(OnnxRuntimeBackend(candidate, self.config.input_size), self.view)
            scores = [backend.infer(image)[1] for image in self.images]
        thresholds = fit_thresholds(scores, self.false_reject_rate)
        check_limit(thresholds.review, self.folder)
        engine = self.engine(precision)
        recipe = _recipe(self.config, self.about, thresholds)
        write_onnx(model, engine, dumps(recipe))
        recipe = recipe.with_artefact(Artefact(engine.name, sha256_of(engine), precision))
        save_recipe(recipe, recipe_path(engine))
        return BuildResult(engine, recipe, thresholds, agreement)


def check_limit(review: float, folder: Path) -> None:
    """Raises RecipeError for a pass limit so far above a good part's score (1) that it would stop nothing."""
    if review > MAX_LIMIT:
        what = f"the limit would be {review:.3g} (a typical good part has 1): it stops nothing"
        hint = "The model has not learnt the part. Train longer, or with more pictures."
        raise RecipeError(what, str(folder), hint)


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


def _recipe(config: DetectorConfig, about: About, thresholds: Thresholds) -> Recipe:
    return Recipe(
        name=about.name,
        input_size=config.input_size,
        review=thresholds.review,
        fail=thresholds.fail,
        roi=about.roi,
        view=about.view,
        training_set={
            "sha256": about.digest, "trained_on": about.trained_on, "held_out": about.held_out,
            **({"picture": [*about.picture]} if about.picture else {}),
        },
        normalisation=about.normalisation,
        expected_false_rejects=thresholds.to_recipe(),
        made_with={
            "edge-inspect": __version__, "torch": torch.__version__, "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__, "opset": str(OPSET), "teacher": config.teacher,
        },
    )  # fmt: skip
