"""What is fitted after training, on good pictures only: the maps' constants, Gaussians, weights."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from calibration.metrics import auroc_of
from calibration.normalisation import Floats, cross_distances
from calibration.selfmade import make_anomalies
from distillation.detector import Detector
from distillation.features import FeatureCache
from distillation.wholes import WORD_PLACES
from edge.frame import Pixels

BATCH = 8
FEW_HELD_OUT = 20  # below this, spreads come from all good pictures together

Rows = Sequence[int]  # of the feature cache


@torch.inference_mode()
def fit_constants(
    detector: Detector, cache: FeatureCache, pictures: int, learnt: Rows, held: Rows, held_pixels: Pixels,
    device: str = "cpu",
) -> dict[str, float]:  # fmt: skip
    """Fit the detector's buffers; the students are trained.

    learnt: rows of the cache that it learnt from, first the `pictures` themselves, then their variations;
    held: rows that it has not seen, `held_pixels` their pictures. Returns the constants for the recipe, so
    that a person can read them.
    """
    detector.eval()
    train_sheets = sheets_of(detector, cache, learnt[:pictures], device)
    held_sheets = sheets_of(detector, cache, held, device)
    detector.fusion.fit(train_sheets, held_sheets)
    if detector.config.fusion in ("trusted", "reliability"):
        fit_reliability(detector, held_pixels, device)
    parts, highest = _map_parts(detector, held_sheets, device)
    seen = _map_parts(detector, train_sheets, device)[0] if len(held) < FEW_HELD_OUT else {}
    spreads = {name: float(_pooled_deviation(x, seen.get(name))) for name, x in parts.items()}
    for name, distances in fit_distances(detector, cache, pictures, learnt, device).items():
        parts[name], spreads[name] = distances, float(distances.std())
    names = detector.score.names
    weights = detector.score.fit([float(parts[n].mean()) for n in names], [spreads[n] for n in names])
    return {
        **{f"{name}_weight": weight for name, weight in weights.items()},
        "map_limit": max(1.0, highest),  # good parts stay below: where heat maps turn orange
    }


def fit_distances(
    detector: Detector, cache: FeatureCache, pictures: int, learnt: Rows, device: str
) -> dict[str, Floats]:
    """Fit the Gaussians that are switched on; what they say of good pictures left out of them, by name."""
    if "words" in detector.distances:
        _fit_words(detector, cache, learnt[:pictures], device)
    found = {}
    for name, distance in detector.distances.items():
        rows = learnt[:pictures] if name == "pooled" else learnt  # variations spoil it on small sets
        x = _rows_of(detector.whole(name, maps) for maps in standardised(detector, cache, rows, device))
        distance.fit(x)
        found[name] = cross_distances(x, pictures)
    return found


def fit_reliability(detector: Detector, held: Pixels, device: str = "cpu") -> None:
    """Weigh the branches by how well each tells self-made anomalies from the good pictures under them."""
    good, bad = (_branch_scores(detector, pixels, device) for pixels in (held, make_anomalies(held)))
    detector.fusion.trust([max(auroc_of(good[:, b], bad[:, b]) - 0.5, 0.0) for b in range(good.shape[1])])


def standardised(detector: Detector, cache: FeatureCache, rows: Rows, device: str) -> Iterator[list[Tensor]]:
    """Standardised maps, a few pictures at a time."""
    for start in range(0, len(rows), BATCH):
        yield detector.standardise([m.to(device) for m in cache[list(rows[start : start + BATCH])]])


def sheets_of(detector: Detector, cache: FeatureCache, rows: Rows, device: str) -> list[Tensor]:
    """Raw error maps of all rows: per sheet (N, h, w)."""
    batches = [
        [e.cpu() for e in detector.errors(maps)] for maps in standardised(detector, cache, rows, device)
    ]
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def _map_parts(detector: Detector, sheets: Sequence[Tensor], device: str) -> tuple[dict[str, Floats], float]:
    """The parts (N,) of the score that come from the maps, and the fused map's highest value."""
    batches, highest = [], 0.0
    for start in range(0, len(sheets[0]), BATCH):
        places, branches = detector.fusion([s[start : start + BATCH].to(device) for s in sheets])
        batches.append(detector.map_parts(places, branches))
        highest = max(highest, float(places.max()))
    return {name: torch.cat([b[name] for b in batches]).cpu().numpy() for name in batches[0]}, highest


def _pooled_deviation(x: Floats, also: Floats | None) -> Floats:
    """Standard deviation of x, with `also`, whose mean may be another."""
    centred = [part - part.mean() for part in (x, also) if part is not None]
    return np.concatenate(centred).std()


def _fit_words(detector: Detector, cache: FeatureCache, rows: Rows, device: str) -> None:
    share = -(-WORD_PLACES // len(rows))  # of each picture
    drawn = []
    for maps in standardised(detector, cache, rows, device):
        for places in maps[0].flatten(2).transpose(1, 2):  # (H * W, C)
            drawn.append(places[torch.randperm(len(places), device=places.device)[:share]])
    detector.words.fit(torch.cat(drawn))


def _branch_scores(detector: Detector, pixels: Pixels, device: str) -> Floats:
    scores = []
    for start in range(0, len(pixels), BATCH):
        maps = detector.standardise(
            detector.teacher(torch.from_numpy(pixels[start : start + BATCH]).to(device))
        )
        branches = detector.fusion.normalised(detector.fusion.branches(detector.errors(maps)))
        scores.append(torch.stack([detector.map_score(b) for b in branches.unbind(1)], dim=1).cpu().numpy())
    return np.concatenate(scores)


def _rows_of(batches: Iterator[Tensor]) -> Floats:
    return torch.cat([b.cpu() for b in batches]).double().numpy()
