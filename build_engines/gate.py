"""The accuracy gate: a graph in lower precision judges as the FP32 graph does, or is refused.

Compared on held-out good pictures that nothing was fitted on (`pictures.halves`) and on anomalies (labelled
ones where there are any, else self-made), each graph with limits of its own from the good ones, as the
sealed recipe will have them.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx

from build_engines.graph import convolutions, producers, work_of
from calibration.metrics import auroc_of
from calibration.selfmade import make_anomalies
from calibration.thresholds import fit_thresholds
from edge.backends.ort import OnnxRuntimeBackend
from edge.frame import AnomalyMap, Pixels

MAX_AUROC_LOSS = 0.005  # of the AUROC, 0..1: half a point
MAX_FLIP_RATE = 0.005  # of the pictures whose verdict differs
LEAST_PICTURES = 200  # in all: a single flip, which may be chance, is then within the rate
MOST_GOOD = 100  # held-out pictures that are looked at; with their anomalies half a minute on one core

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GateResult:
    """The figures of one graph; true when it passed."""

    precision: str
    int8_mac_share: float  # of the convolutions' multiply-accumulates, 0..1
    score_correlation: float  # Pearson, with FP32
    map_error: float  # root mean square over places; the map's unit is the spread of good parts
    auroc_delta: float  # below zero is a loss
    flip_rate: float  # 0..1
    pictures: int
    anomalies: str  # "self-made" or "labelled"
    finite: bool  # every score and map value, also on noise, which is unlike any part

    def __bool__(self) -> bool:
        within = self.auroc_delta >= -MAX_AUROC_LOSS and self.flip_rate <= MAX_FLIP_RATE
        return self.finite and within

    def to_json(self) -> dict[str, str | float | bool]:
        """For `--json`; NaN, which JSON does not know, becomes a text."""
        figures = {**asdict(self), "passed": bool(self)}
        return {k: str(v) if isinstance(v, float) and math.isnan(v) else v for k, v in figures.items()}

    def __str__(self) -> str:
        return (
            f"score correlation {self.score_correlation:.6f}, map error {self.map_error:.4f}, AUROC on "
            f"{self.anomalies} anomalies {self.auroc_delta:+.4f}, {self.flip_rate:.2%} of "
            f"{self.pictures} verdicts flipped"
        )

    @property
    def verdict(self) -> str:
        """For the recipe."""
        return f"{'passed' if self else 'refused, kept by --force'}: {self}"

    @property
    def tolerance(self) -> str:
        """What would have had to be allowed."""
        if not self.finite:
            return "No tolerance helps: some scores are not finite"
        loss, flips = max(-self.auroc_delta, 0), self.flip_rate
        return (
            f"It would pass with {loss:.4f} of AUROC lost (allowed {MAX_AUROC_LOSS}) "
            f"and {flips:.2%} flipped (allowed {MAX_FLIP_RATE:.2%})"
        )


@dataclass(frozen=True)
class GatePictures:
    """Pictures uint8 (N, h, w, 3) as the graph takes them; `limits` of the good ones set the limits."""

    good: Pixels
    anomalous: Pixels
    anomalies: str
    limits: int

    @property
    def all(self) -> Pixels:
        """Good ones, anomalous ones, and noise at the end."""
        noise = np.random.default_rng(0).integers(0, 256, (1, *self.good.shape[1:]), np.uint8)
        return np.concatenate([self.good, self.anomalous, noise])


def gate_pictures(
    held_out: Pixels, good: Pixels | None = None, anomalous: Pixels | None = None
) -> GatePictures:
    """From held-out good pictures, and labelled ones where there are any."""
    chosen = held_out[:MOST_GOOD]
    if good is not None and anomalous is not None and len(anomalous):
        return GatePictures(np.concatenate([chosen, good]), anomalous, "labelled", len(chosen))
    rounds = max(1, math.ceil((LEAST_PICTURES - len(chosen)) / (2 * len(chosen))))
    made = np.concatenate([make_anomalies(chosen, seed) for seed in range(rounds)])
    return GatePictures(chosen, made, "self-made", len(chosen))


class Gate:
    """FP32's answers, computed once; `judge` compares others with them."""

    def __init__(self, reference: onnx.ModelProto, pictures: GatePictures, false_reject_rate: float) -> None:
        self._pictures, self._rate = pictures, false_reject_rate
        self._maps, self._scores = run_graph(reference, pictures.all)

    def judge(self, model: onnx.ModelProto, precision: str) -> GateResult:
        """`model` is what ONNX Runtime must run: with its roundings written out (`precision.emulated`)."""
        maps, scores = run_graph(model, self._pictures.all)
        finite = bool(np.isfinite(scores).all() and np.isfinite(maps).all())
        mine, theirs = scores[:-1], self._scores[:-1]  # without the noise, which is far from all others
        return GateResult(
            precision=precision,
            int8_mac_share=int8_mac_share(model),
            score_correlation=float(np.corrcoef(theirs, mine)[0, 1]),
            map_error=float(np.sqrt(np.mean((self._maps[:-1] - maps[:-1]) ** 2))),
            auroc_delta=self._auroc(mine) - self._auroc(theirs),
            flip_rate=float(np.mean(self._outcomes(mine) != self._outcomes(theirs))) if finite else 1.0,
            pictures=len(mine),
            anomalies=self._pictures.anomalies,
            finite=finite,
        )

    def _auroc(self, scores: Floats) -> float:
        good = len(self._pictures.good)
        return auroc_of(scores[:good], scores[good:])

    def _outcomes(self, scores: Floats) -> npt.NDArray[np.int64]:
        """0 pass, 1 review, 2 fail, by limits from these very scores."""
        limits = fit_thresholds(scores[: self._pictures.limits], self._rate)
        return np.asarray(np.digitize(scores, [limits.review, limits.fail]), np.int64)


def run_graph(model: onnx.ModelProto, pictures: Pixels) -> tuple[AnomalyMap, Floats]:
    """Maps float32 (N, h, w) and scores (N,) of pictures uint8 (N, h, w, 3), on the CPU."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        backend = OnnxRuntimeBackend(path, (pictures.shape[1], pictures.shape[2]))
    maps, scores = zip(*map(backend.infer, pictures), strict=True)
    return np.stack(maps), np.array(scores, np.float64)


def int8_mac_share(model: onnx.ModelProto) -> float:
    """Share of the convolutions' multiply-accumulates whose data and weights both come from INT8, 0..1."""
    work, behind = work_of(model), producers(model)
    inside = [node.name for node in convolutions(model) if _from_int8(node.input[:2], behind)]
    return sum(work[name] for name in inside) / max(sum(work.values()), 1)


def _from_int8(names: Sequence[str], behind: dict[str, onnx.NodeProto]) -> bool:
    """Whether each tensor comes out of a DequantizeLinear; casts between are looked through."""
    for name in names:
        while name in behind and behind[name].op_type == "Cast":
            name = behind[name].input[0]
        if name not in behind or behind[name].op_type != "DequantizeLinear":
            return False
    return True
