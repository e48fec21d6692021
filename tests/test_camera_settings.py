"""A camera's settings are written and read back; its bytes and its clock are understood."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera_clock import WINDOW_NS, CameraClock
from edge.cameras import open_camera
from edge.cameras.device_names import number_note
from edge.cameras.genicam import silence_s
from edge.cameras.gst import csi_pipeline
from edge.cameras.pixel_formats import bgr_of
from edge.errors import CameraLost, CameraTimeout, DataError
from edge.readers.features import is_same

MS = 1_000_000


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("exposure_us=33.4", r"took ExposureTime=33\.0, not 33\.4.*Write exposure_us=33\.0"),
        ("trigger_delay_us=1.5", r"took TriggerDelay=2\.0, not 1\.5"),
        ("GainRaw=5", "refuses GainRaw=5"),
        ("debounce_us=10", "has no LineDebouncerTime.*Leave debounce_us away"),
        ("pixel_format=BayerXX8", "refuses PixelFormat=BayerXX8"),
        ("Nonsense=1", "has no Nonsense"),
    ],
)
def test_what_a_camera_does_not_take_as_it_is_meant_is_told(
    pylon_emulation: None, settings: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        open_camera(f"pylon:?{settings}")


def test_a_camera_that_waits_for_a_trigger_has_to_be_told(gige_camera: object) -> None:
    """Else its pictures are taken for those of a free-running one: each part is judged by the next one's."""
    open_camera("aravis:EI-1?trigger=Line0").close()
    with pytest.raises(DataError, match=r"waits for a trigger.*\?trigger=Line1"):
        open_camera("aravis:EI-1?gain=0")
    open_camera("aravis:EI-1?TriggerMode=Off").close()
    open_camera("aravis:EI-1").close()


def test_settings_reach_the_camera(pylon_emulation: None) -> None:
    settings = "width=320&height=200&pixel_format=Mono12&exposure_us=100.4&gain=2&fps=40&trigger=off"
    camera = open_camera(f"pylon:?{settings}&TestImageSelector=Testimage2")
    shot = camera.read(5)
    camera.close()
    assert shot.pixels.shape == (200, 320, 3) and shot.pixels.std() > 5


def test_the_station_asks_a_camera_with_software_trigger(pylon_emulation: None, gige_camera: object) -> None:
    for uri in ("pylon:?trigger=Software", "aravis:EI-1?trigger=Software&packet_size=1400"):
        camera = open_camera(uri)
        assert [camera.read(5).pixels.size > 0 for _ in range(3)] == [True] * 3
        camera.close()


def test_a_gige_camera_that_waits_for_its_line_gives_nothing_untriggered(gige_camera: object) -> None:
    camera = open_camera("aravis:EI-1?trigger=Line0&trigger_edge=RisingEdge&gain=0")
    with pytest.raises(CameraTimeout, match=r"no picture for 0\.5 s.*trigger"):
        camera.read(0.5)
    camera.close()


def test_red_is_red_and_blue_is_blue() -> None:
    """Had they changed places, the model would learn colours that are not there."""
    library = pytest.importorskip("genicam", reason="pip install 'edge-inspect[genicam]'")
    producer = Path(library.__file__).with_name(
        "viky.cti"
    )  # its cameras show a ball on white, named by colour
    for name, channel in (("blue", 0), ("red", 2)):
        camera = open_camera(f"genicam:{producer}?device=VikyTL_DEV_{name}")
        seen = camera.read(5).pixels.min((0, 1))
        camera.close()
        assert seen[channel] == 255 and seen[2 - channel] < 50


def test_a_camera_that_is_not_there_names_those_that_are(pylon_emulation: None) -> None:
    with pytest.raises(CameraLost, match=r"does not answer; found: Basler Emulation"):
        open_camera("pylon:12345678")


def test_what_runs_free_must_not_be_silent_for_long() -> None:
    assert silence_s({}) == silence_s({"trigger": "Software"}) == silence_s({"trigger": "off"}) < 60
    assert silence_s({"trigger": "Line1"}) == silence_s({"TriggerMode": "On"}) == float("inf")


@pytest.mark.parametrize(
    ("got", "wanted", "same"),
    [("5000", "5000.0", True), ("4998.6", "5000", True), ("4900", "5000", False), ("Line1", "line1", True),
     ("true", "1", True), ("0", "1", False), ("0", "0", True), ("Line1", "Line2", False)],
)  # fmt: skip
def test_read_back(got: str, wanted: str, same: bool) -> None:
    assert is_same(got, wanted) is same


COLOUR = np.full((16, 16, 3), (200, 120, 40), np.uint8)  # BGR


def mosaic(order: str) -> np.ndarray:
    """What a sensor with this colour filter sees: `order` is the first row's two and the second's first."""
    value = {"B": 200, "G": 120, "R": 40}
    rows = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}[order]
    plane = np.empty((16, 16), np.uint8)
    for i, letter in enumerate(rows):
        plane[i // 2 :: 2, i % 2 :: 2] = value[letter]
    return plane


@pytest.mark.parametrize("order", ["RG", "GR", "GB", "BG"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_each_bayer_order_gives_the_colour_that_was_there(order: str, bits: int) -> None:
    plane = mosaic(order)
    data = plane if bits == 8 else (plane.astype("<u2") << (bits - 8)).view(np.uint8)
    found = bgr_of(data.reshape(-1), 16, 16, f"Bayer{order}{bits}")
    assert np.abs(found[2:-2, 2:-2].astype(int) - COLOUR[2:-2, 2:-2]).max() <= 1


@pytest.mark.parametrize(
    ("name", "code"),
    [("BGR8", None), ("RGB8", cv2.COLOR_BGR2RGB), ("RGB8Packed", cv2.COLOR_BGR2RGB),
     ("RGBa8", cv2.COLOR_BGR2RGBA), ("BGRA8Packed", cv2.COLOR_BGR2BGRA)],
)  # fmt: skip
def test_colour_formats(name: str, code: int | None) -> None:
    data = COLOUR if code is None else cv2.cvtColor(COLOUR, code)
    assert np.array_equal(bgr_of(np.ascontiguousarray(data).reshape(-1), 16, 16, name), COLOUR)


def test_yuv_has_its_luma_where_its_name_says() -> None:
    luma = np.full((4, 4, 2), 128, np.uint8)
    for name, place in (("YUV422_8", 0), ("YUV422Packed", 1)):
        data = luma.copy()
        data[..., place] = 235
        assert bgr_of(data.reshape(-1), 4, 4, name).min() > 250


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("Mono12Packed", 24, "Mono12Packed is not known.*pixel_format=Mono8"),
        ("Mono8", 15, "15 bytes are no 4x4"),
    ],
)
def test_bytes_that_are_not_understood_are_no_picture(name: str, size: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        bgr_of(np.zeros(size, np.uint8), 4, 4, name)


def test_a_picture_that_waited_is_older_than_it_looks() -> None:
    """The camera's clock began at 7 s; pictures take 5 ms, one of them lay in a queue for 800 ms."""
    clock, offset = CameraClock(), 50_000 * MS
    for i in range(10):
        device = 7_000 * MS + i * 40 * MS
        assert clock.taken_ns(device, device + offset + 5 * MS) == device + offset + 5 * MS
    device = 7_000 * MS + 10 * 40 * MS
    now = device + offset + 805 * MS
    assert now - clock.taken_ns(device, now) == 800 * MS


def test_a_camera_clock_that_drifts_stays_young() -> None:
    """100 millionths fast or slow, for two hours: without forgetting, the age would be 0.7 s at the end."""
    for drift in (1 + 1e-4, 1 - 1e-4):
        clock = CameraClock()
        for second in range(7200):
            now = second * 1000 * MS
            age = now - clock.taken_ns(int(now * drift), now)
        assert 0 <= age <= 2 * WINDOW_NS * 1e-4


def test_a_camera_clock_that_is_set_makes_no_picture_old() -> None:
    clock = CameraClock()
    for device, now in (
        (5_000, 1_000),
        (5_040, 1_040),
        (10, 1_080),
        (50, 1_120),
        (9_000, 1_160),
        (9_040, 1_200),
    ):
        assert clock.taken_ns(device * MS, now * MS) == now * MS


def test_a_number_is_warned_of_with_the_name_that_stays(tmp_path: Path) -> None:
    video = tmp_path / "video2"
    video.touch()
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    (by_id / "usb-Maker_Camera_77-video-index0").symlink_to(video)
    note = number_note("/dev/video2?width=640", (by_id,))
    assert f"write {by_id}/usb-Maker_Camera_77-video-index0?width=640" in note
    assert number_note("2", (by_id,)).endswith("index0")
    assert "ls -l /dev/v4l/by-id" in number_note("3", (by_id, tmp_path / "none"))
    for uri in (f"{by_id}/usb-Maker_Camera_77-video-index0", "conveyor:", "parts/2", "aravis:2"):
        assert number_note(uri, (by_id,)) == ""


def test_a_csi_camera_is_asked_as_nvidia_says() -> None:
    pipeline = csi_pipeline("csi:1?width=1280&height=720&fps=60&flip=2")
    assert pipeline.startswith(
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720,"
    )
    assert "framerate=60/1 ! nvvidconv flip-method=2 ! video/x-raw,format=BGRx" in pipeline
    assert "sensor-id=0" in csi_pipeline("csi:")
