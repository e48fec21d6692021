"""Where pictures lie on disk: one finder for each layout.

    MVTec AD      train/good  validation/good (optional)  test/good  test/<type>
                  ground_truth/<type>/NAME.png or NAME_mask.png (any kind of picture); non-zero = anomalous
    MVTec LOCO    the same, but ground_truth/<type>/NAME/*.png: one file per anomaly; no types but its own two
    VisA          Data/Images/Normal  Data/Images/Anomaly  Data/Masks/Anomaly/NAME.png, as downloaded;
                  ../split_csv/1cls.csv says what is for training (prepared for "1cls": as MVTec AD)
    BTAD          as MVTec AD: train/ok  test/ok  test/ko  ground_truth/ko/NAME.png or NAME.bmp
    plain folder  the pictures directly (as `edge-inspect collect` writes them) or in good/

The folder of good parts may have any of GOOD_NAMES, in large letters too. Files that are not pictures are
passed over. Sources: Bergmann et al., IJCV 2021 (AD) and IJCV 2022 (LOCO); Zou et al., ECCV 2022 (VisA);
Mishra et al., ISIE 2021 (BTAD).
"""

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from edge.errors import DataError
from edge.picture.images import list_images

LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"  # the two types of LOCO AD
LAYOUTS = (
    "train/good and test/<type> (MVTec AD, LOCO AD, BTAD: good or ok), Data/Images/Normal (VisA), "
    "or a folder of pictures of good parts"
)
GOOD = "good"
GOOD_NAMES = (GOOD, "ok", "pass", "gut", "io", "i.o.")  # of a folder of good parts

VISA_TEST_SHARE = 0.1  # of the good pictures, where VisA's own split is not there: as in its own split
VISA_SEED = 0  # the same pictures every time: what was learnt from must never be judged
VISA_NOTE = (
    "VisA's own division is not there (../split_csv/1cls.csv with this product): a tenth of the good "
    "pictures is kept for the test, so figures are not comparable with published ones."
)

Layout = Literal["mvtec", "loco", "visa", "plain"]


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One test picture; `kind` is "good" or the anomaly's type, `masks` is empty where there are none."""

    path: Path
    kind: str
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """What was found under `root`; every list is sorted by name, nothing has been decoded yet."""

    root: Path
    layout: Layout
    train: list[Path]
    validation: list[Path] = field(default_factory=list)
    test: list[LabelledImage] = field(default_factory=list)
    note: str = ""  # what a person must know of how it was divided

    @property
    def name(self) -> str:
        """The folder's name, for reports."""
        return self.root.resolve().name


def find_pictures(root: Path) -> Dataset:
    """The data set under the folder `root`, by the first layout that fits; its lists may be empty.

    Pictures in the folder itself or in good/ are good ones in every layout. Raises DataError for a folder or
    a list of VisA's that cannot be read.
    """
    found = _find(root)
    return replace(found, train=[*found.train, *_images(root), *_good_images(root)])


def _find(root: Path) -> Dataset:
    if (root / "Data" / "Images").is_dir():
        return _find_visa(root)
    return _find_mvtec(root) if _has_mvtec_folders(root) else Dataset(root, "plain", [])


def sets_inside(root: Path) -> list[str]:
    """Names of the folders in `root` that are data sets of their own."""
    return [f.name for f in _subfolders(root) if find_pictures(f).layout != "plain"]


def folders_beside_good(root: Path) -> list[str]:
    """Names of folders with pictures in a plain set that are neither its good ones nor read at all."""
    return [f.name for f in _subfolders(root) if not _is_good(f) and (_images(f) or _good_images(f))]


def good_folder(root: Path) -> Path:
    """Where the good pictures of a set without any are missed."""
    return root / "train" / "good" if _has_mvtec_folders(root) else root


def _has_mvtec_folders(root: Path) -> bool:
    return (root / "train").is_dir() or (root / "test").is_dir()


def _find_mvtec(root: Path) -> Dataset:
    test = [
        image for folder in _subfolders(root / "test")
        for image in _labelled(folder, _kind(folder), root / "ground_truth" / folder.name)
    ]  # fmt: skip
    kinds = {image.kind for image in test} - {GOOD}
    is_loco = bool(kinds) and kinds <= {LOGICAL, STRUCTURAL}
    return Dataset(
        root,
        "loco" if is_loco else "mvtec",
        _good_images(root / "train"),
        _good_images(root / "validation"),
        test,
    )


def _is_good(folder: Path) -> bool:
    return folder.name.lower() in GOOD_NAMES


def _good_images(folder: Path) -> list[Path]:
    return [path for sub in _subfolders(folder) if _is_good(sub) for path in _images(sub)]


def _find_visa(root: Path) -> Dataset:
    images, masks = root / "Data" / "Images", root / "Data" / "Masks" / "Anomaly"
    normal, note = _images(images / "Normal"), ""
    if not (held := _visa_test_pictures(root)):
        held, note = _seeded_share(normal), VISA_NOTE
    test = [LabelledImage(path, GOOD) for path in normal if path.name in held]
    test += _labelled(images / "Anomaly", "anomaly", masks)
    return Dataset(root, "visa", [p for p in normal if p.name not in held], test=test, note=note)


def _visa_test_pictures(root: Path) -> set[str]:
    """Names of the good pictures that VisA's own split keeps for the test; empty where there is no split."""
    path = root.resolve().parent / "split_csv" / "1cls.csv"
    if not path.is_file():
        return set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["object"] == root.resolve().name]
            return {Path(r["image"]).name for r in rows if (r["split"], r["label"]) == ("test", "normal")}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        hint = "Take it from VisA's download, or remove it: a tenth is then kept for the test."
        raise DataError(f"VisA's list of pictures cannot be read: {error!r}", str(path), hint) from error


def _seeded_share(normal: list[Path]) -> set[str]:
    order = np.random.default_rng(VISA_SEED).permutation(len(normal))
    return {normal[i].name for i in order[: round(len(normal) * VISA_TEST_SHARE)]}


def _kind(folder: Path) -> str:
    return GOOD if _is_good(folder) else folder.name


def _labelled(folder: Path, kind: str, truth: Path) -> list[LabelledImage]:
    """The pictures in `folder` with their masks in `truth`."""
    files = {path.stem: path for path in _images(truth)}
    return [LabelledImage(path, kind, _masks(truth, files, path.stem)) for path in _images(folder)]


def _masks(truth: Path, files: dict[str, Path], name: str) -> tuple[Path, ...]:
    """The mask files of a picture, of LOCO a folder of them; a good part has none."""
    if (truth / name).is_dir():
        return tuple(_images(truth / name))
    found = files.get(name) or files.get(f"{name}_mask")
    return (found,) if found else ()


def _images(folder: Path) -> list[Path]:
    try:
        return list_images(folder) if folder.is_dir() else []
    except OSError as error:
        raise DataError(
            f"the folder cannot be read: {error}", str(folder), "Check its permissions."
        ) from error


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
