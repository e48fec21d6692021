"""What the ablation compares: each row is the default with something changed.

Names are fixed and without commas. A name for what is the default today (`input 384`) means the default.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from distillation import affinity
from distillation.detector import DetectorConfig
from distillation.mapfusion import FUSIONS
from distillation.score import SCORE_FUSIONS, SUM
from distillation.train import TrainConfig

DEFAULT = "default"
# What the weights of the students depend on; everything else is fitted after the training.
LEARNT = ("teacher", "input_size", "local_student", "measure", "width", "bottleneck", "context", "heads",
          "context_grid")  # fmt: skip
_OF_TRAINING = {f.name for f in fields(TrainConfig)}


@dataclass(frozen=True)
class Row:
    """`changes` are fields of DetectorConfig and TrainConfig."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    steps_times: int = 1
    norm_floor: float = affinity.NORM_FLOOR  # a constant of the method, not an option: set while the row runs

    def detector(self) -> DetectorConfig:
        return replace(DetectorConfig(), **{k: v for k, v in self.changes.items() if k not in _OF_TRAINING})

    def training(self, steps: int) -> TrainConfig:
        changed = {k: v for k, v in self.changes.items() if k in _OF_TRAINING}
        return replace(TrainConfig(steps=steps * self.steps_times), **changed)

    def facts(self, steps: int) -> dict[str, Any]:
        """Everything that makes this row what it is."""
        return {"detector": asdict(self.detector()), "training": asdict(self.training(steps)),
                "norm_floor": self.norm_floor}  # fmt: skip

    def learnt(self, steps: int) -> dict[str, Any]:
        """The part of `facts` that its students rest on: rows with the same share one training."""
        facts = self.facts(steps)
        return facts | {"detector": {name: facts["detector"][name] for name in LEARNT}}

    @contextmanager
    def constants(self) -> Iterator[None]:
        """The method's constants as the row wants them."""
        kept, affinity.NORM_FLOOR = affinity.NORM_FLOOR, self.norm_floor
        try:
            yield
        finally:
            affinity.NORM_FLOOR = kept


def _rows(label: str, option: str, values: Mapping[str, Any]) -> list[Row]:
    return [Row(f"{label} {name}".strip(), {option: value}) for name, value in values.items()]


_FITTED = [
    *_rows("", "branches", {"local only": ("local",), "global only": ("global",),
                            "affinity only": ("affinity",), "without affinity": ("local", "global"),
                            "all branches": ("local", "global", "affinity")}),
    *_rows("normalisation", "normalisation", {name: name for name in ("place", "quantile", "deviation")}),
    *_rows("fusion", "fusion", {name: name for name in FUSIONS}),
    Row("local not apart", {"local_apart": False}),
    Row("local only not apart", {"branches": ("local",), "local_apart": False}),
    *_rows("score", "score_fusion", {name: name for name in SCORE_FUSIONS}),
    Row("score sum local not apart", {"score_fusion": SUM, "local_apart": False}),
    Row("without pooled distance", {"pooled_distance": False}),
    Row("without words", {"word_distance": False}),
    Row("without stride 32", {"deep_distance": False}),
    Row("map alone", {"local_apart": False, "pooled_distance": False, "word_distance": False,
                      "deep_distance": False}),
    *_rows("top share", "top_share", {"1 place": 0.0, "0.1 %": 0.001, "0.5 %": 0.005, "2 %": 0.02}),
    *_rows("smoothing", "smoothing", {str(sigma): sigma for sigma in (0.5, 1.0, 2.0)}),
]  # fmt: skip
_TRAINED = [
    *_rows("local student", "local_student", {name: name for name in ("reverse", "forward")}),
    *_rows("measure", "measure", {name: name for name in ("cosine", "squared")}),
    *_rows("hard weight", "hard_weight", {"0": 0.0}),
    *_rows("affinity weight", "affinity_weight", {"0": 0.0, "3": 3.0}),
    Row("affinity off", {"affinity_weight": 0.0, "branches": ("local", "global")}),
    *_rows("bottleneck", "bottleneck", {name: name for name in ("none", "convolution")}),
    Row("bottleneck attention 8 heads", {"bottleneck": "attention", "heads": 8}),
    *_rows("teacher", "teacher", {f"lite{n}": f"efficientnet-lite{n}" for n in (0, 1, 2)}),
    *_rows("input", "input_size", {str(side): (side, side) for side in (256, 384, 512)}),
    Row("steps x 3", steps_times=3),
    Row("measure both", {"measure": "both"}),
    Row("measure both local only", {"measure": "both", "branches": ("local",)}),
    Row("measure both without affinity", {"measure": "both", "branches": ("local", "global")}),
    Row("measure both trusted", {"measure": "both", "fusion": "trusted"}),
    Row("norm floor 0", norm_floor=0.0),
    *_rows("context grid", "context_grid", {str(grid): grid for grid in (4, 8, 16)}),
    *_rows("context", "context", {str(length): length for length in (32, 256, 512)}),
    Row("bottleneck attention 1 head", {"bottleneck": "attention", "heads": 1}),
    Row("bottleneck attention 32 heads", {"bottleneck": "attention", "heads": 32}),
]
_BASE = Row(DEFAULT)
_SAME = {row.name for row in (*_FITTED, *_TRAINED) if row.facts(1) == _BASE.facts(1)}
ROWS = [_BASE, *(row for row in (*_FITTED, *_TRAINED) if row.name not in _SAME)]  # none twice
BY_NAME = {row.name: row for row in ROWS} | dict.fromkeys(_SAME, _BASE)
