"""What the tests of plans share: the shipped detector as a folder, as it would be carried to a Jetson."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras.parts import render_part
from edge.demo.show import ENGINE
from edge.frame import Pixels
from edge.picture.preprocess import preprocess
from edge.recipe import recipe_path

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed: pip install tensorrt-rtx"
)


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
