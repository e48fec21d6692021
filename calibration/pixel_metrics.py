"""Figures for the place of an anomaly: pixel AUROC, AU-PRO (MVTec AD), AU-sPRO (MVTec LOCO AD).

Pictures are counted one at a time and forgotten: what stays is a histogram of the anomaly-free pixels and,
for each anomalous region, its distinct values with their counts. So thousands of pictures need some tens of
megabytes, no limits have to be chosen beforehand, and nothing is sampled.

Values are counted in steps of 2^-11 of their size (a float32 cut to 11 bits of mantissa, whatever its range),
which moves these figures by less than 1e-4.

Definitions: PRO from Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021; sPRO from Bergmann
et al., "Beyond Dents and Scratches", IJCV 2022, whose published evaluation script settles what the text
leaves open (a false positive is a pixel that is anomaly-free in all masks of its picture; the mean goes over
all regions of all pictures; the curve is integrated by trapezoids and divided by the limit).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import AnomalyMap

Mask = npt.NDArray[np.bool_]  # (H, W), true where anomalous
Counts = npt.NDArray[np.int64]  # (KEYS,)
Keys = npt.NDArray[np.int64]
Rates = npt.NDArray[np.float64]

KEY_BITS = 20  # sign, 8 bits of exponent, 11 of mantissa
KEYS = 1 << KEY_BITS

# A monotone curve cut into this many steps of false positive rate is integrated to within 1/2 of a step.
CURVE_STEPS = 8192


@dataclass(frozen=True, slots=True)
class Region:
    """One anomaly. An overlap of `saturation` pixels (at least 1) counts as fully found."""

    mask: Mask
    saturation: int


@dataclass(frozen=True, slots=True)
class _Overlap:
    """A counted region: its distinct keys, rising, and how many pixels have each key or a larger one."""

    keys: Keys
    at_least: Counts
    saturation: int

    def share_from(self, limits: Keys) -> Rates:
        """Saturated overlap where everything from `limits` on is marked; (k,) in 0..1."""
        places = np.searchsorted(self.keys, limits, side="left")
        return np.minimum(self.at_least[places] / self.saturation, 1.0)


@dataclass(slots=True, eq=False)
class PixelCounts:
    """All that is remembered of the pictures seen so far."""

    normal: Counts = field(default_factory=lambda: np.zeros(KEYS, np.int64))
    anomalous: Counts = field(default_factory=lambda: np.zeros(KEYS, np.int64))
    regions: list[_Overlap] = field(default_factory=list)

    def add(self, anomaly_map: AnomalyMap, regions: Iterable[Region] = ()) -> None:
        """Count one picture; its map is (H, W) as the masks, no regions mean a good part.

        Raises ValueError when map and mask differ in size, or the map has NaN.
        """
        keys = sortable_keys(anomaly_map)
        marked = np.zeros(keys.shape, bool)
        for region in regions:
            if region.mask.shape != keys.shape:
                raise ValueError(f"map {keys.shape} and mask {region.mask.shape} differ in size")
            marked |= region.mask
            self.regions.append(_count_region(keys[region.mask], region.saturation))
        self.normal += np.bincount(keys[~marked], minlength=KEYS)
        if marked.any():
            self.anomalous += np.bincount(keys[marked], minlength=KEYS)

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        """The counts of both sets of pictures."""
        normal, anomalous = self.normal + other.normal, self.anomalous + other.anomalous
        return PixelCounts(normal, anomalous, self.regions + other.regions)

    @classmethod
    def of(cls, pictures: Iterable[tuple[AnomalyMap, Iterable[Region]]]) -> Self:
        """Count (map, regions) pairs, one at a time."""
        counts = cls()
        for anomaly_map, regions in pictures:
            counts.add(anomaly_map, regions)
        return counts

    def pixel_auroc(self) -> float:
        """AUROC over all pixels, ties count half; NaN where one kind is missing."""
        n_normal, n_anomalous = int(self.normal.sum()), int(self.anomalous.sum())
        if not n_normal or not n_anomalous:
            return float("nan")
        below = np.cumsum(self.normal) - self.normal / 2
        return float((below * self.anomalous).sum() / n_normal / n_anomalous)

    def area_under_overlap(self, limit: float) -> float:
        """Area under mean region overlap against false positive rate up to `limit`, divided by it.

        With saturation at the full area this is AU-PRO. NaN without regions or without normal pixels.
        """
        n_normal = int(self.normal.sum())
        if not self.regions or not n_normal:
            return float("nan")
        keys, rates = self._curve_points(n_normal, limit)
        before = np.mean([region.share_from(keys + 1) for region in self.regions], axis=0)
        after = np.mean([region.share_from(keys) for region in self.regions], axis=0)
        # All pixels of one key are marked together: two points for each key, straight lines between.
        x = np.column_stack([rates - self.normal[keys] / n_normal, rates]).ravel()
        y = np.column_stack([before, after]).ravel()
        return area_up_to(x, y, limit) / limit

    def _curve_points(self, n_normal: int, limit: float) -> tuple[Keys, Rates]:
        """Keys of normal pixels from high to low until `limit` is passed, thinned, and their rates."""
        keys = np.flatnonzero(self.normal)[::-1]
        rates = np.cumsum(self.normal[keys]) / n_normal
        end = int(np.searchsorted(rates, limit)) + 1
        keys, rates = keys[:end], rates[:end]
        steps = np.floor(rates * (CURVE_STEPS / limit))
        last_of_step = np.append(steps[1:] != steps[:-1], True)
        last_of_step[0] = True  # the curve starts at no false positive
        return keys[last_of_step], rates[last_of_step]


def pixel_auroc(maps: Iterable[AnomalyMap], masks: Iterable[Mask]) -> float:
    """AUROC over all pixels of all pictures; a mask without a true pixel is a good part."""
    return PixelCounts.of(_pairs(maps, masks)).pixel_auroc()


def au_pro(maps: Iterable[AnomalyMap], masks: Iterable[Mask], limit: float = 0.3) -> float:
    """Area under per-region overlap up to 30 % false positive rate, as MVTec AD; 0..1."""
    return PixelCounts.of(_pairs(maps, masks)).area_under_overlap(limit)


def au_spro(maps: Iterable[AnomalyMap], regions: Iterable[Iterable[Region]], limit: float = 0.05) -> float:
    """Area under saturated per-region overlap up to 5 % false positive rate, as MVTec LOCO AD; 0..1.

    LOCO reports it for good + logical and for good + structural pictures apart, and half their sum.
    """
    return PixelCounts.of(zip(maps, regions, strict=True)).area_under_overlap(limit)


def connected_regions(mask: Mask) -> Iterator[Region]:
    """The 8-connected parts of a mask, each saturated only when wholly found (MVTec AD's regions)."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    for i in range(1, count):
        part = labels == i
        yield Region(part, int(part.sum()))


def sortable_keys(values: AnomalyMap) -> Keys:
    """Whole numbers below KEYS in the order of the values: float32 bits, negative ones turned round.

    Raises ValueError on NaN, which has no place in an order.
    """
    if np.isnan(values).any():
        raise ValueError("the anomaly map has NaN")
    bits = np.ascontiguousarray(values + np.float32(0), np.float32).view(np.uint32)  # + 0 turns -0 into 0
    turned = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (turned >> (32 - KEY_BITS)).astype(np.int64)


def area_up_to(x: Rates, y: Rates, limit: float) -> float:
    """Area under a piecewise straight curve with rising x from 0 to `limit`, cut inside its last piece."""
    inside = x <= limit
    cut = float(np.interp(limit, x, y)) if not inside.all() else float(y[-1])
    x, y = np.append(x[inside], limit), np.append(y[inside], cut)
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def _count_region(keys: Keys, saturation: int) -> _Overlap:
    distinct, counts = np.unique(keys, return_counts=True)
    at_least = np.append(np.cumsum(counts[::-1])[::-1], 0)
    return _Overlap(distinct, at_least, max(saturation, 1))


def _pairs(
    maps: Iterable[AnomalyMap], masks: Iterable[Mask]
) -> Iterator[tuple[AnomalyMap, Iterable[Region]]]:
    return ((anomaly_map, connected_regions(mask)) for anomaly_map, mask in zip(maps, masks, strict=True))
