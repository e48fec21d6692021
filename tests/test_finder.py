"""Free run: which pictures are parts. A belt with noise, light that changes, parts that crowd."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_pair

from edge.backends.ort import OnnxRuntimeBackend
from edge.cameras.scripted import ScriptedCamera
from edge.engines.choice import Choice
from edge.errors import EndOfStream, InspectError, RecipeError
from edge.frame import Frame, Pixels, Shot, make_frame
from edge.recipe import load_pair
from edge.station.capture import Capture, Policy
from edge.station.dry_run import dry_run
from edge.station.finder import LEARN_FROM, CountedPictures, Finder, PresenceFinder
from edge.station.line import LineOptions, finder_of, parse_recipes, view_choices
from edge.station.loop import Station
from edge.station.presence import Look, PartWatch, Reference
from edge.station.running import RunOptions
from edge.station.worker import InferenceWorker
from edge.verdict import Outcome, Reason, Verdict

HEIGHT, WIDTH = 120, 160
BELT, PART, LENGTH = 90, 160, 60  # grey levels; pixels along the belt
STEP = 20  # pixels from one picture to the next


SIDE_VIEW = ("1", Choice(Path("side"), "auto"))


def picture(number: int, *parts: int, light: float = 1.0) -> Pixels:
    """The belt with parts that begin at so many pixels (below 0 or beyond: only partly in the picture)."""
    grey = np.full((HEIGHT, WIDTH), float(BELT))
    for at in parts:
        grey[30:90, max(0, at) : max(0, at + LENGTH)] = PART
    noise = np.random.default_rng(number).normal(0, 4, (HEIGHT, WIDTH))
    return np.repeat(np.clip(grey * light + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def passing(*begin: int, pictures: int = 40) -> list[Pixels]:
    """An empty belt, then parts that come in from the left; `begin` in pictures after the start."""
    return [
        picture(n, *(STEP * (n - LEARN_FROM - b) - LENGTH for b in begin if n >= LEARN_FROM + b))
        for n in range(LEARN_FROM + pictures)
    ]


def found(finder: Finder, pictures: Sequence[Pixels]) -> list[tuple[int, int | None]]:
    """(number of the picture, part id) of all that is judged."""
    frames = [
        make_frame(Shot(pixels), number, "belt", number * 10**8) for number, pixels in enumerate(pictures)
    ]
    answers = [finder.find(frame) for frame in frames]
    assert all(
        item.part_id == request.part_id for item, request in filter(None, answers) if isinstance(item, Frame)
    )
    return [(item.id, item.part_id) for item, _ in filter(None, answers) if isinstance(item, Frame)]


def belt() -> PresenceFinder:
    return PresenceFinder(PartWatch())


def test_one_verdict_a_part_and_its_picture_shows_all_of_it() -> None:
    judged = found(belt(), passing(5, 25))
    assert [part for _, part in judged] == [1, 2]
    for (frame, _), begin in zip(judged, (5, 25), strict=True):
        at = STEP * (frame - LEARN_FROM - begin) - LENGTH
        assert 0 <= at <= WIDTH - LENGTH, "wholly in the picture"


def test_a_part_that_stops_under_the_camera_is_one_part() -> None:
    standing = [picture(100 + n, 50) for n in range(30)]
    assert [part for _, part in found(belt(), [*passing(0)[:14], *standing])] == [1]


def test_parts_that_follow_closely_are_two_even_if_the_belt_is_never_empty_between_them() -> None:
    assert [part for _, part in found(belt(), passing(0, 7))] == [1, 2]


def test_a_part_that_is_seen_in_one_picture_only_is_judged_by_it() -> None:
    empty = [picture(n) for n in range(LEARN_FROM + 3)]
    assert found(belt(), [*empty, picture(50, 40), picture(51), picture(52)]) == [(LEARN_FROM + 3, 1)]


def test_light_and_belt_that_change_slowly_are_no_part_and_do_not_hide_one() -> None:
    fading = [picture(n, light=1 - 0.3 * n / 200) for n in range(200)]
    part = [picture(300, 40, light=0.7), picture(301, 60, light=0.7), picture(302, 80, light=0.7)]
    ((frame, number),) = found(belt(), [*fading, *part])
    assert frame >= 200 and number == 1


def test_a_camera_that_shows_nothing_is_a_fault_and_not_an_empty_belt() -> None:
    """The story: the lamp died, the belt looked empty for an hour, and every part went by unseen."""
    finder = belt()
    found(finder, passing(0))
    for number, (pixels, reason) in enumerate([
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), Reason.FRAME_BLANK),
        (np.ascontiguousarray(picture(1)[:100]), Reason.RECIPE_MISMATCH),
    ]):  # fmt: skip
        frame = make_frame(Shot(pixels), 0, "belt", (100 + 2 * number) * 10**9)
        answer = finder.find(frame)
        assert answer is not None and answer[0] is reason and answer[1].part_id is None
        assert finder.find(make_frame(Shot(pixels.copy()), 0, "belt", frame.captured_ns + 1)) is None, (
            "once a second"
        )


def test_a_light_that_was_switched_over_is_not_one_part_for_ever() -> None:
    """The story: a second lamp came on; all was "part", and no further one was seen to come in."""
    finder = belt()
    found(finder, [picture(n) for n in range(LEARN_FROM)])
    bright = [make_frame(Shot(picture(n, light=1.8)), n, "belt", (n - 98) * 10**9) for n in range(100, 130)]
    answers = [answer for answer in map(finder.find, bright) if answer is not None]
    assert isinstance(answers[0][0], Frame), "taken for a part, once"
    assert {answer[0] for answer in answers[1:]} == {Reason.PART_NOT_FOUND} and len(answers) > 15


def test_a_camera_that_repeats_its_picture_is_a_fault() -> None:
    finder, pixels = belt(), picture(1)
    assert finder.find(make_frame(Shot(pixels), 0, "belt", 10**9)) is None
    answer = finder.find(make_frame(Shot(pixels.copy()), 1, "belt", 2 * 10**9, before=pixels))
    assert answer is not None and answer[0] is Reason.FRAME_FROZEN


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(0, 1), max_size=60))
def test_whatever_the_belt_does_a_part_that_has_gone_was_judged_once(changed: list[float]) -> None:
    """Between two empty pictures with something in between there is at least one verdict."""
    watch, judged, present = PartWatch(), 0, False
    for share in [*changed, 0.0]:
        judged += watch.look(share) is not Look.NONE
        if watch.empty and present:
            assert judged >= 1
        judged = 0 if watch.empty else judged
        present = not watch.empty


def test_a_camera_behind_a_light_barrier_counts_its_pictures_and_waits_without_a_fault(
    tmp_path: Path,
) -> None:
    engine, recipe, artefact = load_pair(toy_pair(tmp_path))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    shots = [Shot(picture(n, light=light)) for n, light in enumerate((0.7, 2.5, 0.6))]
    camera, verdicts = ScriptedCamera(shots, live=True), list[Verdict]()
    with Capture(lambda: camera, "script", Policy.EVERY, read_timeout_s=0.05) as capture:
        camera.join()
        station = Station(capture, worker, recipe, [lambda *seen: verdicts.append(seen[2])])
        station.finder = CountedPictures()
        station.run(count=3)
        camera.put(EndOfStream("done"))
        station.run()
        station.close()
    assert [(v.part_id, v.outcome) for v in verdicts] == [
        (1, Outcome.PASS), (2, Outcome.FAIL), (3, Outcome.PASS),
    ]  # fmt: skip


def test_a_part_that_found_no_place_meets_the_gate_when_it_is_there_and_not_later(tmp_path: Path) -> None:
    """The story: three parts in a rush, the third found no place. Where it was on the belt followed from
    the moment at which its turn came: it had passed the gate by then, and a good part was rejected."""
    engine, recipe, artefact = load_pair(toy_pair(tmp_path, deadline_ms=5000.0, max_frame_age_ms=5000.0))
    worker = InferenceWorker(OnnxRuntimeBackend(engine, recipe.input_size), recipe, artefact.sha256)
    shots = [Shot(picture(n, light=0.7)) for n in range(3)]
    camera, verdicts = ScriptedCamera(shots, live=True), list[Verdict]()
    with Capture(lambda: camera, "script", Policy.EVERY, depth=2, read_timeout_s=0.05) as capture:
        camera.join()
        all_there_ns = time.monotonic_ns()
        station = Station(capture, worker, recipe, [lambda *seen: verdicts.append(seen[2])])
        station.finder = CountedPictures()
        station.run(count=3)
        camera.put(EndOfStream("done"))
        station.close()
    assert [v.reason for v in verdicts][1:] == [Reason.WITHIN_LIMITS, Reason.STATION_OVERLOADED]
    assert verdicts[2].part_id == 3 and verdicts[2].captured_ns < all_there_ns


def test_of_counted_pictures_the_one_that_found_no_place_is_a_part_and_silence_is_none() -> None:
    finder = CountedPictures()
    assert finder.find(Reason.CAMERA_TIMEOUT) is None
    lost, full = finder.find(Reason.CAMERA_LOST), finder.find(Reason.STATION_OVERLOADED)
    assert lost is not None and lost[1].part_id is None
    assert full is not None and (full[0], full[1].part_id) == (Reason.STATION_OVERLOADED, 1)


def test_the_empty_belt_may_be_given_as_a_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "empty.png"), picture(0))
    finder = finder_of(f"presence:?from=0.05&reference={tmp_path / 'empty.png'}")
    assert found(finder, [picture(1, 40), picture(2, 60), picture(3, 80)])[0][1] == 1


def test_another_picture_size_is_not_compared() -> None:
    assert Reference([picture(0)]).changed(np.ascontiguousarray(picture(1)[:50])) is None


@pytest.mark.parametrize(("options", "asking", "what"), [
    (LineOptions("radar"), False, "'radar' is not known"),
    (LineOptions("camera"), True, "two triggers"),
    (LineOptions("presence:?from=2"), False, "cannot be read"),
    (LineOptions("presence:?from=nan"), False, "cannot be read"),
    (LineOptions("presence:?speed=2"), False, "cannot be read"),
    (LineOptions("presence:?reference=/no/such.png"), False, "cannot be read"),
    (LineOptions(shots=2), False, "--shots"),
    (LineOptions("camera", shots=2), False, "--shots"),
    (LineOptions(views=[SIDE_VIEW]), False, "--camera"),
    (LineOptions(recipes={2: SIDE_VIEW[1]}, views=[SIDE_VIEW]), True, "several cameras"),
])  # fmt: skip
def test_a_line_that_cannot_be_is_refused(options: LineOptions, asking: bool, what: str) -> None:
    with pytest.raises(InspectError, match=what):
        options.check(asking, [])


@pytest.mark.parametrize("texts", [["lid/"], ["1=lid/"], ["x=lid/"], ["70000=lid/"], ["2="], ["2=a", "2=b"]])
def test_a_recipe_without_a_usable_number_is_refused(texts: list[str]) -> None:
    with pytest.raises(InspectError, match="--recipe"):
        parse_recipes(texts)


def test_cameras_get_their_engines_in_order() -> None:
    top, side = Choice(Path("top"), "auto"), Choice(Path("side"), "auto")
    assert view_choices(["0", "1"], [top, side]) == [("0", top), ("1", side)]
    assert view_choices(["0", "1"], [top]) == [("0", top), ("1", top)]
    for cameras, choices, where in ((["0", "1", "2"], [top, side], "--engine"), (["0", "0"], [top], "twice")):
        with pytest.raises(InspectError, match=where):
            view_choices(cameras, choices)


def test_recipes_are_checked_at_the_start_and_by_a_dry_run(tmp_path: Path) -> None:
    lid, can = toy_pair(tmp_path, "lid"), toy_pair(tmp_path, "can")
    options = RunOptions(
        "conveyor:?fps=50", can, ("tcp-server://127.0.0.1:0",), "onnxruntime",
        line=LineOptions(recipes={2: Choice(lid, "auto")}),
    )  # fmt: skip
    assert [check.what for check in dry_run(options) if check.error is None][1:3] == ["line", "recipe 2"]
    lid.write_bytes(b"half a file")
    assert [check.what for check in dry_run(options) if check.error] == ["line", "recipe 2"]
    with pytest.raises(RecipeError):
        options.line.check(False, [])


@pytest.mark.parametrize(("uri", "can"), [
    ("jsonl:-", False), ("modbus-tcp-server://0.0.0.0", False), ("s7://plc?handshake=bits", True),
    ("mqtt://broker/line3?handshake=ids", False), ("tcp://plc:2115?dialect=trig", False),
    ("tcp://plc:2115", True), ("opc-ua://0.0.0.0", True),
    ("modbus-tcp-io://module?ok=1&ng=2&fault=3&trigger=16", False),
])  # fmt: skip
def test_recipes_that_nobody_can_load_are_refused(tmp_path: Path, uri: str, can: bool) -> None:
    """The story: --recipe 2=lid/ beside a file was taken without a word."""
    line = LineOptions(recipes={2: Choice(toy_pair(tmp_path, "lid"), "auto")})
    with nullcontext() if can else pytest.raises(InspectError, match="nobody can load another recipe"):
        line.check(False, ["jsonl:verdicts.jsonl", uri])
