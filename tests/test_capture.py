"""The capture thread: nothing is lost uncounted, nothing hangs, nobody is blind without saying so."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from peers import until

from edge.cameras import camera_opener, open_camera
from edge.cameras.parts import render_part
from edge.cameras.scripted import ScriptedCamera, unplugged
from edge.errors import DataError, EndOfStream, FrameIncomplete
from edge.frame import Frame, Shot, no_frame
from edge.picture.health import image_fault
from edge.recipe import Recipe
from edge.station.capture import Capture, Policy
from edge.trigger import Request
from edge.verdict import Reason, decide


def shot(name: str) -> Shot:
    return Shot(np.zeros((8, 8, 3), np.uint8), label=name)


def shots(names: str) -> list[Shot]:
    return [shot(name) for name in names]


def labels(capture: Capture, count: int) -> list[str | Reason | None]:
    answers = (capture.next(5) for _ in range(count))
    return [answer.label if isinstance(answer, Frame) else answer for answer in answers]


def eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline


def test_latest_gives_the_newest_and_counts_what_it_dropped() -> None:
    camera = ScriptedCamera(shots("abcd"))
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture:
        camera.join()
        assert labels(capture, 1) == ["d"]
        assert (capture.counters.frames, capture.counters.dropped) == (4, 3)
        camera.put(shot("e"))
        assert labels(capture, 1) == ["e"]


def test_every_answers_for_each_part_even_when_a_live_camera_is_too_fast() -> None:
    """Two places, four parts: the two that nobody can judge are answered in their turn, fail-safe."""
    camera = ScriptedCamera(shots("abcd"))
    with Capture(lambda: camera, camera.uri, Policy.EVERY, depth=2, read_timeout_s=0.05) as capture:
        camera.join()
        overload = Reason.STATION_OVERLOADED
        assert labels(capture, 4) == ["a", "b", overload, overload]
        assert (capture.counters.frames, capture.counters.dropped) == (4, 2)
        camera.put(shot("e"))
        assert labels(capture, 1) == ["e"]


@pytest.mark.parametrize("policy", Policy)
def test_a_source_that_waits_for_us_loses_nothing(policy: Policy) -> None:
    camera = ScriptedCamera([*shots("abcdef"), EndOfStream()], live=False)
    with Capture(lambda: camera, camera.uri, policy, depth=2) as capture:
        assert labels(capture, 6) == list("abcdef")
        with pytest.raises(EndOfStream):
            capture.next(5)
        assert (capture.counters.frames, capture.counters.dropped, capture.live) == (6, 0, False)
    assert camera.closed == 1


def test_the_wait_of_a_folder_is_counted_and_its_pictures_do_not_age_meanwhile() -> None:
    camera = ScriptedCamera(shots("abc"), live=False)
    with Capture(lambda: camera, camera.uri, depth=1, read_timeout_s=0.05) as capture:
        eventually(lambda: capture.counters.waits == 1)
        asked_ns = time.monotonic_ns()
        frame = capture.next(5)
        assert isinstance(frame, Frame) and frame.label == "a" and frame.captured_ns >= asked_ns
        assert labels(capture, 2) == ["b", "c"]


def test_the_time_is_taken_after_the_read() -> None:
    read_at = []

    def stamped() -> Shot:
        read_at.append(time.monotonic_ns())
        return shot("a")

    camera = ScriptedCamera([stamped])
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture:
        frame = capture.next(5)
        assert isinstance(frame, Frame) and read_at[0] <= frame.captured_ns <= time.monotonic_ns()


def test_ids_rise_by_one_across_frames_and_blind_verdicts() -> None:
    camera = ScriptedCamera(shots("abc"))
    with Capture(lambda: camera, camera.uri, Policy.EVERY, read_timeout_s=0.05) as capture:
        ids = []
        for _ in range(3):
            frame = capture.next(5)
            assert isinstance(frame, Frame)
            ids += [frame.id, capture.new_id()]
    assert ids == [1, 2, 3, 4, 5, 6]


def test_ids_are_unique_whoever_asks() -> None:
    camera = ScriptedCamera()
    ids: list[int] = []
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.01) as capture:
        ask = [
            threading.Thread(target=lambda: ids.extend(capture.new_id() for _ in range(500)))
            for _ in range(4)
        ]
        for thread in ask:
            thread.start()
        for thread in ask:
            thread.join()
    assert sorted(ids) == list(range(1, 2001))


def test_an_unplug_is_told_at_once_survived_and_counted() -> None:
    camera = ScriptedCamera([shot("a"), unplugged(), shot("b")])
    with Capture(lambda: camera, camera.uri, Policy.EVERY, read_timeout_s=0.05) as capture:
        started = time.monotonic()
        assert labels(capture, 3) == ["a", Reason.CAMERA_LOST, "b"]
        assert time.monotonic() - started < 2  # not one second of blindness a question
        counters = capture.counters
        assert (counters.losses, counters.reconnects, counters.failed_opens) == (1, 1, 0)
        assert capture.error is None


def test_a_conveyor_is_unplugged_and_plugged_in_again() -> None:
    uri = "conveyor:?fps=100&count=6&faults=unplug@2:2"
    with Capture(camera_opener(uri), uri, Policy.EVERY) as capture:
        assert labels(capture, 6) == ["good", "good", Reason.CAMERA_LOST, "good", "good", "good"]
        with pytest.raises(EndOfStream):
            capture.next(5)
        counters = capture.counters
        assert (counters.losses, counters.failed_opens, counters.reconnects) == (1, 2, 1)


def test_a_camera_that_is_not_there_leaves_the_station_blind_not_dead() -> None:
    """The station is switched on before the camera: it says so in words and goes on trying."""
    with Capture(lambda: open_camera("97"), "97") as capture:
        assert capture.next(5) is Reason.CAMERA_LOST
        assert capture.next(0.01) is Reason.CAMERA_LOST
        assert "cannot be opened" in str(capture.error)
        assert capture.counters.failed_opens >= 1 and capture.counters.losses == 0


@pytest.mark.parametrize("on_fault", ["fail", "review"])
def test_a_blind_station_never_passes_a_part(on_fault: str) -> None:
    recipe = Recipe("board", (256, 256), 0.5, 0.8, on_fault=on_fault)
    camera = ScriptedCamera([unplugged()])
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.01) as capture:
        for reason in (capture.next(5), capture.next(0.02)):
            assert isinstance(reason, Reason) and reason.is_fault
            nothing = no_frame(capture.new_id(), capture.source, time.monotonic_ns())
            verdict = decide(nothing, reason, recipe, time.monotonic_ns())
            assert verdict.outcome.value == on_fault and verdict.reason is reason


def test_a_silent_camera_is_a_timeout() -> None:
    camera = ScriptedCamera()
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.01) as capture:
        answers = [capture.next(0.05) for _ in range(2)]
        assert answers[-1] is Reason.CAMERA_TIMEOUT
        assert capture.counters.timeouts >= 1 and capture.counters.losses == 0


def test_an_unexpected_error_in_the_driver_is_a_loss_and_never_a_silent_death() -> None:
    camera = ScriptedCamera([ZeroDivisionError("in the driver"), shot("a")])
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture:
        assert labels(capture, 2) == [Reason.CAMERA_LOST, "a"]
        assert capture.counters.losses == 1


def test_a_camera_that_comes_back_in_another_mode_is_opened_again_until_it_recovers() -> None:
    """The story: a camera rebooted into another pixel format. It opened, its first picture could not be read,
    and the station ended as if the user had typed a wrong setting: nobody started it again."""
    unknown = DataError("the pixel format Mono12p is not known", "scripted:", "Set another one.")
    camera = ScriptedCamera([shot("a"), unplugged(), unknown, unknown, shot("b")])
    with Capture(lambda: camera, camera.uri, Policy.EVERY, read_timeout_s=0.05) as capture:
        assert labels(capture, 2) == ["a", Reason.CAMERA_LOST]
        assert until(lambda: capture.counters.frames == 2, 30.0)
        assert labels(capture, 1) == ["b"]
        assert capture.counters.losses == 3


def test_a_camera_whose_very_first_picture_cannot_be_read_is_a_wrong_setting() -> None:
    unknown = DataError("the pixel format Mono12p is not known", "scripted:", "Set another one.")
    camera = ScriptedCamera([unknown])
    with (
        Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture,
        pytest.raises(DataError, match="Mono12p"),
    ):
        capture.next(5)


def test_an_error_in_the_opener_is_survived_too() -> None:
    camera, errors = ScriptedCamera(shots("a")), [ZeroDivisionError("opening")]

    def opener() -> ScriptedCamera:
        if errors:
            raise errors.pop()
        return camera

    with Capture(opener, camera.uri, read_timeout_s=0.05) as capture:
        assert labels(capture, 2) == [Reason.CAMERA_LOST, "a"]
        assert (capture.counters.failed_opens, capture.counters.reconnects) == (1, 0)


def test_a_broken_file_reaches_the_caller_after_the_good_ones(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), render_part(0, 0))
    (tmp_path / "b.png").write_bytes(b"torn")
    with Capture(camera_opener(str(tmp_path)), str(tmp_path)) as capture:
        assert labels(capture, 1) == ["a.png"]
        for _ in range(2):
            with pytest.raises(DataError, match=r"b\.png"):
                capture.next(5)


def test_a_read_that_hangs_in_the_driver_hangs_nobody_else() -> None:
    """A driver that never returns cannot be interrupted: next() and close() leave it behind."""
    hung, release = threading.Event(), threading.Event()

    def hang() -> Shot:
        hung.set()
        release.wait(30)
        return shot("late")

    camera = ScriptedCamera([hang])
    capture = Capture(lambda: camera, camera.uri)
    assert hung.wait(5)
    started = time.monotonic()
    assert capture.next(0.02) is Reason.CAMERA_TIMEOUT
    assert time.monotonic() - started < 1
    capture.close()
    assert time.monotonic() - started < 4
    with pytest.raises(EndOfStream):
        capture.next(5)
    release.set()


def test_close_wakes_whoever_waits_and_may_be_called_twice() -> None:
    camera = ScriptedCamera([*shots("abc")], live=False)
    capture = Capture(lambda: camera, camera.uri, depth=1, read_timeout_s=0.05)
    capture.close()
    capture.close()
    with pytest.raises(EndOfStream):
        capture.next(5)


def test_a_picture_that_was_under_way_when_the_part_was_triggered_is_not_its_picture() -> None:
    """The story: a camera that runs by itself had exposed before the trigger and delivered after it: the
    part before was judged, and its verdict given to the next one."""
    camera = ScriptedCamera()
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture:
        begun_ns = time.monotonic_ns()
        request = Request(1, 7, time.monotonic_ns())
        camera.put(replace(shot("part before"), begun_ns=begun_ns))
        assert capture.next(0.3, request) is Reason.CAMERA_TIMEOUT
        camera.put(replace(shot("part 7"), begun_ns=time.monotonic_ns()))
        frame = capture.next(5, request)
    assert isinstance(frame, Frame) and frame.label == "part 7" and frame.part_id == 7


def test_a_camera_that_freezes_between_two_judged_pictures_is_seen() -> None:
    """The story: a camera froze on a picture that no part had asked for; compared with the last *judged* one
    it looked new, and the next part was judged by it."""
    camera = ScriptedCamera()
    grey = np.full((8, 8, 3), 90, np.uint8)
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture:
        camera.put(Shot(grey))
        camera.put(Shot(grey.copy()))
        camera.join()
        frame = capture.next(5)
    assert isinstance(frame, Frame) and frame.before is not None
    assert image_fault(frame.pixels, frame.before) is Reason.FRAME_FROZEN


def a_hole() -> FrameIncomplete:
    return FrameIncomplete("a picture came incomplete", "scripted:", "Check the network.")


def test_a_part_whose_picture_came_incomplete_does_not_get_the_next_parts_picture() -> None:
    """The story: a light barrier triggered the camera, the PLC the station. Packets of part 7's picture were
    lost; the station went on waiting, and a third of a second later part 8 was photographed: 7 passed by it.
    """
    camera = ScriptedCamera()
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture:
        seven = Request(1, 7, time.monotonic_ns())
        camera.put(a_hole())
        camera.put(shot("part 8"))
        camera.join()
        assert capture.next(5, seven) is Reason.FRAME_INCOMPLETE
        eight = Request(2, 8, time.monotonic_ns())
        camera.put(replace(shot("part 8 from the other side"), taken_ns=eight.at_ns - 1))
        camera.join()
        assert capture.next(5, eight) is Reason.FRAME_STALE, "told once; and 8 was there before its trigger"
        nine = Request(3, 9, time.monotonic_ns())
        camera.put(shot("part 9"))
        frame = capture.next(5, nine)
    assert isinstance(frame, Frame) and frame.part_id == 9


def test_a_camera_that_runs_by_itself_gives_the_next_picture_for_one_with_holes() -> None:
    camera = ScriptedCamera([replace(shot("before"), begun_ns=1)])
    with Capture(lambda: camera, camera.uri, read_timeout_s=0.05) as capture:
        camera.join()
        request = Request(1, 7, time.monotonic_ns())
        camera.put(a_hole())
        camera.put(replace(shot("part 7"), begun_ns=time.monotonic_ns()))
        frame = capture.next(5, request)
    assert isinstance(frame, Frame) and frame.label == "part 7"


def test_a_part_without_a_picture_of_its_own_has_the_time_at_which_it_was_there() -> None:
    """Where it is on the belt follows from that; it may be asked for much later."""
    camera = ScriptedCamera()
    with Capture(lambda: camera, camera.uri, Policy.EVERY, depth=1, read_timeout_s=0.05) as capture:
        camera.put(shot("a"))
        camera.put(shot("b"))
        camera.join()
        there_ns = time.monotonic_ns()
        assert labels(capture, 2) == ["a", Reason.STATION_OVERLOADED]
        assert 0 < capture.missed_ns < there_ns
