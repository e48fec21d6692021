"""The good pictures that limits, INT8 ranges and the gate come from, read without torch.

NAME.calibration.npz or calibration.npz    beside the ONNX, as `edge-inspect train` leaves it
--calibration-set DIR                      good pictures as the camera gives them, labelled test pictures
                                           for the gate; those that were learnt from are left out

The gate never judges on a picture that INT8 ranges, sweep or recalibration saw: `halves` divides them.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.dataset import MIN_HELD_OUT, content_digest, dataset_digest, load_images, open_dataset
from calibration.learnt import CALIBRATION_FILE, UNTOLD, calibration_file, is_anothers, learnt_from
from edge.errors import DataError, RecipeError
from edge.frame import Pixels
from edge.picture.view import View
from edge.recipe import Recipe

HINT = f"Copy {CALIBRATION_FILE} from the model folder, or give good pictures: --calibration-set DIR."
LEAST_TO_DIVIDE = 2 * MIN_HELD_OUT  # the gate fits FP32's limits to its half

Entries = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Calibration:
    """Pictures uint8 (N, h, w, 3) as `view.see` gives them; labelled ones where the set has both kinds."""

    images: Pixels
    good: Pixels | None = None
    anomalous: Pixels | None = None
    note: str = ""  # what was left out, or could not be told


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
    dataset = open_dataset(folder, view=view)
    paths, note = _not_learnt([*dataset.train, *dataset.validation], engine, recipe)
    if len(paths) < MIN_HELD_OUT and not calibration_file(engine).is_file():
        what = f"{note or f'{len(paths)} good pictures'}, and that file is missing"
        hint = f"Give good pictures that were not learnt, or copy {CALIBRATION_FILE} from the model folder."
        raise DataError(what, f"--calibration-set {folder}", hint)
    load = partial(_load, view=view, recipe=recipe)
    images = load(paths) if len(paths) >= MIN_HELD_OUT else _held_out(engine, recipe, view)
    good, bad = (
        load([t.path for t in dataset.test if (t.kind == "good") is wanted]) for wanted in (True, False)
    )
    return Calibration(images, good, bad, note)


def _load(paths: list[Path], view: View, recipe: Recipe) -> Pixels:
    """Raises DataError for pictures of another size than all those learnt from had."""
    sizes = Counter[tuple[int, int]]()
    images = load_images(paths, view, sizes)
    learnt = recipe.training_set.get("picture")  # (height, width); missing where they were not all alike
    for height, width in sizes:
        if learnt and (height, width) != tuple(learnt):
            what = f"pictures of {width}x{height}, but the model learnt from {learnt[1]}x{learnt[0]}"
            raise DataError(what, str(paths[0].parent), "Give pictures as the station's camera takes them.")
    return images


def _not_learnt(paths: list[Path], engine: Path, recipe: Recipe) -> tuple[list[Path], str]:
    """Those that the model has not learnt from, and what to say of the others.

    Limits that were set on what was learnt would come out too tight. Each picture is known by its sha256,
    which the calibration file keeps; files of earlier versions know the set as a whole only.
    """
    if dataset_digest(paths) == recipe.training_set.get("sha256"):
        return [], "this is the set that was learnt: its held-out pictures in the calibration file are used"
    learnt = learnt_from(engine, recipe)
    if learnt is None:
        return paths, UNTOLD
    fresh = [path for path in paths if content_digest(path) not in learnt]
    left_out = len(paths) - len(fresh)
    return fresh, f"{left_out} of {len(paths)} pictures were learnt and are left out" if left_out else ""


def _read(path: Path) -> Entries:
    """What a calibration file holds. Raises DataError for what is missing or cannot be read."""
    try:
        with path.open("rb") as raw, np.load(raw) as file:  # numpy itself leaves a broken one open
            return dict(file)
    except FileNotFoundError as error:
        raise DataError("the calibration pictures are missing", str(path), HINT) from error
    except Exception as error:  # numpy, zipfile and zlib raise a dozen types for a file that is broken
        what = f"the calibration pictures cannot be read: {' '.join(str(error).split())}"
        raise DataError(what, str(path), HINT) from error


def _held_out(engine: Path, recipe: Recipe, view: View) -> Pixels:
    path = calibration_file(engine)
    entries = _read(path)
    images = entries.get("images", np.empty(0))
    if len(images) < MIN_HELD_OUT:
        raise DataError(f"there are {len(images)} calibration pictures", str(path), HINT)
    if images.dtype != np.uint8 or images.shape[1:] != (*view.size, 3):
        wanted = " x ".join(map(str, (*view.size, 3)))
        what = f"the calibration pictures are {' x '.join(map(str, images.shape[1:]))}, not {wanted}"
        raise DataError(what, str(path), HINT)
    if is_anothers(entries, recipe):
        raise RecipeError("the calibration pictures are another model's", str(path), HINT)
    return images
