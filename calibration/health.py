"""Limits of image health from a set of good pictures, as they stand in the recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.dataset import open_image
from calibration.views import is_mask
from edge.errors import DataError
from edge.picture.image_health import Masked, limits_of, look_at
from edge.picture.images import list_images
from edge.picture.view import View

LEAST = 8  # good pictures; of fewer nobody can tell how much they vary
MOST = 500  # of more, so many evenly taken: reading takes 10 ms a picture
OFF = "off"


def health_entries(paths: Sequence[Path], view: View) -> dict[str, Any]:
    """What the recipe's `health` is. Raises DataError for a picture that cannot be used, or too few."""
    if len(paths) < LEAST:
        where = str(paths[0].parent) if paths else "--health"
        raise DataError(f"{len(paths)} good pictures, {LEAST} are needed", where, "Take 30 or more.")
    some = paths[:: -(-len(paths) // MOST)]
    masked = None if view.mask is None else Masked(view.mask)
    return limits_of([look_at(open_image(path, view), masked) for path in some]).to_json()


def health_option(text: str, view: View) -> dict[str, Any]:
    """`edge-inspect recipe --health FOLDER|off`; the view's mask among the pictures is left out."""
    if text == OFF:
        return {}
    if not Path(text).is_dir():
        raise DataError("there is no such folder of good pictures", text, f"Give one, or {OFF}.")
    return health_entries([path for path in list_images(Path(text)) if not is_mask(path, view)], view)
