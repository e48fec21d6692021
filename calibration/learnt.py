"""Which pictures a model has learnt from, as the calibration file beside its engine tells."""

from pathlib import Path

import numpy as np

from edge.recipe import Recipe

CALIBRATION_FILE = "calibration.npz"


def learnt_from(engine: Path, recipe: Recipe) -> frozenset[str]:
    """Hex sha256 of every picture's file; empty where no file of this model tells."""
    own = engine.with_name(f"{engine.stem}.{CALIBRATION_FILE}")
    try:
        with (own if own.is_file() else engine.with_name(CALIBRATION_FILE)).open("rb") as raw:
            entries = np.load(raw)
            if str(entries["training_set"]) != recipe.training_set.get("sha256"):
                return frozenset()  # another model's
            return frozenset(bytes(row).hex() for row in entries["learnt"])
    except Exception:  # there is none, it is of an earlier version, or one of a dozen types for a broken one
        return frozenset()
