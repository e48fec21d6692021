"""Everything that can break between camera and verdict, and what the line gets: never a pass."""

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from peers import until
from toy import SIDE, toy_pair

from edge.backends import open_backend
from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera
from edge.errors import BackendFault, CameraLost, EndOfStream
from edge.frame import AnomalyMap, Frame, Inspection, Pixels, Shot
from edge.outputs import output_opener
from edge.recipe import Recipe, load_pair
from edge.station.capture import Capture, Policy
from edge.station.loop import Observer, Station
from edge.station.outbox import Outbox
from edge.station.worker import HANG_S, InferenceWorker
from edge.verdict import Outcome, Reason, Verdict


class Breakable:
    """A real backend behind a gate that a test can shut: the way a driver hangs, fails or lies."""

    resizes = False

    def __init__(self, inner: OnnxRuntimeBackend) -> None:
        self.inner, self.name, self.input_size = inner, inner.name, inner.input_size
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.score: float | None = None

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        self.gate.wait()
        if self.error is not None:
            raise self.error
        anomaly_map, score = self.inner.infer(pixels)
        return anomaly_map, score if self.score is None else self.score

    def close(self) -> None:
        self.inner.close()


def grey(value: int, side: int = SIDE) -> Shot:
    noise = np.random.default_rng(value).integers(-20, 20, (side, side, 3))
    return Shot(np.clip(value + noise, 0, 255).astype(np.uint8))


@contextmanager
def running(
    folder: Path,
    script: list[Shot | Exception],
    live: bool = False,
    observers: Sequence[Observer] = (),
    hang_s: float = HANG_S,
    **changes: object,
) -> Iterator[tuple[Station, Breakable, list[Verdict]]]:
    engine, recipe, artefact = load_pair(toy_pair(folder, **changes))
    backend = Breakable(OnnxRuntimeBackend(engine, recipe.input_size))
    worker = InferenceWorker(backend, recipe, artefact.sha256, hang_s)
    verdicts: list[Verdict] = []
    camera = ScriptedCamera([*script, EndOfStream("done")], live=live)
    with Capture(lambda: camera, "script", Policy.EVERY) as capture:
        station = Station(
            capture, worker, recipe, [*observers, lambda frame, answer, verdict: verdicts.append(verdict)]
        )
        yield station, backend, verdicts
        backend.gate.set()
        worker.close()


def test_a_good_and_a_bad_part(tmp_path: Path) -> None:
    with running(tmp_path, [grey(60), grey(170), grey(220)]) as (station, _, verdicts):
        station.run()
    assert [v.outcome for v in verdicts] == [Outcome.PASS, Outcome.REVIEW, Outcome.FAIL]
    assert [v.frame_id for v in verdicts] == [1, 2, 3]


def test_a_hung_backend_is_answered_at_the_deadline_and_its_late_answer_is_never_published(
    tmp_path: Path,
) -> None:
    """The story: a driver hangs for seconds in the middle of a shift, then comes back with an old PASS."""
    script = [grey(60), grey(61), grey(62)]
    with running(tmp_path, script, hang_s=0.0, deadline_ms=80.0) as (station, backend, verdicts):
        backend.gate.clear()
        begun = time.monotonic()
        station.run(count=2)
        assert time.monotonic() - begun < 2.0
        assert [v.reason for v in verdicts] == [Reason.DEADLINE_MISSED, Reason.BACKEND_FAULT]
        assert "hangs" in station.worker.last_error
        backend.gate.set()
        assert until(lambda: not station.worker.hangs)
        station.run()
        assert station.worker.late == 1
    assert [v.outcome for v in verdicts] == [Outcome.FAIL, Outcome.FAIL, Outcome.PASS]
    assert [v.frame_id for v in verdicts] == [1, 2, 3]


def test_an_engine_that_is_slower_than_the_deadline_is_told_as_that(tmp_path: Path) -> None:
    """The story: an engine with tiles took longer than the deadline; all that was said was BACKEND_FAULT."""
    with running(tmp_path, [grey(60), grey(61), grey(62)], deadline_ms=60.0) as (station, backend, verdicts):
        backend.gate.clear()
        station.run(count=2)
        assert [v.reason for v in verdicts] == [Reason.DEADLINE_MISSED, Reason.DEADLINE_MISSED]
        assert "60 ms" in station.worker.last_error and "--deadline-ms" in station.worker.last_error
        backend.gate.set()
        assert until(lambda: not station.worker.hangs)
        assert station.worker.last_error  # an answer that came too late is none
        station.run()
        assert station.worker.last_error == ""
    assert [v.outcome for v in verdicts] == [Outcome.FAIL, Outcome.FAIL, Outcome.PASS]


@pytest.mark.parametrize(
    "error, reason",
    [
        (BackendFault("CUDA error 700", "gpu", "Restart."), Reason.BACKEND_FAULT),
        (RuntimeError("a bug"), Reason.STATION_FAULT),
        (MemoryError(), Reason.STATION_FAULT),
    ],
)
def test_an_error_in_the_backend_fails_the_part_and_the_next_one_is_judged(
    tmp_path: Path, error: Exception, reason: Reason
) -> None:
    with running(tmp_path, [grey(60), grey(61)]) as (station, backend, verdicts):
        backend.error = error
        station.run(count=1)
        backend.error = None
        station.run()
    assert [(v.outcome, v.reason) for v in verdicts] == [
        (Outcome.FAIL, reason),
        (Outcome.PASS, Reason.WITHIN_LIMITS),
    ]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_fails(tmp_path: Path, score: float) -> None:
    with running(tmp_path, [grey(60)]) as (station, backend, verdicts):
        backend.score = score
        station.run()
    assert (verdicts[0].outcome, verdicts[0].reason) == (Outcome.FAIL, Reason.SCORE_INVALID)


def test_a_lost_camera_gives_fail_safe_verdicts_until_it_is_back(tmp_path: Path) -> None:
    lost = CameraLost("unplugged", "script", "Plug it in.")
    with running(tmp_path, [grey(60), lost, grey(61)]) as (station, _, verdicts):
        station.run()
    assert [v.reason for v in verdicts] == [Reason.WITHIN_LIMITS, Reason.CAMERA_LOST, Reason.WITHIN_LIMITS]
    assert verdicts[1].outcome is Outcome.FAIL
    assert station.counters.blind == 1


def test_a_picture_that_does_not_fit_the_roi_fails(tmp_path: Path) -> None:
    with running(tmp_path, [grey(60)], roi=(0, 0, 200, 200)) as (station, _, verdicts):
        station.run()
    assert (verdicts[0].outcome, verdicts[0].reason) == (Outcome.FAIL, Reason.RECIPE_MISMATCH)


def test_a_live_camera_that_repeats_itself_fails(tmp_path: Path) -> None:
    with running(tmp_path, [grey(60), grey(60)], live=True) as (station, _, verdicts):
        station.run()
    assert [v.reason for v in verdicts] == [Reason.WITHIN_LIMITS, Reason.FRAME_FROZEN]
    assert verdicts[1].outcome is Outcome.FAIL


def test_a_picture_older_than_its_limit_fails(tmp_path: Path) -> None:
    with running(tmp_path, [grey(60)], live=True, max_frame_age_ms=1e-6) as (station, _, verdicts):
        station.run()
    assert (verdicts[0].outcome, verdicts[0].reason) == (Outcome.FAIL, Reason.FRAME_STALE)


def test_what_the_output_gets_of_a_hung_backend_is_never_its_late_pass(tmp_path: Path) -> None:
    lines = tmp_path / "verdicts.jsonl"
    with running(tmp_path, [grey(60), grey(61)], deadline_ms=60.0) as (station, backend, _):
        station.outboxes = [Outbox(output_opener(f"jsonl:{lines}"), max_age_s=math.inf)]
        backend.gate.clear()
        station.run(count=1)
        backend.gate.set()
        assert until(lambda: not station.worker.hangs)
        station.run()
        station.outboxes[0].close()
    sent = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(v["frame_id"], v["outcome"]) for v in sent] == [(1, "fail"), (2, "pass")]


def test_an_error_before_the_backend_fails_the_part_and_the_next_one_is_judged(tmp_path: Path) -> None:
    two_channels = Shot(np.zeros((SIDE, SIDE, 2), np.uint8))
    with running(tmp_path, [two_channels, grey(60)]) as (station, _, verdicts):
        station.run()
    assert [v.reason for v in verdicts] == [Reason.STATION_FAULT, Reason.WITHIN_LIMITS]


def test_a_black_picture_fails_though_its_score_would_pass(tmp_path: Path) -> None:
    with running(tmp_path, [Shot(np.zeros((SIDE, SIDE, 3), np.uint8))]) as (station, _, verdicts):
        station.run()
    assert (verdicts[0].outcome, verdicts[0].reason) == (Outcome.FAIL, Reason.FRAME_BLANK)


def test_an_observer_that_breaks_costs_no_part(tmp_path: Path) -> None:
    def broken(frame: Frame, answer: Inspection | Reason, verdict: Verdict) -> None:
        raise OSError("disk full")

    with running(tmp_path, [grey(60), grey(61)], observers=[broken]) as (station, _, verdicts):
        station.run()
    assert [v.outcome for v in verdicts] == [Outcome.PASS, Outcome.PASS]
    assert station.counters.observer_faults == 2


def test_a_stalled_loop_is_told_to_the_outputs(tmp_path: Path) -> None:
    with running(tmp_path, [grey(60)]) as (station, _, _):
        station.run()
        now = time.monotonic_ns()
        assert station.is_healthy(now)
        assert not station.is_healthy(now + 4_000_000_000)


def test_an_engine_with_another_input_size_is_refused(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    with pytest.raises(BackendFault, match="the recipe says"):
        open_backend(engine, Recipe("toy", (128, 128), 1.0, 2.0))
