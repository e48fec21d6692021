"""A data set of our own with logical and structural anomalies.

    python benchmarks/trays.py OUT [--good 200] [--seed 0] [--shared]

Trays with six compartments in MVTec LOCO AD's layout. What belongs where stands in tray/rules.py. The files'
names begin with the kind of anomaly; OUT/defects_config.json says how much of each has to be marked.

Each anomaly is made on trays of its own. With `--shared`, as the set of the published figures was drawn
(`--seed 7 --shared`), all mistakes are made on the same 13 trays and all damage on 13 others: 26 trays, not
130, and whoever counts pictures as independent gets intervals that are too narrow.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tray.items import area_of
from tray.picture import LOGICAL, STRUCTURAL, Photo, photograph

from calibration.localisation import DEFECTS_FILE

BAD = 13  # pictures of each kind of anomaly
QUALITY = 95
# Kinds of which only as much as one such thing has to be marked: where it should lie is not known to a pixel,
# or which of several is the wrong one. All others have to be marked whole.
_ONE_THING = ("count_washer", "count_screw", "missing_cap", "missing_cable", "missing_label",
              "combination_cap", "combination_cable", "combination_label", "colour_clip")  # fmt: skip
DEFECTS = (*_ONE_THING, "surplus", "position", *STRUCTURAL)


class Part(NamedTuple):
    """One folder of the data set: which trays are in it."""

    folder: str
    anomalies: tuple[str, ...]
    each: int  # pictures of each anomaly
    first: int  # index of the first tray: no tray is in two folders
    step: int = 0  # from one anomaly's first tray to the next one's: 0 where they share their trays


def parts_of(good: int, bad: int = BAD, shared: bool = False) -> tuple[Part, ...]:
    """The whole data set: `good` pictures to learn from, `bad` of each kind of anomaly."""
    step = 0 if shared else bad
    damaged = 3 * good + bad + (len(LOGICAL) - 1) * step
    return (
        Part("train/good", ("",), good, 0),
        Part("validation/good", ("",), max(2, good // 4), good),
        Part("test/good", ("",), max(2, good // 3), 2 * good),
        Part("test/logical_anomalies", LOGICAL, bad, 3 * good, step),
        Part("test/structural_anomalies", STRUCTURAL, bad, damaged, step),
    )


def pixel_value(defect: str) -> int:
    """Of a defect's masks: 255 for the first, 254 for the next."""
    return 255 - DEFECTS.index(defect)


def defects_config() -> list[dict[str, Any]]:
    """MVTec LOCO AD's list of defects."""
    return [
        {
            "defect_name": name,
            "pixel_value": pixel_value(name),
            "saturation_threshold": area_of(name.partition("_")[2]) if name in _ONE_THING else 1.0,
            "relative_saturation": name not in _ONE_THING,
        }
        for name in DEFECTS
    ]


def trays_of(part: Part, seed: int) -> Iterator[tuple[str, Photo]]:
    """(name without ending, photograph) of everything in a folder."""
    for number, anomaly in enumerate(part.anomalies):
        for i in range(part.each):
            name = f"{anomaly}_{i:03}" if anomaly else f"{i:03}"
            yield name, photograph(seed, part.first + number * part.step + i, anomaly)


def write_part(out: Path, part: Part, seed: int) -> None:
    """Pictures, and a mask for each anomaly."""
    folder = out / part.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, photo in trays_of(part, seed):
        cv2.imwrite(str(folder / f"{name}.jpg"), photo.pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if photo.defect:
            masks = out / "ground_truth" / folder.name / name
            masks.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(masks / "000.png"), photo.mask // 255 * pixel_value(photo.defect))


def write_set(out: Path, parts: tuple[Part, ...], seed: int) -> None:
    """All folders, and the list of defects."""
    for part in parts:
        write_part(out, part, seed)
    (out / DEFECTS_FILE).write_text(json.dumps(defects_config(), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--good", type=int, default=200, help="pictures to learn from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shared", action="store_true", help="all mistakes on the same 13 trays, as published"
    )
    arguments = parser.parse_args()
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"{arguments.out} is not empty: give a new folder, so that two data sets do not mix")
    write_set(arguments.out, parts_of(arguments.good, shared=arguments.shared), arguments.seed)


if __name__ == "__main__":
    main()
