"""Inference backends behind one Protocol. To add one: a file here, one `case` below, one contract line."""

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from edge.errors import BackendFault
from edge.frame import AnomalyMap, Pixels
from edge.gpu import describe_mismatch, rebuild_hint
from edge.picture.view import View, view_of
from edge.recipe import Recipe, check_artefact
from edge.remake import as_typed, model_of, other_kernel

PLANS = (".plan", ".engine")


class Backend(Protocol):
    """A loaded engine. An object that exists is ready: its constructor loads, checks and warms up."""

    @property
    def name(self) -> str:
        """For people: library, version, device."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    @property
    def resizes(self) -> bool:
        """Whether `infer` takes pictures of any size, as `view.shown` gives them, and resizes them itself."""

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """uint8 (H, W, 3) BGR of `input_size` -> map float32 of that size, score. Raises BackendFault."""

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """uint8 (N, H, W, 3) -> maps float32 (N, H, W), scores float32 (N,). Raises BackendFault.

        The backend cuts a batch that is too large for its memory.
        """

    def close(self) -> None:
        """Free the engine; may be called twice."""


def open_backend(engine: Path, recipe: Recipe, name: str = "auto") -> Backend:
    """Open an engine file with the backend named, or with TensorRT a plan and with ONNX Runtime all else.

    It takes what the recipe's view gives. Raises BackendFault, which names the extra to install where a
    library is missing, RecipeError where the view cannot be read.
    """
    return behind_view(_open(engine, recipe, name), view_of(recipe))


def backends_at_hand(engine: Path) -> list[str]:
    """Names of what can run this engine here; ONNX Runtime, with which limits are set, comes first."""
    if engine.suffix != ".onnx":
        return ["tensorrt"]
    return ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]


def behind_view(backend: Backend, view: View) -> Backend:
    """The backend for pictures as `view.see` gives them; the backend itself without tiles and mask."""
    if view.canvas is None and view.mask is None:
        return backend
    from edge.backends.viewed import ViewedBackend

    return ViewedBackend(backend, view)


def _open(engine: Path, recipe: Recipe, name: str) -> Backend:
    chosen = ("tensorrt" if engine.suffix in PLANS else "onnxruntime") if name == "auto" else name
    if chosen != "tensorrt" and engine.suffix in PLANS:
        hint = f"Leave --backend away, or run {model_of(engine).name}, which needs no GPU."
        raise BackendFault(f"a plan runs on TensorRT alone, not on {chosen}", str(engine), hint)
    match chosen:
        case "onnxruntime":
            from edge.backends.ort import OnnxRuntimeBackend

            return OnnxRuntimeBackend(engine, recipe.input_size)
        case "openvino":
            from edge.backends.openvino import OpenVinoBackend

            return OpenVinoBackend(engine, recipe.input_size)
        case "tensorrt":
            return _open_plan(engine, recipe)
        case _:
            known = "Known: auto, onnxruntime, openvino, tensorrt."
            raise BackendFault(f"unknown backend {name!r}", str(engine), known)


def _open_plan(engine: Path, recipe: Recipe) -> Backend:
    """Raises BackendFault: what is missing to run it, and the command that makes a plan for this machine."""
    artefact = check_artefact(recipe, engine)
    if engine.suffix not in PLANS:
        model = engine.with_name(engine.name.replace(".int8.onnx", ".onnx"))
        hint = f"Make a plan: {as_typed([str(model), '--fp16'])}"
        raise BackendFault("TensorRT runs plans, not ONNX files", str(engine), hint)
    hint = rebuild_hint(engine, artefact, recipe.made_with)
    if what := other_kernel(recipe.made_with) or describe_mismatch(artefact):
        raise BackendFault(what, str(engine), hint)
    from edge.backends.trt import open_plan

    backend = open_plan(engine, recipe.input_size, artefact.builder, hint)
    view, picture = view_of(recipe), recipe.training_set.get("picture")
    try:
        if not view.tiling:
            backend.check_resize(view.shown_size(picture))  # else the first part would wait for it
    except BaseException:
        backend.close()
        raise
    return backend
