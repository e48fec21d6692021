"""Good and test pictures of a data set: found, divided, read. Layouts: calibration/layouts.py."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.layouts import LAYOUTS, Dataset, find_pictures, good_folder, sets_inside
from calibration.refused import by_advice, cause
from calibration.thresholds import FEW
from calibration.views import is_mask
from edge.errors import DataError, PartNotFound
from edge.picture.images import read_image
from edge.picture.preprocess import resize
from edge.picture.view import View

# Below this the spread of good scores cannot be told at all: two are held out, six are left to learn from.
MIN_GOOD_IMAGES = 8

# Two scores are the least that have a spread.
MIN_HELD_OUT = 2

Images = npt.NDArray[np.uint8]  # (N, h, w, 3), BGR


def open_dataset(
    root: Path, minimum: int = MIN_GOOD_IMAGES, mask: Path | None = None, view: View | None = None
) -> Dataset:
    """Find the pictures under `root`; they are read only where `view` has a mask, to know it by its look.

    `minimum` is how many good pictures must be there to learn from; with 0 a set that has only test
    pictures is accepted. The file `mask` and the mask of `view` are no good parts. Raises DataError naming
    the folder where there is nothing to use, or where it is not clear which pictures are meant.
    """
    if not root.is_dir():
        what = "this is a file, not a folder" if root.exists() else "the folder does not exist"
        raise DataError(what, str(root), f"Give a folder with {LAYOUTS}.")
    dataset = _without_masks(find_pictures(root), mask, view)
    inside = dataset.layout == "plain" and any(path.parent != root for path in dataset.train)
    if inside and root.resolve().name == "test":
        what = "these are test pictures, which must not be learnt from"
        raise DataError(what, str(root), f"Give the folder above: {root.resolve().parent}")
    if not dataset.train and (minimum > 0 or not dataset.test):
        raise _no_good_pictures(root)
    if minimum > 0 or not dataset.test:
        _check_one_place(dataset)
    if len(dataset.train) < minimum:
        count = "1 picture" if len(dataset.train) == 1 else f"{len(dataset.train)} pictures"
        what = f"only {count} of good parts, at least {minimum} are needed"
        raise DataError(
            what, str(dataset.train[0].parent), "Add pictures of good parts; 50 or more work well."
        )
    return dataset


def _without_masks(dataset: Dataset, mask: Path | None, view: View | None) -> Dataset:
    def shows_a_part(path: Path) -> bool:
        if mask is not None and path.resolve() == mask.resolve():
            return False
        return view is None or not is_mask(path, view)

    return replace(
        dataset,
        train=[*filter(shows_a_part, dataset.train)],
        validation=[*filter(shows_a_part, dataset.validation)],
        test=[image for image in dataset.test if image.kind != "good" or shows_a_part(image.path)],
    )


def _check_one_place(dataset: Dataset) -> None:
    """Raises DataError where good pictures lie in several folders, of which only some may be meant."""
    places = Counter(path.parent for path in dataset.train)
    if len(places) > 1:
        what = "good pictures lie in several places: " + ", ".join(f"{n} in {p}" for p, n in places.items())
        raise DataError(
            what, str(dataset.root), "Move those to learn from into one of them, the others away."
        )


def split_held_out(
    paths: Sequence[Path], validation: Sequence[Path], seed: int, share: float = 1 / 7
) -> tuple[list[Path], list[Path]]:
    """Divide good pictures into (train, held_out); the held-out ones set normalisation and thresholds.

    The set's own validation pictures are used where there are enough of them: as many as the share, or FEW.
    Else a seeded share of all is held out. Both parts keep their order. NOT guaranteed: that the parts are
    unlike each other; of several pictures of one and the same part, some may land on either side and make
    the limits too tight.
    """
    pool = [*paths, *validation]
    count = min(max(MIN_HELD_OUT, round(len(pool) * share)), len(pool) - 1)
    if len(validation) >= max(MIN_HELD_OUT, min(FEW, count)):
        return list(paths), list(validation)
    chosen = set(np.random.default_rng(seed).permutation(len(pool))[: max(count, 0)].tolist())
    train = [path for i, path in enumerate(pool) if i not in chosen]
    return train, [path for i, path in enumerate(pool) if i in chosen]


def load_images(paths: Sequence[Path], view: View, sizes: Counter[tuple[int, int]] | None = None) -> Images:
    """Read pictures as the station would see them: uint8 (N, h, w, 3) BGR of the view's size.

    `sizes`, where given, counts the (height, width) the files had, so that the caller can mention a mixed
    set. Raises DataError naming the first file that cannot be used, PartNotFound naming all in which the
    part does not lie where it should.
    """
    images = np.empty((len(paths), *view.size, 3), np.uint8)
    lost: dict[Path, PartNotFound] = {}
    for i, path in enumerate(paths):
        try:
            images[i] = load_image(path, view, sizes)
        except PartNotFound as error:
            lost[path] = error
    if lost:
        raise _parts_not_found(lost, len(paths))
    return images


def load_image(
    path: Path, view: View, sizes: Counter[tuple[int, int]] | None = None
) -> npt.NDArray[np.uint8]:
    """One picture, as in `load_images`: uint8 (h, w, 3) BGR."""
    return resize(open_image(path, view, sizes), view.size)


def open_image(
    path: Path, view: View, sizes: Counter[tuple[int, int]] | None = None
) -> npt.NDArray[np.uint8]:
    """The same in camera pixels: uint8 (H, W, 3) BGR, as `View.shown` gives it."""
    pixels = read_image(path)
    if sizes is not None:
        sizes[pixels.shape[0], pixels.shape[1]] += 1
    with naming(path):
        return view.shown(pixels)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A picture that does not fit the view: say which one it is."""
    try:
        yield
    except DataError as error:
        raise type(error)(error.what, f"{path}: {error.where}", error.next_step) from error


def dataset_digest(paths: Sequence[Path]) -> str:
    """Hex sha256 over names and contents; the same after the folder was copied or moved, and in any order."""
    base = os.path.commonpath([p.resolve().parent for p in paths]) if paths else ""
    lines = [f"{p.resolve().relative_to(base).as_posix()}\0{content_digest(p)}\n" for p in paths]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def content_digest(path: Path) -> str:
    """Hex sha256 of one picture's file: the same under any name. Raises DataError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"the picture cannot be read: {error}", str(path), "Remove or replace it.") from error


def _parts_not_found(lost: Mapping[Path, PartNotFound], count: int) -> PartNotFound:
    groups = by_advice(lost)
    what = f"in {len(lost)} of {count} pictures the part cannot be aligned: {'; '.join(map(cause, groups))}"
    hints = " ".join(first.next_step for _, first in groups)
    return PartNotFound(what, f"first: {next(iter(lost))}", f"Remove them, or: {hints}")


def _no_good_pictures(root: Path) -> DataError:
    if sets := sets_inside(root):
        what = f"this folder holds {len(sets)} data sets, not one"
        return DataError(what, str(root), f"Choose one of: {', '.join(sets[:15])}.")
    hint = f"Point at the folder of good parts, or name it good or OK. Known: {LAYOUTS}."
    return DataError("there are no pictures of good parts", str(good_folder(root)), hint)
