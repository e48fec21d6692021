"""Several pictures of one part, one verdict: nothing but all good pictures pass."""

import io
import re
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from faults.test_station_faults import grey
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import a_verdict
from rich.console import Console
from toy import toy_pair

from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera
from edge.errors import EndOfStream
from edge.frame import Shot
from edge.plc.handshake import Mode
from edge.plc.line_protocol import answer
from edge.plc.link import PlcLink
from edge.recipe import load_pair
from edge.station.capture import Capture
from edge.station.live import LiveView, PlainLines
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


def test_a_part_is_counted_and_told_by_the_picture_that_decided(tmp_path: Path) -> None:
    """The story: the log said picture 14 where the PLC said part 70001, and the summary that a good part had
    failed: its last picture was good."""
    engine, recipe, artefact = load_pair(toy_pair(tmp_path, deadline_ms=5000.0, max_frame_age_ms=5000.0))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    camera, log, table = ScriptedCamera(live=True), Console(file=io.StringIO(), width=200), LiveView()
    shots = [replace(grey(220), label="scratch"), replace(grey(61), label="good")]
    with (
        Capture(lambda: camera, "script", keep=2, read_timeout_s=0.05) as capture,
        closing(PlainLines(log)) as lines,
    ):
        station = Station(capture, worker, recipe, [lines, table])
        station.shots, station.trigger = 2, OneRequest(camera, shots)
        station.run(count=1)
        camera.put(EndOfStream("done"))
        station.close()
    assert station.counters.by_label == {("scratch", "fail"): 1}
    log.print(table)
    told, *drawn = log.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert told.startswith("1 part 70001 FAIL ANOMALY ") and told.endswith(" scratch")
    assert [re.findall(r"\w+", row)[:3] for row in drawn if "70001" in row] == [
        ["1", "70001", "FAIL"], ["2", "70001", "PASS"],
    ]  # fmt: skip


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


def triggered(station: Station) -> Request:
    """By a PLC; the loop has not come to it yet."""
    link = PlcLink(Mode.IDS)
    station.trigger, link.expect = link, station.expect
    link.beat(1, True)
    assert [link.act(partial(answer, line)) for line in ("HB", "TRG,7")] == [b"OK\r", b"OK,7\r"]
    request = link.act(lambda hand, now_ns: hand.last_trigger)
    assert request is not None
    return request


def named(level: int, name: str) -> Shot:
    return replace(grey(level), label=name, begun_ns=time.monotonic_ns())


def test_a_part_is_judged_by_its_first_pictures_while_a_fast_camera_goes_on(tmp_path: Path) -> None:
    """The story: the lights change from picture to picture. While the first one was judged three more came;
    the newest two were kept, so both that were judged had the same light, and the other side was not seen.
    """
    engine, recipe, artefact = load_pair(toy_pair(tmp_path, deadline_ms=5000.0, max_frame_age_ms=5000.0))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    camera, seen = ScriptedCamera(live=True), list[str | None]()
    with Capture(lambda: camera, "script", keep=2, read_timeout_s=0.05) as capture:
        station = Station(capture, worker, recipe, [lambda frame, *_: seen.append(frame.label)])
        station.shots, station.outboxes = 2, [taken := Taken()]
        camera.put(named(60, "the part before"))
        camera.join()
        triggered(station)
        for level, name in ((61, "light A"), (220, "light B"), (62, "A again"), (63, "B again")):
            camera.put(named(level, name))
        camera.join()
        station.run(count=1)
        camera.put(EndOfStream("done"))
        station.close()
    assert seen == ["light A", "light B"]
    assert [(v.outcome, v.reason) for v in taken.verdicts] == [(Outcome.FAIL, Reason.ANOMALY)]


def test_a_camera_that_was_faster_than_the_trigger_costs_its_part_the_pass(tmp_path: Path) -> None:
    """The story: a light barrier fired camera and PLC together. The picture was there before the trigger, and
    the next part's was judged for it. The gate needs to know when the part itself was there."""
    engine, recipe, artefact = load_pair(toy_pair(tmp_path, deadline_ms=5000.0, max_frame_age_ms=5000.0))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    camera = ScriptedCamera(live=True)
    with Capture(lambda: camera, "script", read_timeout_s=0.05) as capture:
        station = Station(capture, worker, recipe)
        station.outboxes = [taken := Taken()]
        came_ns = triggered(station).at_ns - 8_000_000
        camera.put(replace(grey(220), taken_ns=came_ns))  # as the camera's clock tells
        camera.put(grey(60))
        camera.join()
        station.run(count=1)
        camera.put(EndOfStream("done"))
        station.close()
    assert [(v.outcome, v.reason, v.captured_ns) for v in taken.verdicts] == [
        (Outcome.FAIL, Reason.FRAME_STALE, came_ns)
    ]


def test_a_second_camera_keeps_its_picture_while_the_first_ones_is_waited_for(tmp_path: Path) -> None:
    """The story: the first camera's picture took its time; the second one, which runs free, went on, and the
    picture that was judged with it showed the part behind."""
    engine, recipe, artefact = load_pair(toy_pair(tmp_path, deadline_ms=5000.0, max_frame_age_ms=5000.0))
    cameras = [ScriptedCamera(live=True), ScriptedCamera(live=True)]
    with ExitStack() as stack:
        stations = []
        for camera in cameras:
            stack.callback(camera.put, EndOfStream("done"))
            source = Capture(lambda camera=camera: camera, "script", read_timeout_s=0.05)  # type: ignore[misc]
            backend = OnnxRuntimeBackend(engine, recipe.input_size)
            worker = InferenceWorker(backend, recipe, artefact.sha256)
            stations.append(Station(stack.enter_context(source), worker, recipe))
            stack.callback(stations[-1].close)
        first, second = stations
        first.views, first.outboxes = [second], [taken := Taken()]
        triggered(first)
        for level in (220, 60, 61):
            cameras[1].put(named(level, "side"))
        cameras[1].join()
        cameras[0].put(named(62, "top"))
        first.run(count=1)
    assert [(v.outcome, v.reason) for v in taken.verdicts] == [(Outcome.FAIL, Reason.ANOMALY)]


class Taken:
    """Who gets the parts' verdicts."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def put(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
