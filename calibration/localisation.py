"""Ground truth masks, and how well anomaly maps fit them.

Maps are compared with masks at the mask's own resolution, as both MVTec protocols ask: the mask is cut to the
region of interest (and laid onto the reference, as the picture was), the map enlarged bilinearly to it. What
lies outside the region, or where the view's mask says "ignore", is nobody's miss and nobody's false alarm.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from calibration.layouts import LOGICAL, STRUCTURAL, Dataset, LabelledImage
from calibration.pixel_metrics import Mask, PixelCounts, Region, connected_regions
from edge.errors import DataError
from edge.frame import AnomalyMap, Pixels
from edge.picture.align import Pose
from edge.picture.images import read_labels
from edge.picture.view import View

PRO_LIMIT = 0.3  # false positive rate up to which AU-PRO integrates (MVTec AD)
SPRO_LIMIT = 0.05  # the same for AU-sPRO (MVTec LOCO AD's headline)
DEFECTS_FILE = "defects_config.json"

MaskValues = npt.NDArray[np.uint8]  # (H, W), zero where nothing is wrong


@dataclass(frozen=True, slots=True)
class Defect:
    """One entry of LOCO's defects_config.json: how much of such an anomaly has to be marked.

    `saturation` is a share of the anomaly's area where `relative`, else a number of pixels.
    """

    name: str
    saturation: float
    relative: bool

    def region(self, mask: Mask) -> Region:
        """The mask with its saturation area in pixels, never more than the whole anomaly."""
        area = int(mask.sum())
        wanted = int(self.saturation * area) if self.relative else int(self.saturation)
        return Region(mask, min(wanted, area))


@dataclass(slots=True, eq=False)
class Localisation:
    """Counts a data set's maps one picture at a time, then gives the pixel figures."""

    defects: Mapping[int, Defect] | None  # by pixel value; None where the set is not LOCO
    view: View
    unmasked: int = 0  # anomalous pictures without a mask: left out
    _counts: dict[str, PixelCounts] = field(default_factory=dict)

    def add(self, image: LabelledImage, anomaly_map: AnomalyMap, pixels: Pixels) -> None:
        """Count the map (h, w) of one picture (H, W, 3) as the file has it.

        Raises DataError when a mask does not fit the picture or LOCO's list of defects.
        """
        if image.kind != "good" and not image.masks:
            self.unmasked += 1
            return
        pose = self.view.pose(pixels)
        masks = [_read_mask(path, pixels, self.view, pose) for path in image.masks]
        width, height = self.view.roi[2:] if self.view.roi else (pixels.shape[1], pixels.shape[0])
        enlarged = np.asarray(cv2.resize(anomaly_map, (width, height)), np.float32)  # bilinear
        key = "good" if self.defects is None else image.kind
        counts = self._counts.setdefault(key, PixelCounts())
        if self.defects is None:
            regions = connected_regions(_union(masks, height, width))
        else:
            regions = [self._region(mask, path) for mask, path in zip(masks, image.masks, strict=True)]
        counts.add(*_looked_at(enlarged, [r for r in regions if r.mask.any()], self.view.mask))

    def pixel_auroc(self) -> float:
        """Over all pixels of all pictures; NaN without masks."""
        return self._total().pixel_auroc()

    def au_pro(self) -> float:
        """MVTec AD's figure, 0..1; NaN without masks and for LOCO sets, whose figure is `au_spro`."""
        return math.nan if self.defects is not None else self._total().area_under_overlap(PRO_LIMIT)

    def au_spro(self, kind: str) -> float:
        """LOCO's figure for good pictures and those of one kind, 0..1; NaN for other sets."""
        if self.defects is None or kind not in self._counts:
            return math.nan
        good = self._counts.get("good", PixelCounts())
        return (good + self._counts[kind]).area_under_overlap(SPRO_LIMIT)

    def _total(self) -> PixelCounts:
        return sum(self._counts.values(), PixelCounts())

    def _region(self, values: MaskValues, path: Path) -> Region:
        assert self.defects is not None
        mask = values > 0
        value = int(values.max())
        if value and value not in self.defects:
            hint = f"Take {DEFECTS_FILE} and ground_truth from one download."
            raise DataError(f"mask value {value} is not in {DEFECTS_FILE}", str(path), hint)
        return self.defects[value].region(mask) if value else Region(mask, 1)


def open_localisation(dataset: Dataset, view: View) -> Localisation | None:
    """Ready to count this set's maps; None where it has no masks at all. Raises DataError."""
    if not any(image.masks for image in dataset.test):
        return None
    return Localisation(read_defects(dataset.root) if dataset.layout == "loco" else None, view)


def read_defects(root: Path) -> dict[int, Defect]:
    """LOCO's defects_config.json: mask value -> Defect. Raises DataError where it is missing or broken."""
    path = root / DEFECTS_FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            int(e["pixel_value"]): Defect(
                str(e["defect_name"]), float(e["saturation_threshold"]), bool(e["relative_saturation"])
            )
            for e in entries
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "It lies beside train/ and test/ in MVTec's download: copy it from there."
        raise DataError(f"LOCO's list of defects cannot be read: {error!r}", str(path), hint) from error


def mean_of_kinds(values: Mapping[str, float]) -> float:
    """LOCO's one figure: half the sum of logical and structural; NaN unless both are there."""
    return (values.get(LOGICAL, math.nan) + values.get(STRUCTURAL, math.nan)) / 2


def _read_mask(path: Path, pixels: Pixels, view: View, pose: Pose | None) -> MaskValues:
    """Mask values uint8 (H, W), as the view shows its picture; 0 where it says "ignore"."""
    values = read_labels(path)
    size = pixels.shape[:2]
    if values.shape != size:
        what = f"the mask is {values.shape[1]}x{values.shape[0]}, its picture {size[1]}x{size[0]}"
        raise DataError(what, str(path), "Take masks of the pictures' own size.")
    window = view.window(values, pose, labels=True)
    return window if view.mask is None else np.where(view.mask > 0, window, np.uint8(0))


def _looked_at(
    values: AnomalyMap, regions: list[Region], mask: MaskValues | None
) -> tuple[AnomalyMap, list[Region]]:
    """Map and regions without the pixels that the view ignores."""
    if mask is None:
        return values, regions
    inside = mask > 0
    return values[inside], [Region(region.mask[inside], region.saturation) for region in regions]


def _union(masks: list[MaskValues], height: int, width: int) -> Mask:
    return np.any([mask > 0 for mask in masks], axis=0) if masks else np.zeros((height, width), bool)
