"""What the tests of plans share: the shipped detector as a folder, as it would be carried to a Jetson."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from build_engines.cli import app
from build_engines.listener import Listener
from edge.cameras.parts import render_part
from edge.demo.show import ENGINE
from edge.frame import Pixels
from edge.picture.preprocess import preprocess
from edge.recipe import Artefact, load_recipe, recipe_path, save_recipe, sha256_of

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed: pip install tensorrt-rtx"
)


class Told(Listener):
    """Remembers what was being done, and what should be known."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


def good_pictures(count: int, seed: int = 77) -> Pixels:
    """Good parts of the simulated line, uint8 (count, 256, 256, 3)."""
    return np.stack([preprocess(render_part(seed, i), (256, 256)) for i in range(count)])


def camera_pictures(folder: Path, count: int, seed: int = 5) -> Path:
    """Good parts as the simulated camera gives them, 320 x 320, in `folder`."""
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), render_part(seed, i))
    return folder


def carried_folder(folder: Path, pictures: int = 12) -> Path:
    """ONNX, recipe and calibration file in `folder` -> the ONNX."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = folder / ENGINE.name
    shutil.copy(ENGINE, engine)
    shutil.copy(recipe_path(ENGINE), recipe_path(engine))
    np.savez_compressed(folder / "calibration.npz", images=good_pictures(pictures))
    return engine


def own_cache(folder: Path) -> Iterator[Path]:
    """Plans are kept where no other run finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def refused(*arguments: str) -> tuple[int, str]:
    """(exit code, the one line) of a call that must fail."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code not in (0, 1) and "Traceback" not in result.output
    errors = [line for line in result.output.splitlines() if line.startswith("error ")]
    assert len(errors) == 1, result.output  # the line is never wrapped
    return result.exit_code, errors[0]


def made(folder: Path) -> list[str]:
    return sorted(
        p.name for p in folder.iterdir() if ".plan" in p.name or ".sm" in p.name or ".part" in p.name
    )


def reseal(engine: Path, precision: str = "fp32") -> None:
    """The recipe for the engine as it is now."""
    recipe = replace(load_recipe(recipe_path(engine)), artefacts=())
    save_recipe(
        recipe.with_artefact(Artefact(engine.name, sha256_of(engine), precision)), recipe_path(engine)
    )
