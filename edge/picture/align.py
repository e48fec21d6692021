"""Where does the part lie? A reference patch, found again in every picture: moved and turned a little.

    search window of the picture -> reduced -> matchTemplate at five angles -> findTransformECC -> pose

All is pure: a picture and a reference in, a pose out, or PartNotFound. A part that is not found is never
judged, since a picture that was moved wrongly could look like anything, also like a good part.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import DataError, InspectError, PartNotFound
from edge.frame import Pixels
from edge.picture.preprocess import Roi, crop

PATCH_SIDE = 96  # pixels of the patch's longer side once it is reduced: there a tenth of a pixel can be told
SMALLEST_PATCH = 16  # camera pixels a side: fewer carry too little to tell the turn
THINNEST_PATCH = 8  # times longer than it is wide: reduced, 12 pixels are left of its width
MAX_MOVE = 0.10  # of the picture's longer side, in x and in y
MAX_TURN_DEGREES = 8.0
ANGLES = (0.0, -4.0, 4.0, -8.0, 8.0)  # degrees; the refinement needs a start that is at most 2 degrees off
MIN_CORRELATION = 0.8  # the wrong mark reached 0.74, an empty belt 0.58, the mark itself 0.92 and more
SAME_WHEN_TURNED = 0.98  # a patch that is so like itself when turned cannot tell the turn
MIN_CONTRAST = 4.0  # grey levels, standard deviation: sensor noise has 2
REFINE = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)  # at most 40 steps of the refinement
BLUR = 1.0  # reduced pixels, standard deviation: against noise and stair steps
ROOM = 8  # reduced pixels round the place that was found: what the refinement may still move

Grey = npt.NDArray[np.uint8]  # (H, W)
Pose = npt.NDArray[np.float64]  # (2, 3): pixel (x, y, 1) of the reference picture -> pixel of this picture


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A patch of the reference picture, by which all others are laid onto that one."""

    patch: Grey  # (h // step, w // step): the box, reduced
    box: Roi  # x, y, width, height in the reference picture; sides are multiples of `step`
    picture: tuple[int, int]  # (height, width) of the reference picture; others must be as large

    @property
    def step(self) -> int:
        """Camera pixels for each pixel of the patch."""
        return self.box[2] // int(self.patch.shape[1])


def take_reference(pixels: Pixels, box: Roi) -> Reference:
    """Cut the patch out of the reference picture uint8 (H, W, 3).

    Raises InspectError where the patch could not be found again for certain: too small, without contrast,
    the same when turned, or like another place within the search window.
    """
    x, y, width, height = box
    if min(width, height) < SMALLEST_PATCH or max(width, height) > THINNEST_PATCH * min(width, height):
        hint = f"Give {SMALLEST_PATCH} pixels a side or more, and no strip."
        raise _unfit(f"a patch of {width}x{height} is too small", hint)
    step = -(-max(width, height) // PATCH_SIDE)
    box = (x, y, width - width % step, height - height % step)
    window, (left, above) = _search_window(pixels, box, step)
    patch = window[(y - above) // step :, (x - left) // step :][: height // step, : width // step]
    reference = Reference(np.ascontiguousarray(patch), box, (pixels.shape[0], pixels.shape[1]))
    _check_fitness(reference, window, ((x - left) // step, (y - above) // step))
    return reference


def find_pose(pixels: Pixels, reference: Reference) -> Pose:
    """Where the reference picture's pixels lie in this picture uint8 (H, W, 3).

    Raises DataError for a picture of another size, PartNotFound where the patch is not there or lies farther
    off than MAX_MOVE or MAX_TURN_DEGREES.
    """
    if pixels.shape[:2] != reference.picture:
        sizes = [f"{size[1]}x{size[0]}" for size in (pixels.shape, reference.picture)]
        hint = "Set the camera's size back, or train again."
        raise DataError("the picture is not as large as the reference picture", " not ".join(sizes), hint)
    window, corner = _search_window(pixels, reference.box, reference.step)
    start, place = _best_match(window, reference.patch)
    turn, correlation = _refined(window, reference.patch, start, place)
    if not correlation >= MIN_CORRELATION:  # NaN, of a picture without any change, is no match either
        what = f"the reference patch is not there (correlation {correlation:.2f}, needed {MIN_CORRELATION})"
        raise _not_found(what, ", or train with another mark: --align")
    pose = _in_camera_pixels(turn, corner, reference)
    _check_reach(pose, reference)
    return pose


def straighten(pixels: Pixels, pose: Pose, roi: Roi, labels: bool = False) -> Pixels:
    """The region (x, y, width, height) of the reference picture, taken from this one: (height, width[, 3]).

    What the camera did not see is filled with the picture's mirror image, as in `distillation/augment.py`;
    with 0 for `labels` (a mask's values, which are never mixed).
    """
    x, y, width, height = roi
    moved = pose.copy()
    moved[:, 2] += pose[:, :2] @ (x, y)
    method = cv2.INTER_NEAREST if labels else cv2.INTER_LINEAR
    border = cv2.BORDER_CONSTANT if labels else cv2.BORDER_REFLECT_101
    flags = method | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(pixels, moved, (width, height), flags=flags, borderMode=border), np.uint8
    )


def check_in_sight(pose: Pose, roi: Roi, picture: tuple[int, int]) -> None:
    """Raises PartNotFound when some of the region lies outside the picture (height, width): unseen."""
    x, y, width, height = roi
    corners = np.array([(x, y), (x + width - 1, y), (x, y + height - 1), (x + width - 1, y + height - 1)])
    places = corners @ pose[:, :2].T + pose[:, 2]
    if places.min() < -1 or (places > np.array(picture[::-1])).any():
        what = "the part lies so that its region of interest leaves the picture"
        raise _not_found(what, ", or train with a smaller --roi or --mask")


def _search_window(pixels: Pixels, box: Roi, step: int) -> tuple[Grey, tuple[int, int]]:
    """The reduced surroundings of the patch's box, and the camera pixel (x, y) of their corner."""
    (x, y, width, height), (rows, columns) = box, pixels.shape[:2]
    reach = -(-int(MAX_MOVE * max(rows, columns)) // step)
    left, above = min(reach, x // step), min(reach, y // step)
    right, below = min(reach, (columns - x - width) // step), min(reach, (rows - y - height) // step)
    corner = (x - left * step, y - above * step)
    size = (width + (left + right) * step, height + (above + below) * step)
    return _reduced(crop(pixels, (*corner, *size)), step), corner


def _reduced(pixels: Pixels, step: int) -> Grey:
    """Grey, each square of step x step pixels as their mean, a little blurred against noise.

    (H, W, 3) -> (H // step, W // step). The patch is cut out after the blur, so that its edge is that of the
    pictures in which it is looked for; a blur by findTransformECC itself costs 0.8 pixels of error.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    size = (pixels.shape[1] // step, pixels.shape[0] // step)
    reduced = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(reduced, (0, 0), BLUR), np.uint8)


def _turned(patch: Grey, degrees: float) -> tuple[Grey, Pose]:
    """The patch turned about its middle, and the turn as a matrix."""
    height, width = patch.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    moved = cv2.warpAffine(patch, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8), np.asarray(turn, np.float64)


def _best_match(window: Grey, patch: Grey) -> tuple[Pose, tuple[int, int]]:
    """The turn that fits best, and the pixel (x, y) of the window where the patch then begins."""
    found = []
    for degrees in ANGLES:
        template, turn = _turned(patch, degrees)
        likeness = cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED)
        _, value, _, place = cv2.minMaxLoc(likeness)
        found.append((value, turn, (int(place[0]), int(place[1]))))
    _, turn, place = max(found, key=lambda entry: entry[0])
    return turn, place


def _refined(window: Grey, patch: Grey, start: Pose, place: tuple[int, int]) -> tuple[Pose, float]:
    """Patch pixel -> window pixel, to a fraction of a pixel, and the correlation there (0: no fit at all).

    Enhanced correlation coefficient (Evangelidis and Psarakis, PAMI 2008), whose start is the match.
    """
    x, y = max(0, place[0] - ROOM), max(0, place[1] - ROOM)
    around = window[y : place[1] + patch.shape[0] + ROOM, x : place[0] + patch.shape[1] + ROOM]
    turn = start.astype(np.float32)
    turn[:, 2] += (place[0] - x, place[1] - y)
    try:
        correlation, found = cv2.findTransformECC(
            patch, around, turn, cv2.MOTION_EUCLIDEAN, REFINE, np.full_like(around, 255), 1
        )
    except cv2.error:  # it does not converge: nothing there is like the patch
        return start, 0.0
    pose = np.asarray(found, np.float64)
    pose[:, 2] += (x, y)
    return pose, float(correlation)


def _in_camera_pixels(turn: Pose, corner: tuple[int, int], reference: Reference) -> Pose:
    """Patch pixel -> window pixel, as: reference picture's pixel -> this picture's pixel.

    A reduced pixel p is the mean of a square whose middle is p * step + (step - 1) / 2.
    """
    step, middle = reference.step, (reference.step - 1) / 2
    pose = turn.copy()
    pose[:, 2] = step * turn[:, 2] + np.array(corner) + middle
    pose[:, 2] -= turn[:, :2] @ (np.array(reference.box[:2]) + middle)
    return pose


def _check_reach(pose: Pose, reference: Reference) -> None:
    x, y, width, height = reference.box
    middle = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
    move = pose[:, :2] @ middle + pose[:, 2] - middle
    degrees = float(np.degrees(np.arctan2(pose[1, 0], pose[0, 0])))
    most = MAX_MOVE * max(reference.picture)
    if np.abs(move).max() > most or abs(degrees) > MAX_TURN_DEGREES:
        what = f"the part lies {move[0]:.0f}, {move[1]:.0f} pixels and {degrees:.1f} degrees off"
        raise _not_found(f"{what} (at most {most:.0f} and {MAX_TURN_DEGREES:.0f})")


def _check_fitness(reference: Reference, window: Grey, place: tuple[int, int]) -> None:
    """Could this patch, which lies at `place` (x, y) in its own window, be found again for certain?"""
    patch = reference.patch
    if patch.std() < MIN_CONTRAST:
        hint = "Choose a printed mark or a corner of the part."
        raise _unfit("there is nothing to be seen in the patch", hint)
    if (likeness := _likeness_elsewhere(window, patch, place)) > MIN_CORRELATION:
        hint = "Choose a mark that is there once, or a corner in place of an edge."
        raise _unfit(f"another place looks like the patch (correlation {likeness:.2f})", hint)
    turned = cv2.matchTemplate(_turned(patch, MAX_TURN_DEGREES)[0], patch, cv2.TM_CCOEFF_NORMED)
    if turned[0, 0] > SAME_WHEN_TURNED:
        hint = "Choose one that is not round, or a larger one."
        raise _unfit("the patch looks the same when it is turned", hint)


def _likeness_elsewhere(window: Grey, patch: Grey, place: tuple[int, int]) -> float:
    """The best correlation in the window, a quarter of the patch away from its place or more."""
    likeness = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    (x, y), (height, width) = place, (max(1, side // 4) for side in patch.shape)
    likeness[max(0, y - height) : y + height + 1, max(0, x - width) : x + width + 1] = -1
    return float(likeness.max())


def _unfit(what: str, hint: str) -> InspectError:
    return InspectError(what, "--align", hint)


def _not_found(what: str, otherwise: str = "") -> PartNotFound:
    hint = f"Look at the part's guide, the trigger and the light{otherwise}."
    return PartNotFound(what, "alignment", hint)
