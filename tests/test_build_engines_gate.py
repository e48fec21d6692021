"""The gate: what judges otherwise than FP32 is refused, with its figures."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from plans import good_pictures

from build_engines.gate import MAX_FLIP_RATE, Gate, GatePictures, gate_pictures, int8_mac_share, run_graph
from build_engines.graph import convolutions, load_onnx, work_of
from build_engines.pictures import halves
from build_engines.quantise import int8_of
from calibration.selfmade import make_anomalies
from edge.backends import behind_view
from edge.backends.ort import OnnxRuntimeBackend
from edge.demo.show import ENGINE
from edge.errors import DataError
from edge.frame import AnomalyMap, Pixels
from edge.picture.view import View


@pytest.fixture(scope="module")
def detector() -> onnx.ModelProto:
    return load_onnx(ENGINE)


@pytest.fixture(scope="module")
def gate(detector: onnx.ModelProto) -> Gate:
    good = good_pictures(12)  # fewer anomalies than a user's gate has: they are not what is tested
    return Gate(detector, GatePictures(good, make_anomalies(good), "self-made", len(good)), 0.003)


def test_fp32_passes_against_itself(gate: Gate, detector: onnx.ModelProto) -> None:
    result = gate.judge(detector, "fp32")
    assert result and result.score_correlation == pytest.approx(1)
    assert (result.map_error, result.auroc_delta, result.flip_rate) == (0, 0, 0)
    assert result.pictures == 36 and result.anomalies == "self-made"
    keys = {
        "precision",
        "int8_mac_share",
        "score_correlation",
        "map_error",
        "auroc_delta",
        "flip_rate",
        "passed",
    }
    assert keys <= set(result.to_json()) and result.to_json()["passed"] is True


def test_a_damaged_network_is_refused_with_the_tolerance_that_would_have_passed(
    gate: Gate, detector: onnx.ModelProto
) -> None:
    damaged = changed_weights(detector, 0.3)
    result = gate.judge(damaged, "int8")
    assert not result and result.to_json()["passed"] is False
    assert result.flip_rate > 0.005 or result.auroc_delta < -0.005
    assert f"{result.flip_rate:.2%} flipped (allowed 0.50%)" in result.tolerance


def test_scores_that_are_no_numbers_are_refused(gate: Gate, detector: onnx.ModelProto) -> None:
    with np.errstate(invalid="ignore"):
        result = gate.judge(changed_weights(detector, np.inf), "fp16")
    assert not result and not result.finite and "No tolerance helps" in result.tolerance


def test_a_single_flip_is_within_the_rate() -> None:
    for count in (2, 30, 99, 150):
        pictures = gate_pictures(np.zeros((count, 32, 32, 3), np.uint8))
        assert 1 / len(pictures) <= MAX_FLIP_RATE
        assert len(list(pictures)) == len(pictures) + 1  # and noise


def test_the_gate_judges_on_no_picture_that_int8_was_fitted_on() -> None:
    """The story: ranges came from the first dozen held-out pictures, and the gate began with the same."""
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    fitting, judging = ({int(i) for i in half[:, 0, 0, 0]} for half in halves(images))
    assert fitting | judging == set(range(7)) and not fitting & judging
    with pytest.raises(DataError, match="3 good pictures were held out; FP16 and INT8 need 4"):
        halves(images[:3])


def test_labelled_pictures_count_where_there_are_any() -> None:
    good, labelled = good_pictures(4), good_pictures(6, seed=5)
    pictures = gate_pictures(good, labelled[:2], labelled[2:])
    assert (len(pictures.good), len(pictures.labelled), pictures.anomalies) == (6, 4, "labelled")
    assert pictures.limits == 4  # labelled good ones set no limit
    assert gate_pictures(good, labelled, labelled[:0]).anomalies == "self-made"


def test_limits_are_fitted_to_fp32_alone(
    gate: Gate, detector: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story: fitted anew for FP16, they moved five times as far as the scores, and verdicts with them."""

    def fit(*_: object) -> None:
        raise AssertionError("fitted anew")

    monkeypatch.setattr("build_engines.gate.fit_thresholds", fit)
    assert gate.judge(detector, "fp16").flip_rate == 0


class WorseInOneTile(OnnxRuntimeBackend):
    """A real engine whose second tile of every picture is judged as a little too good."""

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        maps, scores = super().infer_batch(pixels)
        scores[1] = min(scores[1], scores[0] - 0.01)
        return maps, scores


def test_with_tiles_whole_pictures_are_judged(detector: onnx.ModelProto) -> None:
    """The story: single tiles were compared; the station judges a picture by its worst tile, and a tile that
    is never the worst moves no verdict."""
    view = View((256, 256), canvas=(256, 480))
    whole = np.concatenate([good_pictures(4), good_pictures(4, seed=5)[:, :, :224]], axis=2)
    gate = Gate(detector, GatePictures(whole, make_anomalies(whole), "self-made", len(whole)), 0.003, view)
    assert gate._maps.shape == (13, 256, 480)
    singly = [run_graph(detector, view.tiling.cut(picture))[1].max() for picture in gate._pictures]
    assert gate._scores == pytest.approx(singly, rel=1e-5)
    result = gate.judge_engine(behind_view(WorseInOneTile(ENGINE, (256, 256)), view), "fp16", 0.0)
    assert result.pictures == 12 and result.map_error == pytest.approx(0, abs=1e-5)
    assert result.score_correlation < 0.9999


def test_large_maps_are_compared_thinned(detector: onnx.ModelProto) -> None:
    """Of two hundred large pictures the whole maps would take gigabytes; what is not finite is still seen."""
    view = View((256, 256), canvas=(256, 1600))
    whole = np.concatenate([good_pictures(2)] * 7, axis=2)[:, :, :1600]
    gate = Gate(detector, GatePictures(whole, whole[:1], "labelled", 2), 0.003, view)
    assert gate._maps.shape == (4, 64, 400)


def test_the_share_of_int8_is_counted_in_the_graph(detector: onnx.ModelProto) -> None:
    """The story: transposed convolutions, never in INT8, were not counted; 90 % was a little less."""
    work, plain = work_of(detector), {node.name for node in convolutions(detector)}
    name, macs = next(iter(work.items()))
    transposed = sum(work[other] for other in work if other not in plain)
    int8, all_work = int8_of(detector, good_pictures(2)), sum(work.values())
    assert int8_mac_share(detector) == 0 and transposed > 0
    assert int8_mac_share(int8.graph(())) == pytest.approx(1 - transposed / all_work)
    assert int8_mac_share(int8.graph((name,))) == pytest.approx(1 - (macs + transposed) / all_work)


def changed_weights(model: onnx.ModelProto, relative: float) -> onnx.ModelProto:
    """A copy whose convolutions have so much noise on their weights."""
    changed, rng = onnx.ModelProto(), np.random.default_rng(0)
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name.endswith("conv.weight"):
            weights = numpy_helper.to_array(tensor)
            noise = 1 + relative * rng.normal(size=weights.shape)
            tensor.CopyFrom(numpy_helper.from_array((weights * noise).astype(np.float32), tensor.name))
    return changed
