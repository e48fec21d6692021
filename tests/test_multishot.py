"""Several pictures of one part, one verdict: nothing but all good pictures pass."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from faults.test_station_faults import grey
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import a_verdict
from toy import toy_pair

from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera
from edge.errors import EndOfStream
from edge.frame import Shot
from edge.recipe import load_pair
from edge.station.capture import Capture
from edge.station.loop import BLIND_VERDICT_EVERY_S, Station
from edge.station.multishot import combine
from edge.station.worker import InferenceWorker
from edge.trigger import Request
from edge.verdict import Outcome, Reason, Verdict

PASS, REVIEW, FAIL = a_verdict(1), a_verdict(2, Outcome.REVIEW), a_verdict(3, Outcome.FAIL)
MISSING = a_verdict(4, Outcome.FAIL, Reason.CAMERA_TIMEOUT)
UNJUDGED = a_verdict(5, Outcome.REVIEW, Reason.BACKEND_FAULT)


@pytest.mark.parametrize(("shots", "decisive"), [
    ([PASS], PASS), ([PASS, PASS], PASS), ([PASS, REVIEW, PASS], REVIEW), ([PASS, FAIL, REVIEW], FAIL),
    ([PASS, MISSING], MISSING), ([REVIEW, UNJUDGED], UNJUDGED), ([FAIL, MISSING], FAIL),
    ([MISSING, FAIL], FAIL),
])  # fmt: skip
def test_the_picture_that_decides(shots: list[Verdict], decisive: Verdict) -> None:
    part = combine(shots)
    assert (part.outcome, part.reason, part.score) == (decisive.outcome, decisive.reason, decisive.score)
    assert part.frame_id == shots[-1].frame_id


def test_of_good_pictures_the_one_nearest_to_its_own_limit_is_shown() -> None:
    far, near = replace(PASS, score=4.0, threshold=9.0), replace(PASS, score=0.4, threshold=0.5)
    assert combine([near, far]).score == 0.4


def test_the_part_takes_the_time_of_all_its_pictures() -> None:
    first, second = (
        replace(FAIL, captured_ns=100, decided_ns=200),
        replace(PASS, captured_ns=150, decided_ns=400),
    )
    part = combine([first, second])
    assert (part.captured_ns, part.decided_ns, part.infer_ms) == (100, 400, 60.0)


@settings(deadline=None)
@given(st.lists(st.sampled_from([PASS, REVIEW, FAIL, MISSING, UNJUDGED]), min_size=1, max_size=8))
def test_only_good_pictures_make_a_pass(shots: list[Verdict]) -> None:
    assert (combine(shots).outcome is Outcome.PASS) == all(each.outcome is Outcome.PASS for each in shots)


class OneRequest:
    """Somebody asks once, and the pictures come in one burst before the station looks."""

    def __init__(self, camera: ScriptedCamera, shots: list[Shot]) -> None:
        self.camera, self.shots, self.asked = camera, shots, False

    def wait(self, timeout_s: float) -> Request | None:
        if self.asked:
            return None
        self.asked, at_ns = True, time.monotonic_ns()
        for each in self.shots:
            self.camera.put(each)
        self.camera.join()
        return Request(1, 70_001, at_ns)


@pytest.mark.parametrize(("shots", "outcome", "reason"), [
    ([grey(60), grey(61), grey(62)], Outcome.PASS, Reason.WITHIN_LIMITS),
    ([grey(60), grey(61), grey(170)], Outcome.REVIEW, Reason.BORDERLINE),
    ([grey(60), grey(61)], Outcome.FAIL, Reason.CAMERA_TIMEOUT),
    ([grey(60), grey(60), grey(61)], Outcome.FAIL, Reason.FRAME_FROZEN),
    ([grey(0), grey(220), grey(60)], Outcome.FAIL, Reason.ANOMALY),
])  # fmt: skip
def test_a_station_takes_all_pictures_of_a_part_and_answers_once(
    tmp_path: Path, shots: list[Shot], outcome: Outcome, reason: Reason
) -> None:
    """They come faster than they are judged."""
    engine, recipe, artefact = load_pair(toy_pair(tmp_path, deadline_ms=5000.0, max_frame_age_ms=5000.0))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    camera, verdicts = ScriptedCamera(live=True), list[Verdict]()
    with Capture(lambda: camera, "script", keep=3, read_timeout_s=0.05) as capture:
        station = Station(capture, worker, recipe, [lambda *seen: verdicts.append(seen[2])])
        station.shots, station.trigger = 3, OneRequest(camera, shots)
        station.outboxes = [taken := Taken()]
        station.run(count=1)
        camera.put(EndOfStream("done"))
        station.close()
    assert [(v.outcome, v.reason, v.part_id) for v in taken.verdicts] == [(outcome, reason, 70_001)]
    assert station.counters.total == 1 and len(verdicts) == 3


class LateLoop:
    """A part was triggered while the loop was busy elsewhere; it comes back when the next part is there."""

    def __init__(self, camera: ScriptedCamera) -> None:
        self.camera = camera

    def wait(self, timeout_s: float) -> Request | None:
        self.camera.put(grey(61))
        self.camera.join()
        return Request(1, 7, time.monotonic_ns() - int(1.5 * BLIND_VERDICT_EVERY_S * 1e9))


def test_a_loop_that_comes_late_does_not_judge_a_part_by_the_next_ones_picture(tmp_path: Path) -> None:
    """The story: another PLC ordered a challenge, which took the loop for a second or two. Then a part
    was triggered; what the camera showed when the loop came back was the part behind it, and that was good.
    """
    engine, recipe, artefact = load_pair(toy_pair(tmp_path, deadline_ms=5000.0, max_frame_age_ms=5000.0))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    camera = ScriptedCamera(live=True)
    with Capture(lambda: camera, "script", read_timeout_s=0.05) as capture:
        station = Station(capture, worker, recipe)
        station.trigger, station.outboxes = LateLoop(camera), [taken := Taken()]
        station.run(count=1)
        camera.put(EndOfStream("done"))
        station.close()
    assert [(v.outcome, v.reason, v.part_id) for v in taken.verdicts] == [
        (Outcome.FAIL, Reason.CAMERA_TIMEOUT, 7)
    ]


class Taken:
    """Who gets the parts' verdicts."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def put(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
