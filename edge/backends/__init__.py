"""Inference backends behind one Protocol. To add one: a file here, one `case` below, one contract line."""

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from edge.errors import BackendFault
from edge.frame import AnomalyMap, Pixels
from edge.gpu import describe_mismatch
from edge.recipe import ENGINE_ENDING, Recipe, check_artefact
from edge.view import View, view_of


class Backend(Protocol):
    """A loaded engine. An object that exists is ready: its constructor loads, checks and warms up."""

    @property
    def name(self) -> str:
        """For people: library, version, device."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """uint8 (H, W, 3) BGR of `input_size` -> map float32 (H, W), score. Raises BackendFault."""

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """uint8 (N, H, W, 3) -> maps float32 (N, H, W), scores float32 (N,). Raises BackendFault.

        The backend cuts a batch that is too large for its memory.
        """

    def close(self) -> None:
        """Free the engine; may be called twice."""


def open_backend(engine: Path, recipe: Recipe, name: str = "auto") -> Backend:
    """Open an engine file with the backend named, or ONNX Runtime; TensorRT engines (.plan) come next.

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
    chosen = (
        ("tensorrt" if engine.suffix in (".plan", ".engine") else "onnxruntime") if name == "auto" else name
    )
    match chosen:
        case "onnxruntime":
            from edge.backends.ort import OnnxRuntimeBackend

            return OnnxRuntimeBackend(engine, recipe.input_size)
        case "openvino":
            from edge.backends.openvino import OpenVinoBackend

            return OpenVinoBackend(engine, recipe.input_size)
        case "tensorrt":
            raise _no_tensorrt(engine, recipe)
        case _:
            raise BackendFault(
                f"unknown backend {name!r}", str(engine), "Known: auto, onnxruntime, openvino."
            )


def _no_tensorrt(engine: Path, recipe: Recipe) -> BackendFault:
    """What is missing to run a plan, and the command that makes one for this machine."""
    artefact = check_artefact(recipe, engine)
    what = describe_mismatch(artefact) or "this version cannot run TensorRT engines yet"
    model = ENGINE_ENDING.sub(".onnx", engine.name)
    rebuild = f"build-engines {model}{'' if artefact.precision == 'fp32' else ' --' + artefact.precision}"
    hint = f"On the machine with the GPU: {rebuild}; {model} itself runs without a GPU."
    return BackendFault(what, str(engine), hint)
