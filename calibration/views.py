"""What the user asked for (`--roi`, `--mask`, `--align`, `--tile`) as a view made on the first picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import DataError, InspectError
from edge.frame import Pixels
from edge.picture.align import take_reference
from edge.picture.images import read_image, read_painted
from edge.picture.preprocess import Roi, crop
from edge.picture.tiling import LARGE, Tiling, canvas_for
from edge.picture.view import Mask, View

WHITE = (
    128  # grey levels of a mask from which on it says "look"; a JPEG's edges are not quite black and white
)
BLACK_TO = 32  # grey levels: brighter pixels of a mask are not black
WHITE_FROM = 223  # grey levels: darker ones are not white
MOST_GREY = 0.05  # share of such pixels: soft edges have a hundredth, photographs most of their pixels


@dataclass(frozen=True)
class ViewOptions:
    """As typed; regions are (x, y, width, height) in camera pixels."""

    roi: Roi | None = None
    mask: Path | None = None  # white: look, black or transparent: ignore; of the picture's size or the ROI's
    align: Roi | None = None  # the reference patch in the first good picture
    tile: bool = False


def make_view(first: Path, input_size: tuple[int, int], options: ViewOptions) -> View:
    """The view for an engine of `input_size` (height, width).

    `first` is the reference picture. Raises InspectError naming the option that does not fit it.
    """
    if options.align and not options.roi and not options.mask:
        what = "without a region, a defect on what has moved out of the picture would not be seen"
        raise InspectError(what, "--align", "Give --roi x,y,width,height or --mask too: the part itself.")
    pixels = read_image(first)
    for option, region in (("--roi", options.roi), ("--align", options.align)):
        _check_region(pixels, region, f"{option}, {first}")
    window = pixels if options.roi is None else crop(pixels, options.roi)
    reference = None if options.align is None else take_reference(pixels, options.align)
    mask = None if options.mask is None else _read_mask(options.mask, pixels, options.roi)
    canvas = _canvas((window.shape[0], window.shape[1]), input_size) if options.tile else None
    return View(input_size, options.roi, mask, reference, canvas)


def _check_region(pixels: Pixels, region: Roi | None, where: str) -> None:
    """Raises DataError where the region leaves the picture, naming the option and the file."""
    try:
        crop(pixels, region or (0, 0, 1, 1))
    except DataError as error:
        raise DataError(error.what, f"{where}: {error.where}", error.next_step) from error


def _read_mask(path: Path, pixels: Pixels, roi: Roi | None) -> Mask:
    """The mask of the region of interest, 255 look and 0 ignore. Raises DataError where it does not fit."""
    if not path.is_file():
        raise DataError("there is no file of this name", f"--mask {path}", "Check the path.")
    values = read_painted(path)
    window = pixels if roi is None else crop(pixels, roi)
    if values.shape == pixels.shape[:2]:
        values = values if roi is None else crop(values, roi)
    elif values.shape != window.shape[:2]:
        wanted = " or ".join(dict.fromkeys(f"{p.shape[1]}x{p.shape[0]}" for p in (pixels, window)))
        what = f"the mask is {values.shape[1]}x{values.shape[0]}, not {wanted}"
        raise DataError(what, f"--mask {path}", "Draw it on a picture of this camera.")
    if (grey := _grey_share(values)) > MOST_GREY:
        what = f"{grey:.0%} of its pixels are neither black nor white: this is a photograph, not a mask"
        raise DataError(what, f"--mask {path}", "Paint white where to look, black where not; save it as PNG.")
    mask = _look_or_ignore(values)
    if not mask.any():
        hint = "White is: look. What is transparent counts as black."
        raise DataError("the mask is black: there is nothing to look at", f"--mask {path}", hint)
    if mask.all():
        hint = "Paint black, or leave transparent, where not to look; or leave --mask out."
        raise DataError("the mask is white: it ignores nothing", f"--mask {path}", hint)
    return mask


def is_mask(path: Path, view: View) -> bool:
    """Whether this file is what the view's mask was read from, wherever it lies; False for a broken one."""
    if view.mask is None:
        return False
    try:
        values = read_painted(path)
        if values.shape != view.mask.shape and view.roi is not None:
            values = crop(values, view.roi)
    except DataError:
        return False
    return _grey_share(values) <= MOST_GREY and np.array_equal(_look_or_ignore(values), view.mask)


def _grey_share(values: Mask) -> float:
    return float(((values > BLACK_TO) & (values < WHITE_FROM)).mean())


def _look_or_ignore(values: Mask) -> Mask:
    return np.where(values >= WHITE, 255, 0).astype(np.uint8)


def _canvas(window: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    canvas = canvas_for(window, tile)
    if max(window) <= LARGE or len(Tiling(canvas, tile).corners) < 2:
        what = f"{window[1]}x{window[0]} pixels are not enough for tiles of {tile[1]}x{tile[0]}"
        hint = (
            f"Tiles are for more than {LARGE} pixels a side. Leave --tile out; --size 512 shows more detail."
        )
        raise InspectError(what, "--tile", hint)
    return canvas
