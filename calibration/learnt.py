"""Which pictures a model has learnt from, as the calibration file beside its engine tells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.recipe import Recipe

CALIBRATION_FILE = "calibration.npz"

UNTOLD = f"no list in {CALIBRATION_FILE}: pictures that were learnt cannot be told from others"


def learnt_from(engine: Path, recipe: Recipe) -> frozenset[str] | None:
    """Hex sha256 of every picture's file; None where no file of this model tells."""
    try:
        with calibration_file(engine).open("rb") as raw, np.load(raw) as entries:
            if is_anothers(entries, recipe):
                return None
            return frozenset(bytes(row).hex() for row in entries["learnt"])
    except Exception:  # there is none, it is of an earlier version, or one of a dozen types for a broken one
        return None


def calibration_file(engine: Path) -> Path:
    """The engine's own, NAME.calibration.npz, or the one of its folder, whether there is one or not."""
    own = engine.with_name(f"{engine.stem}.{CALIBRATION_FILE}")
    return own if own.is_file() else engine.with_name(CALIBRATION_FILE)


def is_anothers(entries: Mapping[str, npt.NDArray[Any]], recipe: Recipe) -> bool:
    """Files that were made by hand do not say whose they are."""
    return "training_set" in entries and str(entries["training_set"]) != recipe.training_set.get("sha256")
