"""The network camera breaks for real: a server process is stopped, killed and started again."""

import time
from typing import Any

from edge.cameras import camera_opener, safe_uri
from edge.frame import Frame
from edge.picture.health import age_fault, image_fault
from edge.station.capture import Capture
from edge.verdict import Reason


def until(capture: Capture, wanted: type[Frame] | Reason, limit_s: float = 15) -> list[Frame | Reason]:
    """All answers up to the wanted one."""
    answers: list[Frame | Reason] = []
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        answers.append(capture.next(0.5))
        if answers[-1] is wanted or (isinstance(wanted, type) and isinstance(answers[-1], wanted)):
            return answers
    raise AssertionError(f"{wanted} did not come within {limit_s} s: {answers[-5:]}, {capture.error}")


def test_a_stream_that_freezes_is_noticed_in_half_a_second_and_comes_back(rtsp_server: Any) -> None:
    """SIGSTOP leaves the connection open and silent: the fault that hung other stations for ever."""
    with Capture(camera_opener(rtsp_server.uri), safe_uri(rtsp_server.uri)) as capture:
        until(capture, Frame)
        rtsp_server.freeze()
        stopped = time.monotonic()
        until(capture, Reason.CAMERA_TIMEOUT)
        assert time.monotonic() - stopped < 2
        until(capture, Reason.CAMERA_LOST)
        rtsp_server.thaw()
        frame = until(capture, Frame)[-1]
        assert isinstance(frame, Frame) and frame.captured_ns > stopped * 1e9
        assert (capture.counters.losses, capture.counters.reconnects) == (1, 1)


def test_a_killed_server_is_a_loss_at_once_and_its_restart_is_survived(rtsp_server: Any) -> None:
    with Capture(camera_opener(rtsp_server.uri), safe_uri(rtsp_server.uri)) as capture:
        first = until(capture, Frame)[-1]
        rtsp_server.kill()
        killed = time.monotonic()
        until(capture, Reason.CAMERA_LOST)
        assert time.monotonic() - killed < 2
        assert "secret" not in str(capture.error)
        rtsp_server.start()
        again = until(capture, Frame)[-1]
        assert isinstance(first, Frame) and isinstance(again, Frame) and again.id > first.id
        assert "secret" not in again.source
        assert capture.counters.losses == 1 and capture.counters.reconnects == 1


def test_pictures_that_piled_up_while_opening_are_not_given_out(rtsp_server: Any) -> None:
    """FFmpeg probes a stream for most of a second and then gives what it gathered, all at once.

    Taken as they come they would carry a time after the read, although they are old.
    """
    camera = camera_opener(rtsp_server.uri)()
    times = []
    for _ in range(6):
        shot = camera.read(5)
        assert shot.device_ns is not None
        times.append((time.monotonic(), shot.device_ns / 1e9, shot))
    camera.close()
    arrived, streamed = times[-1][0] - times[0][0], times[-1][1] - times[0][1]
    assert arrived > 0.5 * streamed, "they came faster than the camera makes them"
    assert image_fault(times[1][2].pixels, times[0][2].pixels) is None


def test_after_a_pause_no_old_picture_is_judged(rtsp_server: Any) -> None:
    """A pause shorter than the read's limit loses nothing: OpenCV alone then gives out all that piled up.

    81 pictures after 3 s, each with a time after its read: a part is judged by another part's picture.
    The stream's own clock tells how old each one is.
    """
    with Capture(camera_opener(rtsp_server.uri), safe_uri(rtsp_server.uri)) as capture:
        lag = min(late for _ in range(15) if (late := _lag_s(until(capture, Frame)[-1])) is not None)
        for _ in range(2):
            rtsp_server.freeze()
            time.sleep(1.4)
            rtsp_server.thaw()
            judged = [late for _ in range(20) if (late := _lag_s(until(capture, Frame)[-1])) is not None]
            assert len(judged) > 5 and max(judged) - lag < 0.6, "a picture from before the pause"
        assert capture.counters.losses == 0


def _lag_s(item: Any) -> float | None:
    """Seconds from the stream's clock to ours as a frame comes; None for one that is too old to be judged."""
    assert isinstance(item, Frame) and item.device_ns is not None
    now_ns = time.monotonic_ns()
    too_old = age_fault(item.captured_ns, now_ns, max_age_ms=500) is not None
    return None if too_old else (now_ns - item.device_ns) / 1e9
