"""What every engine gets before it may be used: limits from good pictures, and the recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import onnx

from build_engines.gate import graph_backend
from build_engines.graph import onnx_bytes
from calibration.thresholds import Thresholds, describe, fit_thresholds
from edge.atomic import content_of, sweep, write_pair
from edge.backends import Backend
from edge.errors import RecipeError
from edge.frame import Pixels
from edge.picture.view import View
from edge.recipe import Artefact, Recipe, dumps, recipe_path, sha256_of

MAX_LIMIT = 100.0  # of the pass limit; trained models have 2 to 7, and a limit up there passes everything


@dataclass(frozen=True)
class BuildResult:
    """What was built, and how well it agrees with what it was made from."""

    engine: Path
    recipe: Recipe
    thresholds: Thresholds
    agreement: str
    changed: bool = True  # False: engine and recipe stood there already, byte for byte

    @property
    def expectation(self) -> str:
        """False rejects in a line engineer's words."""
        return describe(self.thresholds)


@dataclass(frozen=True)
class Sealer:
    """`draft` is the recipe but for limits and engine; `images` (N, h, w, 3) are as `view.see` gives them.

    `reference` is the FP32 graph: limits are fitted on its scores, and carried over to other engines.
    """

    folder: Path
    draft: Recipe
    view: View
    images: Pixels
    false_reject_rate: float
    reference: onnx.ModelProto

    def engine(self, precision: str) -> Path:
        """Where the ONNX engine of a precision stands."""
        return self.folder / f"{self.draft.name}{'' if precision == 'fp32' else '.' + precision}.onnx"

    def limits(self, backend: Backend) -> Thresholds:
        """FP32's, carried over by the scores that an engine behind the view gives to the good pictures.

        Raises InspectError.
        """
        scores, limits = self._fp32
        return self._checked(limits.carried(scores, self._scores(backend)))

    def limits_of(self, model: onnx.ModelProto) -> Thresholds:
        """The same for a graph, on the CPU; the reference's own are those that were fitted."""
        if model is self.reference:
            return self._fp32[1]
        return self.limits(graph_backend(model, self.view))

    @cached_property
    def _fp32(self) -> tuple[list[float], Thresholds]:
        """The reference's scores of the good pictures, and the limits fitted on them."""
        scores = self._scores(graph_backend(self.reference, self.view))
        limits = fit_thresholds(scores, self.false_reject_rate)
        return scores, self._checked(limits)

    def _checked(self, limits: Thresholds) -> Thresholds:
        check_limit(limits.review, self.folder)
        return limits

    def _scores(self, backend: Backend) -> list[float]:
        return [backend.infer(image)[1] for image in self.images]

    def seal(
        self,
        model: onnx.ModelProto,
        precision: str,
        agreement: str,
        made_with: Mapping[str, str] | None = None,
    ) -> BuildResult:
        """Write an ONNX engine, a copy of its recipe inside, and the recipe."""
        thresholds = self.limits_of(model)
        engine, recipe = self.engine(precision), self.recipe(thresholds, made_with)
        data, artefact = onnx_bytes(model, dumps(recipe)), Artefact(engine.name, "", precision)
        return _sealed(engine, data, recipe, artefact, thresholds, agreement)

    def seal_plan(
        self,
        plan: bytes,
        artefact: Artefact,
        thresholds: Thresholds,
        made_with: Mapping[str, str],
        agreement: str,
    ) -> BuildResult:
        """Write a TensorRT plan and its recipe; `artefact` but for its digest."""
        engine = self.folder / artefact.path
        return _sealed(engine, plan, self.recipe(thresholds, made_with), artefact, thresholds, agreement)

    def recipe(self, thresholds: Thresholds, made_with: Mapping[str, str] | None = None) -> Recipe:
        """The draft with these limits."""
        return replace(
            self.draft, review=thresholds.review, fail=thresholds.fail,
            expected_false_rejects=thresholds.to_recipe(),
            made_with={**self.draft.made_with, **(made_with or {})},
        )  # fmt: skip


def made_of(engine: Path) -> dict[str, str]:
    """For the recipe of what is made of an FP32 engine: of which, graph and limits."""
    return {"of": f"{engine.name} {sha256_of(engine)}"}


def _sealed(
    engine: Path, data: bytes, recipe: Recipe, artefact: Artefact, thresholds: Thresholds, agreement: str
) -> BuildResult:
    """Engine and recipe together: half a pair is nothing, and an old pair stays until both are written."""
    recipe = recipe.with_artefact(replace(artefact, sha256=sha256(data).hexdigest()))
    beside, text = recipe_path(engine), dumps(recipe).encode()
    for path in (engine, beside):
        sweep(path.parent, path.name)
    changed = any(content_of(path) != now for path, now in ((engine, data), (beside, text)))
    write_pair(engine, data, beside, text)  # also what is there: an engine older than its model is told of
    return BuildResult(engine, recipe, thresholds, agreement, changed)


def check_limit(review: float, folder: Path) -> None:
    """Raises RecipeError for a pass limit so far above a good part's score (1) that it would stop nothing."""
    if review > MAX_LIMIT:
        what = f"the limit would be {review:.3g} (a typical good part has 1): it stops nothing"
        hint = "The model has not learnt the part. Train longer, or with more pictures."
        raise RecipeError(what, str(folder), hint)
