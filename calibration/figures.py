"""The figures of one evaluation, as the report and the command line show them."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import PartNotFound
from edge.frame import AnomalyMap
from edge.recipe import Recipe
from edge.verdict import Outcome, Reason

EXAMPLES = 8  # pictures shown: of the worst misses, and of the worst false rejects
MOST_EXAMPLES = 24  # where there are so many types of anomalies: one of each


@dataclass(frozen=True, slots=True)
class Judged:
    """One test picture: its `kind` ("good" or a type), what the model said, what the station would do."""

    path: Path
    kind: str
    score: float  # infinity where the model gave no number: it would not pass
    peak: float  # largest value of the anomaly map
    outcome: Outcome
    infer_ms: float  # NaN where the part was not found
    size: tuple[int, int] = (0, 0)  # of the file: height, width in pixels
    unfit: Reason | None = None  # why the station would not judge such a picture
    lost: PartNotFound | None = None  # it was not judged: the part does not lie where it should

    @property
    def is_good(self) -> bool:
        return self.kind == "good"


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All figures; rates and areas are 0..1, NaN (null in JSON) where the set cannot tell."""

    dataset: str
    recipe: Recipe
    backend: str
    images: list[Judged]
    image_auroc: float
    image_auroc_interval: tuple[float, float]
    image_auroc_of_map_maximum: float
    pixel_auroc: float
    au_pro: float
    au_spro: float
    au_spro_per_type: Mapping[str, float]
    per_type: Mapping[str, float]  # good against this type
    map_limit: float  # on the map's scale: where good parts end; for heat maps, not for verdicts
    maps: Mapping[Path, AnomalyMap]  # of the worst pictures only
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> list[Judged]:
        return [image for image in self.images if image.is_good]

    def of_type(self, kind: str) -> list[Judged]:
        """The pictures of one type."""
        return [image for image in self.images if image.kind == kind]

    @property
    def n_anomalous(self) -> int:
        return len(self.images) - len(self.good)

    @property
    def false_reject_rate(self) -> float:
        """Share of the good test parts that the station would not pass."""
        return _share_rejected(self.good)

    def detection_rate(self, kind: str) -> float:
        """Share of one type's parts that the station would not pass."""
        return _share_rejected(self.of_type(kind))

    def latency_ms(self, quantile: float) -> float:
        """Of the inference alone, on this machine; NaN where no part was found."""
        times = [image.infer_ms for image in self.images if image.lost is None]
        return float(np.quantile(times, quantile)) if times else math.nan

    def to_json(self) -> str:
        """One JSON object; null where a figure cannot be told."""
        return json.dumps(_without_nan(self._fields()), indent=2, ensure_ascii=False, allow_nan=False)

    def _fields(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "recipe": self.recipe.identity,
            "backend": self.backend,
            "image_auroc": self.image_auroc,
            "image_auroc_interval": self.image_auroc_interval,
            "image_auroc_of_map_maximum": self.image_auroc_of_map_maximum,
            "pixel_auroc": self.pixel_auroc,
            "au_pro": self.au_pro,
            "au_spro": self.au_spro,
            "au_spro_per_type": dict(self.au_spro_per_type),
            "per_type": dict(self.per_type),
            "detection_rate": {kind: self.detection_rate(kind) for kind in self.per_type},
            "false_reject_rate": self.false_reject_rate,
            "n_good": len(self.good),
            "n_anomalous": self.n_anomalous,
            "n_per_type": {kind: len(self.of_type(kind)) for kind in self.per_type},
            "infer_ms": {"median": self.latency_ms(0.5), "p99": self.latency_ms(0.99)},
            "notes": self.notes,
        }


def worst_misses(images: list[Judged]) -> list[Judged]:
    """The anomalous pictures with the lowest scores, lowest first: the lowest of each type, then the second
    of each and so on, for else the hardest type alone would be seen."""
    lowest = sorted((i for i in images if not i.is_good), key=lambda i: i.score)
    turns, seen = [], Counter[str]()
    for image in lowest:
        turns.append(seen[image.kind])
        seen[image.kind] += 1
    most = min(max(EXAMPLES, len(seen)), MOST_EXAMPLES)
    chosen = sorted(range(len(lowest)), key=turns.__getitem__)[:most]
    return [lowest[i] for i in sorted(chosen)]


def worst_false_rejects(images: list[Judged]) -> list[Judged]:
    """The good pictures with the highest scores, highest first."""
    return sorted((i for i in images if i.is_good), key=lambda i: -i.score)[:EXAMPLES]


def _share_rejected(images: list[Judged]) -> float:
    if not images:
        return math.nan
    return sum(image.outcome is not Outcome.PASS for image in images) / len(images)


def _without_nan(value: Any) -> Any:
    """NaN and infinity are not JSON: null, at any depth."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _without_nan(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_nan(item) for item in value]
        case _:
            return value
