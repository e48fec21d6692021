"""The accuracy gate: an engine in lower precision judges as the FP32 graph does, or is refused.

Compared on held-out good pictures that nothing was fitted on (`pictures.halves`) and on anomalies (labelled
ones where there are any, and self-made ones up to LEAST_PICTURES): FP32 with limits from the good ones, the
other with these carried over by the good ones, in the way in which the sealed recipe gets them from all
held-out pictures.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import onnx

from build_engines.graph import convolutions, producers, work_of
from calibration.metrics import auroc_of
from calibration.selfmade import each_anomaly
from calibration.thresholds import fit_thresholds
from edge.backends import Backend, behind_view
from edge.backends.ort import OnnxRuntimeBackend
from edge.frame import AnomalyMap, Pixels
from edge.picture.view import View

MAX_AUROC_LOSS = 0.005  # of the AUROC, 0..1: half a point
MAX_FLIP_RATE = 0.005  # of the pictures whose verdict differs
LEAST_PICTURES = 200  # in all: a single flip, which may be chance, is then within the rate
MOST_GOOD = 100  # held-out pictures that are looked at; with their anomalies half a minute on one core
MAP_SIDE = 512  # places of a map's longer side that are compared: 200 whole maps of large pictures are 2 GB

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
    anomalies: str  # of the AUROC: "self-made" or "labelled"
    finite: bool  # every score and map value, also on noise, which is unlike any part

    def __bool__(self) -> bool:
        within = self.auroc_delta >= -MAX_AUROC_LOSS and self.flip_rate <= MAX_FLIP_RATE
        return self.finite and within

    def to_json(self) -> dict[str, str | float | bool]:
        """For `--json`; NaN and infinity, which JSON does not know, become texts."""
        figures = {**asdict(self), "passed": bool(self)}
        return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}

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
    """Pictures uint8 (N, h, w, 3) as `view.see` gives them; the first `limits` good ones set the limits.

    Anomalies are `labelled` ones, then `rounds` times two self-made ones of each good picture, which count
    for the AUROC only where none is labelled.
    """

    good: Pixels
    labelled: Pixels
    anomalies: str
    limits: int
    rounds: int = 0

    def __len__(self) -> int:
        return len(self.good) + len(self.labelled) + 2 * self.rounds * len(self.good)

    def __iter__(self) -> Iterator[Pixels]:
        """Good ones, anomalous ones, and noise at the end."""
        yield from self.good
        yield from self.labelled
        for seed in range(self.rounds):
            yield from each_anomaly(self.good, seed)
        yield np.random.default_rng(0).integers(0, 256, self.good.shape[1:], np.uint8)


def gate_pictures(
    held_out: Pixels, good: Pixels | None = None, anomalous: Pixels | None = None
) -> GatePictures:
    """From held-out good pictures, and labelled ones where there are any."""
    chosen = held_out[:MOST_GOOD]
    if good is None or anomalous is None or not len(anomalous):
        return GatePictures(chosen, chosen[:0], "self-made", len(chosen), max(1, _rounds(len(chosen), 0)))
    every = np.concatenate([chosen, good])
    rounds = max(0, _rounds(len(every), len(anomalous)))
    return GatePictures(every, anomalous, "labelled", len(chosen), rounds)


def _rounds(good: int, labelled: int) -> int:
    """How often two self-made anomalies of each good picture bring all to LEAST_PICTURES; may be negative."""
    return math.ceil((LEAST_PICTURES - good - labelled) / (2 * good))


class Gate:
    """FP32's answers, computed once; `judge` and `judge_engine` compare others with them.

    Whole pictures through the whole view, as in the station: with tiles the worst of them is the score.
    """

    def __init__(
        self,
        reference: onnx.ModelProto,
        pictures: GatePictures,
        false_reject_rate: float,
        view: View | None = None,
    ) -> None:
        """Without a `view` the pictures are what the graph takes."""
        self._pictures = pictures
        self._view = view or View((pictures.good.shape[1], pictures.good.shape[2]))
        self._maps, self._scores, _ = self._look(graph_backend(reference, self._view))
        self._limits = fit_thresholds(self._scores[: pictures.limits], false_reject_rate)

    def judge(self, model: onnx.ModelProto, precision: str) -> GateResult:
        """`model` is what ONNX Runtime must run: with its roundings written out (`precision.emulated`)."""
        return self.judge_engine(graph_backend(model, self._view), precision, int8_mac_share(model))

    def judge_engine(self, backend: Backend, precision: str, int8_share: float) -> GateResult:
        """Any engine for pictures as `view.see` gives them. Raises BackendFault where it fails."""
        maps, scores, finite = self._look(backend)
        mine, theirs = scores[:-1], self._scores[:-1]  # without the noise, which is far from all others
        return GateResult(
            precision=precision,
            int8_mac_share=int8_share,
            score_correlation=float(np.corrcoef(theirs, mine)[0, 1]),
            map_error=float(np.sqrt(np.mean((self._maps[:-1] - maps[:-1]) ** 2))),
            auroc_delta=self._auroc(mine) - self._auroc(theirs),
            flip_rate=float(np.mean(self._outcomes(mine) != self._outcomes(theirs))) if finite else 1.0,
            pictures=len(mine),
            anomalies=self._pictures.anomalies,
            finite=finite,
        )

    def _look(self, backend: Backend) -> tuple[AnomalyMap, Floats, bool]:
        """Maps (N, h, w), thinned where they are large, scores (N,), and whether all of it is finite."""
        maps, scores, finite = [], [], True
        for picture in self._pictures:
            anomaly_map, score = backend.infer(picture)
            finite = finite and math.isfinite(score) and bool(np.isfinite(anomaly_map).all())
            step = math.ceil(max(anomaly_map.shape) / MAP_SIDE)
            maps.append(anomaly_map[::step, ::step].copy())
            scores.append(score)
        return np.stack(maps), np.array(scores, np.float64), finite

    def _auroc(self, scores: Floats) -> float:
        good, labelled = len(self._pictures.good), len(self._pictures.labelled)
        return auroc_of(scores[:good], scores[good : good + labelled] if labelled else scores[good:])

    def _outcomes(self, scores: Floats) -> npt.NDArray[np.int64]:
        """0 pass, 1 review, 2 fail, by FP32's limits as carried over to these scores."""
        count = self._pictures.limits
        limits = self._limits.carried(self._scores[:count], scores[:count])
        return np.asarray(np.digitize(scores, [limits.review, limits.fail]), np.int64)


def graph_backend(model: onnx.ModelProto, view: View) -> Backend:
    """The graph on the CPU, for pictures as `view.see` gives them."""
    return behind_view(OnnxRuntimeBackend(model.SerializeToString(), view.input_size), view)


def run_graph(model: onnx.ModelProto, pictures: Pixels) -> tuple[AnomalyMap, Floats]:
    """Maps float32 (N, h, w) and scores (N,) of pictures uint8 (N, h, w, 3), on the CPU."""
    backend = graph_backend(model, View((pictures.shape[1], pictures.shape[2])))
    maps, scores = zip(*map(backend.infer, pictures), strict=True)
    return np.stack(maps), np.array(scores, np.float64)


def int8_mac_share(model: onnx.ModelProto) -> float:
    """Share of the convolutions' multiply-accumulates whose data and weights both come from INT8, 0..1.

    Transposed convolutions, which are never in INT8, count among all.
    """
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
