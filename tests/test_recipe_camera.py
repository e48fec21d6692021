"""A recipe brings its camera settings: sealed, merged with the URI, really in the camera before it judges."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from conftest import GigeCamera
from faults.test_station_faults import grey
from peers import free_port, plc_client, until
from test_orders import Plc, shelf, write
from toy import toy_pair
from typer.testing import CliRunner

from edge.cameras.scripted import ScriptedCamera, unplugged
from edge.cli import app
from edge.engines.choice import Choice, unlike
from edge.engines.engine import open_engine
from edge.errors import CameraLost, DataError, InspectError, RecipeError
from edge.frame import Frame, Inspection, Shot
from edge.plc.commands import Command
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.registers import Status
from edge.recipe import METADATA_KEY, Recipe, dumps, load_pair, load_recipe, recipe_path, save_recipe
from edge.settings import set_by_hand
from edge.station import capture as capture_module
from edge.station.camera_settings import RecipeCamera, camera_option, with_settings
from edge.station.capture import Capture, Policy
from edge.station.compose import station_of
from edge.station.dry_run import dry_run
from edge.station.line import LineOptions
from edge.station.loop import Station, Successor
from edge.station.orders import Orders
from edge.station.running import RunOptions
from edge.station.worker import InferenceWorker
from edge.verdict import Outcome, Reason, Verdict

ENDED = Status.COMMAND_DONE | Status.COMMAND_FAILED


@pytest.mark.parametrize(
    ("uri", "camera", "merged"),
    [
        ("conveyor:?seed=1", {}, "conveyor:?seed=1"),
        ("aravis:", {"gain": 3, "exposure_us": "5000"}, "aravis:?exposure_us=5000&gain=3"),
        ("aravis:EI-1?trigger=Line1", {"gain": "3"}, "aravis:EI-1?trigger=Line1&gain=3"),
        ("pylon:?exposure_us=5000", {"exposure_us": 5000.0, "gain": 3}, "pylon:?exposure_us=5000&gain=3"),
        ("pylon:?ExposureTime=5000", {"exposure_us": 5000}, "pylon:?ExposureTime=5000&exposure_us=5000"),
        ("0", {"width": 640, "fourcc": "MJPG"}, "0?fourcc=MJPG&width=640"),
        ("csi:0", {"fps": 30}, "csi:0?fps=30"),
        ("pylon:", {"DeviceUserID": "a&b=c"}, "pylon:?DeviceUserID=a%26b%3Dc"),
    ],
)
def test_the_recipe_s_settings_go_into_the_uri(uri: str, camera: dict[str, str | float], merged: str) -> None:
    assert with_settings(uri, camera) == merged


@pytest.mark.parametrize(
    ("uri", "camera", "says"),
    [
        (
            "pylon:?exposure_us=5000",
            {"exposure_us": "80"},
            "says exposure_us=5000, the recipe exposure_us=80",
        ),
        ("pylon:?ExposureTime=70", {"exposure_us": 80}, "says ExposureTime=70, the recipe exposure_us=80"),
        ("pylon:?ExposureAuto=Continuous", {"exposure_us": 80}, "says ExposureAuto=Continuous, the recipe"),
        ("pylon:?trigger=Line1", {"TriggerMode": "Off"}, "says trigger=Line1, the recipe TriggerMode=Off"),
        ("conveyor:", {"exposure_us": 80}, "sets exposure_us of the camera, but this one has no settings"),
        ("rtsp://u:secret@host/x", {"gain": 1}, r"no settings \(rtsp://u@host/x\)"),
        ("gst:videotestsrc", {"gain": 1}, "no settings"),
        (".", {"fps": 1}, "no settings.*--camera off"),
        ("pylon:", {"device": "7"}, "says which camera it is"),
    ],
)
def test_what_cannot_go_together_names_both(uri: str, camera: dict[str, str | int], says: str) -> None:
    with pytest.raises(InspectError, match=says):
        with_settings(uri, camera)


def test_a_recipe_that_leaves_open_what_another_sets_would_be_seen_with_the_other_s() -> None:
    """A camera keeps what nobody writes: which exposure holds would hang on what was loaded before."""
    with pytest.raises(InspectError, match="says nothing of the camera's exposure_us, another one sets it"):
        RecipeCamera("pylon:", [{"gain": 1}, {"gain": 1, "exposure_us": 80}])
    camera = RecipeCamera("pylon:?exposure_us=80", [{"gain": 1}, {"exposure_us": 80, "gain": 2}])
    assert camera.opener({"gain": 1}) is camera.opener({"gain": 1}) is not camera.opener({"gain": 2})
    with pytest.raises(InspectError, match="says nothing of the camera's gain"):
        camera.opener({})


@pytest.mark.parametrize("text", ["", "exposure=5", "gain", "gain=", "gain=1&gain=2", "device=7", "=5"])
def test_settings_that_cannot_be_read_are_told_before_they_are_sealed(text: str) -> None:
    with pytest.raises(InspectError, match=r"--camera\).*exposure_us=5000&gain=3"):
        camera_option(text)


def test_settings_are_sealed_and_taken_out_again_and_old_recipes_keep_their_seal(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    before = load_pair(engine)[1]
    assert '"camera"' not in dumps(before)
    command = ["recipe", str(engine), "--camera"]
    shown = CliRunner().invoke(app, [*command, "exposure_us=5000&gain=3"])
    assert shown.exit_code == 0 and "camera            off -> exposure_us=5000&gain=3 written" in shown.output
    sealed = load_pair(engine)[1]
    assert sealed.camera == {"exposure_us": "5000", "gain": "3"} and sealed.digest != before.digest
    assert sealed.same_model(before) and "differ in camera" not in unlike(sealed, sealed)
    assert CliRunner().invoke(app, [*command, "exposure=5000"]).exit_code == 2
    assert load_pair(engine)[1] == sealed, "a refused setting changes nothing"
    assert CliRunner().invoke(app, [*command, "off"]).exit_code == 0
    assert load_pair(engine)[1].digest == before.digest


def test_settings_changed_by_hand_or_of_a_wrong_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.recipe.json"
    save_recipe(Recipe("a", (8, 8), 1.0, 2.0, camera={"gain": 3, "TriggerMode": "Off"}), path)
    raw = json.loads(path.read_text())
    assert load_recipe(path).camera == {"gain": 3, "TriggerMode": "Off"}
    path.write_text(json.dumps({**raw, "camera": {"gain": 4}}))
    with pytest.raises(RecipeError, match="changed by hand"):
        load_recipe(path)
    for wrong in ({}, [], "gain=3", {"gain": True}, {"gain": None}, {"gain": ""}, {"gain": float("inf")}):
        path.write_text(json.dumps({**raw, "camera": wrong}))
        with pytest.raises(RecipeError, match=r"cannot be read.*camera is"):
            load_recipe(path)


def test_engines_that_are_built_again_tell_which_settings_are_gone(tmp_path: Path) -> None:
    engine = toy_pair(tmp_path)
    built, model = load_recipe(recipe_path(engine)), onnx.load(engine)
    onnx.helper.set_model_props(model, {METADATA_KEY: dumps(built)})
    onnx.save(model, engine)
    save_recipe(replace(built, camera={"gain": "3", "exposure_us": "50"}), recipe_path(engine))
    assert set_by_hand(engine) == "--camera 'gain=3&exposure_us=50'"


def shot(name: str) -> Shot:
    return Shot(grey(ord(name[-1])).pixels, label=name)


def at_once(errand: Callable[[], None]) -> None:
    errand()


def handed(capture: Capture) -> str | Reason | None:
    item = capture.next(5)
    return item.label if isinstance(item, Frame) else item


def test_no_picture_of_one_camera_is_handed_out_for_the_other_and_each_part_is_answered() -> None:
    old, new = ScriptedCamera([shot("a1"), shot("a2")]), ScriptedCamera([shot("b1")])
    first, second = (lambda: old), (lambda: new)
    with Capture(first, "script", Policy.EVERY, read_timeout_s=0.05) as capture:
        old.join()
        assert capture.connected
        capture.open_anew(second, at_once)
        new.join()
        assert old.closed == 1 and not capture.connected, "a PLC is not told READY"
        assert handed(capture) == "a1", "the old recipe still judges"
        capture.show(second)
        assert capture.connected
        assert [handed(capture), handed(capture)] == [Reason.STATION_OVERLOADED] * 2, "a2 and b1"
        new.put(shot("b2"))
        assert handed(capture) == "b2"
        assert capture.counters.losses == 0


def test_until_it_is_open_and_judged_by_there_is_no_picture() -> None:
    old, new, may_open = ScriptedCamera([]), ScriptedCamera([shot("b1")]), threading.Event()

    def slowly() -> ScriptedCamera:
        may_open.wait(10)
        return new

    with Capture(lambda: old, "script", read_timeout_s=0.05) as capture:
        opening = threading.Thread(target=capture.open_anew, args=(slowly, at_once))
        opening.start()
        assert until(lambda: old.closed == 1)
        assert capture.next(0.05) is Reason.CAMERA_LOST
        may_open.set()
        opening.join()
        new.join()
        assert capture.next(0.05) is Reason.CAMERA_LOST
        capture.show(slowly)
        new.put(shot("b2"))
        assert handed(capture) == "b2"


def test_a_camera_that_refuses_goes_on_as_it_was_and_one_that_stumbles_gets_a_second_try() -> None:
    old, new = ScriptedCamera([shot("a1")]), ScriptedCamera([])
    tries = itertools.count()

    def refuses() -> ScriptedCamera:
        raise DataError("the camera took Gain=1, not 2", "here", "Write gain=1.")

    def stumbles() -> ScriptedCamera:
        if not next(tries):
            raise unplugged()
        return new

    with Capture(lambda: old, "script", read_timeout_s=0.05) as capture:
        assert handed(capture) == "a1"
        with pytest.raises(DataError, match="took Gain=1"):
            capture.open_anew(refuses, at_once)
        assert until(lambda: capture.connected) and old.closed == 1
        old.put(shot("a2"))
        assert until(lambda: handed(capture) == "a2")
        capture.open_anew(stumbles, at_once)
        capture.show(stumbles)
        new.put(shot("b1"))
        assert until(lambda: handed(capture) == "b1")


def test_a_change_that_came_too_late_never_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The story: the loop stood still, the load failed; then it ran, and nobody judged the new camera."""
    monkeypatch.setattr(capture_module, "OPEN_ANEW_S", 0.05)
    old, errands = ScriptedCamera([shot("a1")]), list[Callable[[], None]]()
    with Capture(lambda: old, "script", read_timeout_s=0.05) as capture:
        with pytest.raises(CameraLost, match="not open with the recipe's settings"):
            capture.open_anew(lambda: ScriptedCamera([]), errands.append)
        errands[0]()
        assert handed(capture) == "a1" and capture.connected


Seen = tuple[str | None, Inspection | Reason, Verdict]


class Stage:
    """A station that may load two recipes; each has its camera, which says in the label whose it is."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.seen: list[Seen] = []
        self.cameras = {"1": ScriptedCamera([]), "2": ScriptedCamera([])}
        self.lid = toy_pair(folder, "lid", camera={"gain": 2})
        opened = open_engine(toy_pair(folder, "can", camera={"gain": 1}), "onnxruntime")
        self.camera = RecipeCamera("aravis:", [{"gain": 1}, {"gain": 2}], self._opener)
        first = self.camera.opener(opened.recipe.camera)
        self.capture = Capture(first, "script", policy, read_timeout_s=0.05)
        worker = InferenceWorker(opened.backend, opened.recipe, opened.artefact.sha256)
        self.station = Station(self.capture, worker, opened.recipe, [self._note])
        recipes = shelf(folder, lambda: open_engine(self.lid, "onnxruntime"))
        self.said: list[str] = []
        self.orders = Orders(self.station, recipes, self.said.append, self.camera)
        self.link = PlcLink(Mode.BITS)
        self.orders.obey(self.link)

    def _opener(self, uri: str) -> Callable[[], ScriptedCamera]:
        return lambda: self.cameras[uri[-1]]

    def _note(self, frame: Frame, answer: Inspection | Reason, verdict: Verdict) -> None:
        self.seen.append((frame.label, answer, verdict))

    def load(self, number: int) -> None:
        assert self.link.act(lambda hand, now_ns: hand.command(Command.LOAD_RECIPE, number, now_ns))
        assert until(lambda: bool(self.link.block()[0] & ENDED), 30.0)

    def judged(self) -> set[tuple[str | None, int]]:
        """Which camera's pictures a recipe has judged."""
        return {(label, v.recipe_number) for label, answer, v in self.seen if isinstance(answer, Inspection)}


@contextmanager
def stage(folder: Path, policy: Policy = Policy.LATEST) -> Iterator[Stage]:
    on = Stage(folder, policy)
    loop = threading.Thread(target=on.station.run)
    loop.start()
    try:
        yield on
    finally:
        on.station.stop()
        on.orders.close()
        on.capture.close()
        loop.join()
        on.station.close()


def flow(camera: ScriptedCamera, name: str, count: int = 3000) -> None:
    """Pictures without end, one every 2 ms; no two in a row are alike."""
    for number in range(count):

        def picture(level: int = 60 + number % 2) -> Shot:
            time.sleep(0.002)
            return Shot(grey(level).pixels, label=name)

        camera.put(picture)


@pytest.mark.parametrize("policy", Policy)
def test_a_new_recipe_judges_pictures_of_its_own_camera_settings_alone(
    tmp_path: Path, policy: Policy
) -> None:
    with stage(tmp_path, policy) as on:
        flow(on.cameras["1"], "one")
        flow(on.cameras["2"], "two")
        assert until(lambda: ("one", 1) in on.judged(), 20.0)
        on.load(2)
        assert until(lambda: ("two", 2) in on.judged(), 20.0)
        assert on.judged() == {("one", 1), ("two", 2)}
        assert on.cameras["1"].closed == 1
    assert all(v.outcome is not Outcome.PASS for _, answer, v in on.seen if isinstance(answer, Reason))


def test_a_picture_in_hand_when_the_recipe_changes_is_stale(tmp_path: Path) -> None:
    """In free run the loop takes over what came while it waited for a picture: that one has the old light."""
    with stage(tmp_path) as on:
        opened = open_engine(on.lid, "onnxruntime")
        worker = InferenceWorker(opened.backend, opened.recipe, opened.artefact.sha256)
        source, taken = on.camera.opener(opened.recipe.camera), threading.Event()

        def old_picture() -> Shot:
            on.station.change_recipe(Successor(worker, opened.recipe, 2, taken.set, source))
            return Shot(grey(60).pixels, label="one")

        on.cameras["1"].put(old_picture)
        assert taken.wait(10)
        assert until(lambda: bool(on.seen), 10.0)
        assert not on.judged() and on.seen[0][1] in (Reason.FRAME_STALE, Reason.CAMERA_LOST)


def test_an_engine_made_anew_does_not_bring_another_exposure(tmp_path: Path) -> None:
    """Its recipe file was changed while it was built: the camera has not got these settings."""
    with stage(tmp_path) as on:
        opened = open_engine(on.lid, "onnxruntime")
        worker = InferenceWorker(opened.backend, opened.recipe, opened.artefact.sha256)
        on.station.replace_engine(worker, opened.recipe)
        on.cameras["1"].put(shot("one"))
        assert until(lambda: bool(on.judged()), 10.0)
        assert on.station.recipe.name == "can"


def station(tmp_path: Path, uri: str, *cameras: dict[str, str | int]) -> RunOptions:
    """Recipe 1, 2, ... with these camera settings each, and a PLC that triggers (output 0)."""
    slow = {"deadline_ms": 9000.0, "max_frame_age_ms": 9000.0}  # of a busy machine
    engines = [toy_pair(tmp_path, f"p{i}", camera=camera, **slow) for i, camera in enumerate(cameras, 1)]
    more = {number: Choice(engine, "onnxruntime") for number, engine in enumerate(engines[1:], 2)}
    plc = f"modbus-tcp-server://127.0.0.1:{free_port()}?handshake=bits"
    outputs = [plc, f"jsonl:{tmp_path / 'verdicts.jsonl'}"]
    return RunOptions(uri, engines[0], outputs, "onnxruntime", line=LineOptions(recipes=more))


@contextmanager
def on_the_line(options: RunOptions) -> Iterator[tuple[Plc, list[str]]]:
    said, port = list[str](), int(options.outputs[0].partition("?")[0].rpartition(":")[2])
    with station_of(options, say=said.append) as running, plc_client(port) as client:
        loop = threading.Thread(target=running.station.run)
        loop.start()
        try:
            plc = Plc(client)
            assert plc.waits_for(Status.READY)
            yield plc, said
        finally:
            running.station.stop()
            loop.join()


def scores(tmp_path: Path) -> list[tuple[int, float]]:
    """Recipe and score of each part."""
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    return [(line["recipe_number"], line["score"]) for line in lines]


def test_the_exposure_of_a_loaded_recipe_is_in_the_picture_that_it_judges(
    gige_camera: GigeCamera, tmp_path: Path
) -> None:
    """A real GigE Vision camera; its pictures are brighter the longer it exposes, the score is grey / 100."""
    exposures = [{"exposure_us": us} for us in (10_000, 100_000)]
    options = station(tmp_path, "aravis:EI-1?packet_size=1400&width=256&height=256", *exposures)
    with on_the_line(options) as (plc, _):
        plc.part(1)
        assert plc.order(Command.LOAD_RECIPE, 2) == Status.COMMAND_DONE
        assert plc.waits_for(Status.READY)
        plc.part(2)
    (one, dark), (two, bright) = scores(tmp_path)
    assert (one, two) == (1, 2) and dark < 1.5 < bright


def test_what_a_basler_camera_does_not_take_is_not_loaded(pylon_emulation: None, tmp_path: Path) -> None:
    settings = [{"exposure_us": us, "width": width} for us, width in ((5000, 320), ("33.4", 320), (40, 640))]
    options = station(tmp_path, "pylon:?height=200&TestImageSelector=Testimage2", *settings)
    with on_the_line(options) as (plc, said):
        assert plc.order(Command.LOAD_RECIPE, 2) == Status.COMMAND_FAILED
        assert "took ExposureTime=33.0, not 33.4" in said[-1]
        assert plc.read("WARNING_CODE") == Reason.RECIPE_NOT_LOADED
        assert plc.waits_for(Status.READY), "the camera goes on as it was"
        plc.part(1)
        assert plc.order(Command.LOAD_RECIPE, 3) == Status.COMMAND_DONE
        assert plc.waits_for(Status.READY)
        plc.part(2)
    (one, before), (three, after) = scores(tmp_path)
    assert (one, three) == (1, 3) and before > 0 < after


def test_a_belt_that_was_learnt_in_one_light_is_not_looked_at_in_another(tmp_path: Path) -> None:
    options = station(tmp_path, "pylon:", {"gain": 1}, {"gain": 2})
    line, panel = replace(options.line, trigger="presence:"), f"tcp-server://127.0.0.1:{free_port()}"
    with (
        pytest.raises(InspectError, match="the empty belt would look like a part"),
        station_of(replace(options, outputs=[panel], line=line)),
    ):
        raise AssertionError


def test_a_dry_run_says_where_recipe_and_camera_do_not_go_together(tmp_path: Path) -> None:
    pictures = write(tmp_path / "pictures", 60)
    told = {check.what: check.detail for check in dry_run(station(tmp_path, str(pictures), {"gain": 1}))}
    assert "the recipe sets gain of the camera" in told[f"camera {pictures}"]
    with (
        pytest.raises(InspectError, match="says nothing of the camera's gain"),
        station_of(station(tmp_path, "pylon:", {"gain": 1}, {})),
    ):
        raise AssertionError
