"""Four known detectors on our teacher's features, to compare with: what does our method add to the features?

Each is a module with the contract of `distillation.detector.Detector` (uint8 pixels in, map and score out),
so it is exported, given limits and judged by the very code that judges ours. `fit` sees the cached features
of good pictures only, `held` ones to tell how large errors are on parts never seen. Features are
standardised per channel over the pictures learnt from.

Neighbourhood feature, shared by the first two: every map up to stride 16 averaged over 3 x 3 places
(PatchCore) and brought to the stride-8 raster, concatenated: 176 channels with Lite0.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.normalisation import fit_gaussian
from distillation.detector import Detector, DetectorConfig
from distillation.features import FeatureCache
from distillation.fit import fit_constants
from distillation.learn import set_channel_statistics
from distillation.teacher import Teacher
from distillation.train import TrainConfig, Trainer, local_loss
from distillation.wholes import pooled

Rows = npt.NDArray[np.int64]  # of the feature cache

STRIDE = 8  # of the shared raster
BLUR = 4.0  # pixels: standard deviation on the map, as all three papers have it
CANDIDATES = 50_000  # places that the coreset is chosen from, drawn at random beforehand: seconds, not hours
# Of the candidates. PatchCore's 10 % is of all places: of those ours keeps 6.6 % with 33 pictures, 1.1 % with
# 200, 0.34 % with 632 (at 384 pixels), so on large sets it is weaker than the published one.
CORESET_SHARE = 0.10
PROJECTION = 128  # dimensions for choosing the coreset only, as in PatchCore's published code
PADIM_CHANNELS = 100  # drawn at random: PaDiM's number for its small network
PADIM_FLOOR = 0.01  # added to the diagonal, PaDiM's epsilon
BATCH = 8
NO_PIXELS = np.empty((0, 0, 0, 3), np.uint8)  # only fusion by reliability looks at held-out pictures again


class Baseline(nn.Module):
    """What all have in common; `fit` first. The detector lends teacher and standardisation."""

    localises = True  # whether the map says where

    def __init__(self, teacher: Teacher, config: DetectorConfig):
        super().__init__()
        self.config, self.detector = config, Detector(teacher, config)
        tail = float(np.exp(-0.5 * (STRIDE / BLUR) ** 2))
        line = torch.tensor([tail, 1.0, tail]) / (1 + 2 * tail)
        self.register_buffer("blur", (line[:, None] * line[None, :]).view(1, 1, 3, 3))

    def fit(self, cache: FeatureCache, rows: Rows, held: Rows, training: TrainConfig) -> None:
        """Learn from these rows of good pictures; random choices follow `training.seed`."""
        set_channel_statistics(self.detector, cache, rows)
        torch.manual_seed(training.seed)
        self.fit_maps(cache, rows, held, training)
        self.eval().requires_grad_(False)

    def fit_maps(self, cache: FeatureCache, rows: Rows, held: Rows, training: TrainConfig) -> None:
        """The baseline's own part of `fit`."""
        raise NotImplementedError

    def judge(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Standardised maps -> places (B, h, w), score (B,)."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, H, W, 3) BGR -> anomaly_map (B, H, W) float, score (B,) float."""
        places, score = self.judge(self.detector.standardise(self.detector.teacher(pixels)))
        anomaly_map = F.interpolate(places.unsqueeze(1), self.config.input_size, mode="bilinear")
        return anomaly_map.squeeze(1), score

    def smooth(self, places: Tensor) -> Tensor:
        """(B, h, w) at stride 8 -> the same, blurred by BLUR pixels."""
        return F.conv2d(F.pad(places.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), self.blur).squeeze(1)

    def neighbourhoods(self, maps: Sequence[Tensor]) -> Tensor:
        """Standardised maps -> (B, D, H / 8, W / 8)."""
        pairs = zip(maps, self.detector.teacher.strides, strict=True)
        return torch.cat([_at_shared_stride(m, stride) for m, stride in pairs if stride <= 2 * STRIDE], dim=1)

    def batches(self, cache: FeatureCache, rows: Rows) -> Iterator[list[Tensor]]:
        """Standardised maps of all rows, a few pictures at a time."""
        for start in range(0, len(rows), BATCH):
            yield self.detector.standardise(cache[rows[start : start + BATCH]])


class NearestNeighbours(Baseline):
    """PatchCore (Roth et al., CVPR 2022): distance to the nearest place of a coreset of good places.

    Greedy k-center coreset on randomly projected features: 5,000 places, chosen from 50,000 drawn at random,
    where the paper chooses from all. The score is the largest distance; the paper's reweighting of it by the
    neighbourhood's density is left out.
    """

    @torch.inference_mode()
    def fit_maps(self, cache: FeatureCache, rows: Rows, held: Rows, training: TrainConfig) -> None:
        quota = -(-CANDIDATES // len(rows))  # per picture
        drawn = []
        for maps in self.batches(cache, rows):
            for places in self.neighbourhoods(maps).flatten(2).transpose(1, 2):  # (h * w, D)
                drawn.append(places[torch.randperm(len(places))[:quota]])
        candidates = torch.cat(drawn)  # (n, D)
        projection = torch.randn(candidates.shape[1], PROJECTION) / PROJECTION**0.5
        chosen = greedy_k_center(candidates @ projection, round(CORESET_SHARE * len(candidates)))
        self.register_buffer("memory", candidates[chosen].T.contiguous())  # (D, M)
        self.register_buffer("memory_norms", self.memory.square().sum(dim=0))  # (M,)

    def judge(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        x = self.neighbourhoods(maps)  # (B, D, h, w)
        places = x.flatten(2).transpose(1, 2)  # (B, h * w, D)
        nearest = (self.memory_norms - 2 * (places @ self.memory)).amin(dim=2)  # (B, h * w)
        distances = (nearest + places.square().sum(dim=2)).clamp_min(1e-6).sqrt()
        return self.smooth(distances.unflatten(1, x.shape[2:])), distances.amax(dim=1)


class PlaceGaussians(Baseline):
    """PaDiM (Defard et al., ICPR 2020): one Gaussian for each place of the raster, Mahalanobis distance."""

    @torch.inference_mode()
    def fit_maps(self, cache: FeatureCache, rows: Rows, held: Rows, training: TrainConfig) -> None:
        width = self.neighbourhoods(next(self.batches(cache, rows[:1]))).shape[1]
        self.register_buffer("chosen", torch.randperm(width)[:PADIM_CHANNELS])
        mean = sum(self._places(maps).sum(dim=0) for maps in self.batches(cache, rows)) / len(rows)
        self.register_buffer("mean", mean)  # (h * w, C)
        covariance = PADIM_FLOOR * torch.eye(mean.shape[1]).repeat(len(mean), 1, 1)  # (h * w, C, C)
        for maps in self.batches(cache, rows):
            centred = self._places(maps) - mean
            covariance += torch.einsum("bpc,bpd->pcd", centred, centred) / max(len(rows) - 1, 1)
        self.register_buffer("whiten", torch.linalg.inv(torch.linalg.cholesky(covariance)))

    def _places(self, maps: Sequence[Tensor]) -> Tensor:
        return self.neighbourhoods(maps)[:, self.chosen].flatten(2).transpose(1, 2)  # (B, h * w, C)

    def judge(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        centred = (self._places(maps) - self.mean).unsqueeze(3)  # (B, h * w, C, 1)
        distances = torch.matmul(self.whiten, centred).square().sum(dim=(2, 3)).sqrt()  # (B, h * w)
        height, width = (side // STRIDE for side in self.config.input_size)
        places = self.smooth(distances.unflatten(1, (height, width)))
        return places, places.amax(dim=(1, 2))


class ReverseDistillation(Baseline):
    """RD4AD (Deng & Li, CVPR 2022): our local student `reverse` alone, trained as ours is (light variations,
    error measure, early stop) and scored as ours is (mean of the map's largest places)."""

    def __init__(self, teacher: Teacher, config: DetectorConfig):
        alone = replace(
            config, local_student="reverse", branches=("local",), normalisation="quantile", fusion="sum",
            local_apart=False, pooled_distance=False, word_distance=False, deep_distance=False,
        )  # fmt: skip
        super().__init__(teacher, alone)

    def fit_maps(self, cache: FeatureCache, rows: Rows, held: Rows, training: TrainConfig) -> None:
        shown = np.concatenate([rows, rows + cache.count // 2])  # the variations
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = Path(scratch) / "checkpoint.pt"
            Trainer(
                self.detector, cache, shown, held, training, checkpoint, loss=local_loss
            ).run(lambda step: None)  # fmt: skip
        fit_constants(self.detector, cache, len(rows), shown.tolist(), held.tolist(), NO_PIXELS)

    def judge(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        places, _ = self.detector.fusion(self.detector.errors(maps))
        return places, self.detector.map_score(places)


class PooledMahalanobis(Baseline):
    """Distance of the pooled features from one Gaussian: our detector's pooled part alone. Says no place."""

    localises = False

    @torch.inference_mode()
    def fit_maps(self, cache: FeatureCache, rows: Rows, held: Rows, training: TrainConfig) -> None:
        features = torch.cat([pooled(maps) for maps in self.batches(cache, rows)])
        gaussian = fit_gaussian(features.double().numpy())
        self.register_buffer("mean", torch.from_numpy(gaussian.mean).float())
        self.register_buffer("whiten", torch.from_numpy(gaussian.whiten).float())

    def judge(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        score = ((pooled(maps) - self.mean) @ self.whiten.T).square().sum(dim=1).sqrt()
        return score.view(-1, 1, 1).expand(-1, 2, 2), score


BASELINES: dict[str, type[Baseline]] = {
    "nearest neighbours": NearestNeighbours, "place Gaussians": PlaceGaussians,
    "reverse distillation": ReverseDistillation, "pooled Mahalanobis": PooledMahalanobis,
}  # fmt: skip


def greedy_k_center(points: Tensor, count: int) -> Tensor:
    """Indices (count,) of points (n, d), so that none is far from a chosen one: always the farthest next."""
    chosen = torch.empty(count, dtype=torch.int64)
    norms = points.square().sum(dim=1)
    nearest = torch.full((len(points),), torch.inf)
    latest = int(torch.randint(len(points), (1,)))
    for i in range(count):
        chosen[i] = latest
        distances = norms + norms[latest] - 2 * (points @ points[latest])
        nearest = torch.minimum(nearest, distances)
        latest = int(nearest.argmax())
    return chosen


def _at_shared_stride(m: Tensor, stride: int) -> Tensor:
    """(B, C, H / stride, W / stride) -> (B, C, H / 8, W / 8) of 3 x 3 means."""
    m = F.avg_pool2d(m, 3, 1, 1, count_include_pad=False)
    if stride < STRIDE:
        return F.avg_pool2d(m, STRIDE // stride)
    return m if stride == STRIDE else F.interpolate(m, scale_factor=stride / STRIDE, mode="bilinear")
