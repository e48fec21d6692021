"""The whole detector as one module: camera pixels in, anomaly map and score out. This is what is exported."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.affinity import MEASURES, affinity_error
from distillation.mapfusion import MapFusion
from distillation.score import LENGTH, ScoreFusion
from distillation.students import LOCAL_STUDENTS, SCALES, GlobalStudent
from distillation.teacher import Teacher
from distillation.wholes import Cells, Distance, WordHistogram, places_of, pooled

BRANCHES = ("local", "global", "affinity")


@dataclass(frozen=True)
class DetectorConfig:
    """What the network looks like; everything here is our reading unless docs/method.md says otherwise."""

    teacher: str = "efficientnet-lite0"
    input_size: tuple[int, int] = (384, 384)  # height, width; multiples of 32
    local_student: str = "forward"
    measure: str = "squared"
    width: int = 256  # channels at stride 32 of fusion and decoder
    bottleneck: str = "convolution"  # how the GCCB condenses
    context: int = 256  # length of the GCCB's context vector
    heads: int = 8  # of a GCCB with attention
    context_grid: int = 8  # affinity against grid x grid context places
    branches: tuple[str, ...] = BRANCHES  # whose maps count
    normalisation: str = "place"  # of the maps: place, quantile, deviation
    fusion: str = "max"  # of scales and branches: max, trusted, sum, reliability
    local_apart: bool = True  # the local student's map has its own part in the score
    pooled_distance: bool = True  # and the Mahalanobis distance of pooled teacher features
    word_distance: bool = True  # and that of the word histogram
    deep_distance: bool = True  # and that of the stride-32 map's quarters, where the teacher has one
    score_fusion: str = LENGTH  # of the score's parts
    smoothing: float = 1.0  # standard deviation in places of the finest map
    top_share: float = 0.005  # the score is the mean of this share of the map's places


class Detector(nn.Module):
    """Teacher, both students, map normalisation, fusion and score.

    The buffers are fitted after training (`distillation/fit.py`); until then the map is raw.
    """

    def __init__(self, teacher: Teacher, config: DetectorConfig):
        super().__init__()
        height, width = config.input_size
        self.config, self.teacher = config, teacher
        self.error = MEASURES[config.measure]
        self.local = LOCAL_STUDENTS[config.local_student](teacher.channels[:SCALES])
        self.globl = GlobalStudent(
            teacher.channels[:SCALES], (height // 32, width // 32), config.width, config.context,
            config.bottleneck, config.heads,
        )  # fmt: skip
        for k, c in enumerate(teacher.channels):
            self.register_buffer(f"mean{k}", torch.zeros(1, c, 1, 1))
            self.register_buffer(f"std{k}", torch.ones(1, c, 1, 1))
        sheets = [(branch, k) for branch in config.branches for k in self._targets(branch)]
        sizes = [(height // teacher.strides[k], width // teacher.strides[k]) for _, k in sheets]
        self.fusion = MapFusion([branch for branch, _ in sheets], sizes, config)
        self.words = WordHistogram(teacher.channels[0], (height // 4, width // 4))
        self.quarters = Cells((height // 32, width // 32), (2,))
        deep = config.deep_distance and len(teacher.channels) > SCALES
        distances = (("pooled", config.pooled_distance, 2 * sum(teacher.channels[:SCALES])),
                     ("words", config.word_distance, self.words.length),
                     ("deep", deep, 4 * teacher.channels[-1]))  # fmt: skip
        self.distances = nn.ModuleDict({name: Distance(length) for name, on, length in distances if on})
        apart = ["local"] if config.local_apart and "local" in config.branches else []
        self.score = ScoreFusion(["map", *apart, *self.distances], config.score_fusion)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, H, W, 3) BGR -> anomaly_map (B, H, W) float, score (B,) float."""
        maps = self.standardise(self.teacher(pixels))
        places, branches = self.fusion(self.errors(maps))
        parts = self.map_parts(places, branches)
        parts |= {name: distance(self.whole(name, maps)) for name, distance in self.distances.items()}
        score = self.score(torch.stack([parts[name] for name in self.score.names], dim=1))
        anomaly_map = F.interpolate(places.unsqueeze(1), self.config.input_size, mode="bilinear")
        return anomaly_map.squeeze(1), score

    def standardise(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Every channel to mean 0 and standard deviation 1 over the training pictures."""
        return [(m - getattr(self, f"mean{k}")) / getattr(self, f"std{k}") for k, m in enumerate(maps)]

    def errors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Standardised teacher maps -> raw error maps (B, h_k, w_k), branch by branch, scale by scale."""
        branches = self.config.branches
        local = self.local(maps) if "local" in branches else []
        globl = self.globl(maps) if {"global", "affinity"} & set(branches) else []
        students = {"local": local, "global": globl, "affinity": globl}
        grid = self.config.context_grid
        sheets = []
        for branch in branches:
            for k, y in zip(self._targets(branch), students[branch], strict=True):
                affine = branch == "affinity"
                sheets.append(affinity_error(maps[k], y, grid) if affine else self.error(maps[k], y))
        return sheets

    def map_parts(self, places: Tensor, branches: Tensor) -> dict[str, Tensor]:
        """Parts of the score from the maps (B, h, w) and (B, branches, h, w): name -> (B,)."""
        parts = {"map": self.map_score(places)}
        if "local" in self.score.names:
            parts["local"] = self.map_score(branches[:, self.fusion.names.index("local")])
        return parts

    def whole(self, name: str, maps: Sequence[Tensor]) -> Tensor:
        """What one of the distances looks at, of the standardised teacher maps: (B, length)."""
        match name:
            case "pooled":
                return pooled(maps)
            case "words":
                return self.words(maps[0])
            case _:  # deep: the coarsest map, averaged in each quarter of the picture
                return self.quarters(places_of(maps[-1]))

    def map_score(self, places: Tensor) -> Tensor:
        """Mean of the largest share of places: (B, h, w) -> (B,). One noisy place alone decides nothing."""
        flat = places.flatten(1)
        return flat.topk(max(1, int(flat.shape[1] * self.config.top_share)), dim=1).values.mean(dim=1)

    def _targets(self, branch: str) -> tuple[int, ...]:
        return self.local.targets if branch == "local" else self.globl.targets
