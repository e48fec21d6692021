"""The good pictures that limits, INT8 ranges and the gate come from, read without torch.

NAME.calibration.npz or calibration.npz    beside the ONNX, as `edge-inspect train` leaves it
--calibration-set DIR                      good pictures as the camera gives them, labelled test pictures
                                           for the gate; of the set that was learnt from only the latter

The gate never judges on a picture that INT8 ranges, sweep or recalibration saw: `halves` divides them.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from calibration.dataset import MIN_HELD_OUT, dataset_digest, load_images, open_dataset
from edge.errors import DataError, RecipeError
from edge.frame import Pixels
from edge.recipe import Recipe
from edge.view import View

CALIBRATION_FILE = "calibration.npz"
LEAST_TO_DIVIDE = 2 * MIN_HELD_OUT  # the gate sets limits of its own from its half


@dataclass(frozen=True)
class Calibration:
    """Pictures uint8 (N, h, w, 3) as `view.see` gives them; labelled ones where the set has both kinds."""

    images: Pixels
    good: Pixels | None = None
    anomalous: Pixels | None = None


def halves(images: Pixels) -> tuple[Pixels, Pixels]:
    """Held-out good pictures (N, h, w, 3) -> (what INT8 is fitted on, what the gate judges on).

    Every second picture, so that both halves span the same days; whole pictures, never tiles of one in both.
    Fixed by the order alone: the engine beside and the gate of a later build divide as the first did. Raises
    DataError for fewer than LEAST_TO_DIVIDE.
    """
    if len(images) < LEAST_TO_DIVIDE:
        what = f"{len(images)} good pictures were held out; FP16 and INT8 need {LEAST_TO_DIVIDE}"
        hint = "Train with more pictures, or give some that were not learnt: --calibration-set DIR."
        raise DataError(what, "accuracy gate", hint)
    return images[::2], images[1::2]


def open_calibration(engine: Path, recipe: Recipe, view: View, folder: Path | None) -> Calibration:
    """From `folder`, or from the file beside the engine. Raises InspectError."""
    if folder is None:
        return Calibration(_held_out(engine, recipe, view))
    dataset = open_dataset(folder)
    paths = [*dataset.train, *dataset.validation]
    # Limits that were set on what was learnt would come out too tight.
    learnt = dataset_digest(paths) == recipe.training_set.get("sha256")
    images = _held_out(engine, recipe, view) if learnt else load_images(paths, view)
    if view.tiling is not None:  # a label is the whole picture's, not each tile's
        return Calibration(images)
    good, bad = (
        load_images([t.path for t in dataset.test if (t.kind == "good") is wanted], view)
        for wanted in (True, False)
    )
    return Calibration(images, good, bad)


def _held_out(engine: Path, recipe: Recipe, view: View) -> Pixels:
    own = engine.with_name(f"{engine.stem}.{CALIBRATION_FILE}")
    path = own if own.is_file() else engine.with_name(CALIBRATION_FILE)
    hint = f"Copy {CALIBRATION_FILE} from the model folder, or give good pictures: --calibration-set DIR."
    try:
        with np.load(path) as file:
            images, digest = file["images"], str(file["training_set"]) if "training_set" in file else ""
    except FileNotFoundError as error:
        raise DataError("the calibration pictures are missing", str(path), hint) from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"the calibration pictures cannot be read: {error}", str(path), hint) from error
    if len(images) < MIN_HELD_OUT:
        raise DataError(f"there are {len(images)} calibration pictures", str(path), hint)
    if images.dtype != np.uint8 or images.shape[1:] != (*view.size, 3):
        wanted = " x ".join(map(str, (*view.size, 3)))
        what = f"the calibration pictures are {' x '.join(map(str, images.shape[1:]))}, not {wanted}"
        raise DataError(what, str(path), hint)
    if digest and digest != recipe.training_set.get("sha256"):
        raise RecipeError("the calibration pictures are another model's", str(path), hint)
    return images
