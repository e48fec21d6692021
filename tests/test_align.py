"""A part that does not lie still is laid onto the reference picture, or is not judged."""

import cv2
import numpy as np
import pytest

from edge.cameras.ground import belt
from edge.cameras.parts import SIDE, render_part
from edge.errors import DataError, InspectError, PartNotFound
from edge.frame import Pixels
from edge.picture.align import Pose, Reference, find_pose, straighten, take_reference

LABEL = (100, 60, 133, 47)  # the printed label of the simulated part
WHOLE = (0, 0, SIDE, SIDE)


def moved(pixels: Pixels, dx: float, dy: float, degrees: float) -> tuple[Pixels, Pose]:
    """The picture with its part moved and turned about the middle, and where its pixels went."""
    pose = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, 1.0)
    pose[:, 2] += (dx, dy)
    size = (pixels.shape[1], pixels.shape[0])
    return cv2.warpAffine(pixels, pose, size, borderMode=cv2.BORDER_REFLECT_101), pose


def worst_error(pose: Pose, truth: Pose) -> float:
    """Pixels, over the corners of the picture."""
    corners = np.array([(0, 0, 1), (SIDE, 0, 1), (0, SIDE, 1), (SIDE, SIDE, 1)]).T
    return float(np.abs((pose - truth) @ corners).max())


@pytest.fixture(scope="module")
def reference() -> Reference:
    return take_reference(render_part(5, 0), LABEL)


@pytest.mark.parametrize(
    ("dx", "dy", "degrees"), [(0, 0, 0), (16, -16, 5), (-16, 16, -5), (7.3, 2.6, 1.7), (-15.5, -3.2, -4.4)]
)
def test_a_move_of_five_per_cent_and_five_degrees_is_found_to_half_a_pixel(
    reference: Reference, dx: float, dy: float, degrees: float
) -> None:
    picture, truth = moved(render_part(5, 0), dx, dy, degrees)
    assert worst_error(find_pose(picture, reference), truth) < 0.5


def test_other_parts_in_other_light_are_found_as_well(reference: Reference) -> None:
    """The pose of part and moved part differ by the move, whatever tint, light and noise the part has."""
    for index in range(1, 9):
        part = render_part(5, index)
        picture, move = moved(part, 10, -12, 3)
        first = np.vstack([find_pose(part, reference), (0, 0, 1)])
        assert worst_error(find_pose(picture, reference), move @ first) < 1.0


def test_the_moved_picture_is_laid_back_onto_the_reference(reference: Reference) -> None:
    part = render_part(5, 0)
    picture, _ = moved(part, 12, 9, -4)
    roi = (60, 60, 200, 200)
    back = straighten(picture, find_pose(picture, reference), roi).astype(float)
    original = part[60:260, 60:260].astype(float)
    before = np.abs(picture[60:260, 60:260] - original).mean()
    assert np.abs(back - original).mean() < before / 3  # turned twice, the finest texture is smoothed


def test_large_pictures_are_searched_reduced_and_found_as_exactly() -> None:
    large = cv2.resize(render_part(5, 0), (1280, 1280), interpolation=cv2.INTER_CUBIC)
    big = take_reference(large, (401, 239, 533, 190))
    assert big.step == 6 and max(big.patch.shape) <= 96
    turn = cv2.getRotationMatrix2D((640, 640), -3.0, 1.0)
    turn[:, 2] += (50, -41)
    pose = find_pose(cv2.warpAffine(large, turn, (1280, 1280)), big)
    corners = np.array([(0, 0, 1), (1280, 0, 1), (0, 1280, 1), (1280, 1280, 1)]).T
    assert np.abs((pose - turn) @ corners).max() < 1.5


@pytest.mark.parametrize(("dx", "dy", "degrees"), [(40, 0, 0), (0, -40, 0), (0, 0, 14), (0, 0, 180)])
def test_a_part_that_lies_too_far_off_is_not_found(
    reference: Reference, dx: float, dy: float, degrees: float
) -> None:
    with pytest.raises(PartNotFound):
        find_pose(moved(render_part(5, 1), dx, dy, degrees)[0], reference)


def test_the_empty_belt_holds_no_part(reference: Reference) -> None:
    ground = belt().astype(np.uint8)
    for x in range(0, ground.shape[1] - SIDE, 40):
        with pytest.raises(PartNotFound):
            find_pose(np.ascontiguousarray(ground[:SIDE, x : x + SIDE]), reference)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_picture_without_any_change_holds_no_part(reference: Reference, grey: int) -> None:
    with pytest.raises(PartNotFound):
        find_pose(np.full((SIDE, SIDE, 3), grey, np.uint8), reference)


def test_a_covered_patch_is_not_found(reference: Reference) -> None:
    picture = render_part(5, 2).copy()
    picture[45:125, 85:250] = 128
    with pytest.raises(PartNotFound):
        find_pose(picture, reference)


def test_a_picture_of_another_size_does_not_fit(reference: Reference) -> None:
    with pytest.raises(DataError, match="not as large as the reference") as caught:
        find_pose(np.zeros((240, 320, 3), np.uint8), reference)
    assert not isinstance(caught.value, PartNotFound)


def line_art(draw: str) -> Pixels:
    picture = np.full((320, 320, 3), 60, np.uint8)
    if draw == "edge":
        picture[:, 160:] = 200
    elif draw == "disc":
        cv2.circle(picture, (160, 160), 20, (220, 220, 220), -1, cv2.LINE_AA)
    elif draw == "crosses":
        for x in (140, 170):
            cv2.drawMarker(picture, (x, 160), (220, 220, 220), cv2.MARKER_STAR, 20, 2)
    return picture


@pytest.mark.parametrize(
    ("draw", "box", "words"),
    [
        ("nothing", (140, 140, 40, 40), "nothing to be seen"),
        ("edge", (140, 140, 40, 40), "another place"),
        ("disc", (130, 130, 61, 61), "the same when it is turned"),
        ("crosses", (127, 147, 27, 27), "another place"),
        ("edge", (140, 140, 9, 40), "too small"),
        ("edge", (20, 140, 280, 20), "too small"),
    ],
)
def test_a_patch_that_cannot_tell_the_pose_is_refused(
    draw: str, box: tuple[int, int, int, int], words: str
) -> None:
    with pytest.raises(InspectError, match=words) as caught:
        take_reference(line_art(draw), box)
    assert caught.value.where == "--align"
