"""Every camera keeps the same promises. A new camera adds one line to CAMERAS."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras import Camera, camera_kind, camera_opener, open_camera, safe_uri
from edge.cameras.opencv import is_stall, to_bgr
from edge.cameras.parts import render_part
from edge.cameras.scripted import ScriptedCamera
from edge.errors import CameraLost, CameraTimeout, DataError, EndOfStream
from edge.frame import Frame, Shot
from edge.station.capture import Capture

Maker = Callable[[Path, pytest.FixtureRequest], Camera]


def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), render_part(0, index))
    return open_camera(str(tmp_path))


def video(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 320))
    for index in range(3):
        writer.write(render_part(0, index))
    writer.release()
    return open_camera(str(path))


def conveyor(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    return open_camera("conveyor:?count=3&fps=50")


def scripted(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    return ScriptedCamera([Shot(render_part(0, index)) for index in range(3)] + [EndOfStream()])


def rtsp(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    return open_camera(request.getfixturevalue("rtsp_server").uri)


def aravis(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    request.getfixturevalue("gige_camera")
    return open_camera("aravis:EI-1?pixel_format=BayerRG8&exposure_us=5000")


def pylon(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    request.getfixturevalue("pylon_emulation")
    return open_camera("pylon:0815-0000?pixel_format=BayerRG8&exposure_us=5000")


def genicam(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    return open_camera(f"genicam:{producer()}?device=VikyTL_DEV_green&BouncingBallSize=40")


def producer() -> Path:
    """A whole GenTL producer, with cameras that show a ball: it comes with the library."""
    return Path(
        pytest.importorskip("genicam", reason="pip install 'edge-inspect[genicam]'").__file__
    ).with_name("viky.cti")


def gst(tmp_path: Path, request: pytest.FixtureRequest) -> Camera:
    request.getfixturevalue("gstreamer")
    return open_camera("gst:videotestsrc is-live=true ! video/x-raw,width=321,height=240")


CAMERAS = [folder, video, conveyor, scripted, rtsp, aravis, pylon, genicam, gst]
FINITE = [folder, video, conveyor, scripted]


@pytest.mark.parametrize("make", CAMERAS)
def test_pictures_are_bgr_bytes_and_belong_to_the_caller(
    make: Maker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    camera = make(tmp_path, request)
    shots = [camera.read(5) for _ in range(3)]
    camera.close()
    for shot in shots:
        assert shot.pixels.dtype == np.uint8 and shot.pixels.ndim == 3 and shot.pixels.shape[2] == 3
        assert shot.pixels.flags.c_contiguous and shot.pixels.std() > 5
    assert not np.shares_memory(shots[0].pixels, shots[1].pixels)


@pytest.mark.parametrize("make", CAMERAS)
def test_close_may_be_called_twice_and_no_password_is_shown(
    make: Maker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    camera = make(tmp_path, request)
    assert "secret" not in camera.uri
    assert isinstance(camera.live, bool)
    camera.close()
    camera.close()


@pytest.mark.parametrize("make", FINITE)
def test_a_finite_source_says_so(make: Maker, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    camera = make(tmp_path, request)
    for _ in range(3):
        camera.read(5)
    with pytest.raises(EndOfStream):
        camera.read(5)
    camera.close()


@pytest.mark.parametrize("make", CAMERAS)
def test_every_camera_works_behind_the_capture_thread(
    make: Maker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    camera = make(tmp_path, request)
    with Capture(lambda: camera, camera.uri) as capture:
        frame = capture.next(5)
    assert isinstance(frame, Frame) and frame.id == 1 and not frame.pixels.flags.writeable


def test_folder_is_sorted_labelled_loops_and_looks_below(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("b.png", "a.png", "below/c.png"):
        cv2.imwrite(str(tmp_path / name), render_part(0, 0))
    camera = open_camera(f"{tmp_path}?loop=1&recursive=1&fps=200")
    assert [camera.read(1).label for _ in range(4)] == ["a.png", "b.png", "below/c.png", "a.png"]


def test_a_broken_file_names_itself(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"torn\.png"):
        open_camera(str(tmp_path)).read(1)


def test_a_folder_with_a_question_mark_in_its_name_opens(tmp_path: Path) -> None:
    (tmp_path / "why?loop=1").mkdir()
    cv2.imwrite(str(tmp_path / "why?loop=1" / "a.png"), render_part(0, 0))
    assert open_camera(str(tmp_path / "why?loop=1")).read(1).label == "a.png"


def test_one_picture_is_a_camera_too(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), render_part(0, 0))
    assert open_camera(str(tmp_path / "a.png")).read(1).label == "a.png"


def test_a_camera_that_is_not_there_says_what_to_check() -> None:
    with pytest.raises(CameraLost, match=r"v4l/by-id.*group `video`"):
        open_camera("97")
    with pytest.raises(CameraLost, match="cannot be opened"):
        open_camera("/dev/v4l/by-id/nobody?width=640")


def test_opencv_is_quiet_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CameraLost):
        open_camera("97")
    with pytest.raises(CameraLost):
        open_camera("rtsp://viewer:secret@127.0.0.1:9/line")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gige://10.0.0.9", r"'gige' is not known.*Known: .*rtsp://HOST/PATH.*conveyor:"),
        ("gige://boss:secret@10.0.0.9/a", r"gige://boss@10"),
        ("no/such/place", "no such folder or file"),
        ("", "no such folder or file"),
        ("x" * 5000, "no such folder or file"),
        ("0?wide=3", "'wide'.*Known: fourcc, width"),
        ("0?fourcc=MJ", "fourcc"),
        ("conveyor:?sed=1", "'sed' is not known"),
        ("conveyor:?defects=2", "defects=2"),
        ("conveyor:?kinds=rust", "rust"),
        ("conveyor:?faults=melt@3", "melt@3"),
        ("conveyor:?faults=freeze@-1", "freeze@-1"),
        ("aravis:?exposure=5", "'exposure' is not known.*exposure_us.*Known: pixel_format"),
        ("genicam:/no/such.cti", "no such GenTL producer"),
        ("gst:", "there is no pipeline"),
        ("csi:0?size=3", r"unknown setting 'size'.*csi:0\?width=1920"),
        ("csi:left", "left"),
    ],
)
def test_what_cannot_be_opened_is_answered_before_anything_runs(uri: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as error:
        camera_opener(uri)
    assert "secret" not in str(error.value)


def test_folder_settings_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^unknown setting 'speed' .*Known: recursive"):
        open_camera(f"{tmp_path}?speed=1&fps=2")
    with pytest.raises(DataError, match=r"cannot be read: .*'fast'.*Known: recursive"):
        open_camera(f"{tmp_path}?fps=fast")
    with pytest.raises(DataError, match="no pictures"):
        open_camera(str(tmp_path))


def test_a_text_file_is_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("hello")
    with pytest.raises(DataError, match="not a video"):
        open_camera(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("0", "0"),
        ("rtsp://u:p@h:554/a?x=1", "rtsp://u@h:554/a?x=1"),
        ("rtsp://u:p@w@h/x", "rtsp://u@h/x"),
        ("rtsp://u:p/w@h/x", "rtsp://u@h/x"),
        ("rtsp://u:p#?q@h/x", "rtsp://u@h/x"),
        ("rtsp://h:554/a@b", "rtsp://h:554/a@b"),
        ("rtsp://u:p@[fe80::1]:554/x", "rtsp://u@[fe80::1]:554/x"),
        ("http://h/v?user=a&password=zz&ch=1", "http://h/v?user=a&password=***&ch=1"),
        ("conveyor:?seed=1", "conveyor:?seed=1"),
        ("gst:rtspsrc location=rtsp://u:p@h/x ! decodebin", "gst:rtspsrc location=rtsp://u@h/x ! decodebin"),
        ("gst:rtspsrc user-id=u user-pw=zz latency=0", "gst:rtspsrc user-id=u user-pw=*** latency=0"),
        ('gst:rtspsrc user-pw = "z z" ! fakesink', "gst:rtspsrc user-pw = *** ! fakesink"),
    ],
)
def test_passwords_never_leave(uri: str, shown: str) -> None:
    assert safe_uri(uri) == shown


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("0", "device"),
        ("2?width=640", "device"),
        ("/dev/video0", "device"),
        ("RTSP://h/x", "stream"),
        ("aravis:", "genicam"),
        ("pylon:22345678", "genicam"),
        ("gst:videotestsrc", "gst"),
        ("csi:0", "csi"),
    ],
)
def test_kinds(uri: str, kind: str) -> None:
    assert camera_kind(uri) == kind


def test_grey_and_alpha_become_three_channels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert to_bgr(grey).shape == to_bgr(grey[..., None]).shape == (3, 4, 3)
    assert to_bgr(np.zeros((3, 4, 4), np.uint8)).shape == (3, 4, 3)


def test_a_stall_is_told_from_a_slow_camera() -> None:
    """After a second without network, pictures a second old come at once and look new."""
    assert is_stall(waited_s=1.0, step_s=0.04)
    assert not is_stall(waited_s=1.0, step_s=1.0)
    assert not is_stall(waited_s=0.1, step_s=0.04)
    assert not is_stall(waited_s=1.0, step_s=0.0)


def test_scripted_camera_does_what_it_is_told() -> None:
    camera = ScriptedCamera([ValueError("odd"), lambda: Shot(render_part(0, 0))])
    with pytest.raises(ValueError, match="odd"):
        camera.read(1)
    assert camera.read(1).pixels.size
    with pytest.raises(CameraTimeout):
        camera.read(0)
