"""Proof at shift start that the station still tells good from bad: pictures of master parts, judged anew.

    loco/challenge/good/*.png     every one has to pass
    loco/challenge/bad/*.png      none may pass, and every one has to be judged: a fault proves nothing

They lie beside the engine, so each recipe has its own. Camera and light have no part in it: those are
proved by master parts on the belt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import DataError
from edge.frame import Pixels
from edge.picture.images import list_images, read_image
from edge.verdict import Outcome, Verdict

CHALLENGE, GOOD, BAD = "challenge", "good", "bad"
TOLD = 5  # of the pictures that were judged wrong


@dataclass(frozen=True, slots=True)
class Master:
    """One stored picture and what it has to be."""

    path: Path
    good: bool


def challenge_pictures(folder: Path) -> list[Master]:
    """All of them, good ones first. Raises DataError where there are none of either kind."""
    masters = []
    for name in (GOOD, BAD):
        files = list_images(folder / name) if (folder / name).is_dir() else []
        if not files:
            hint = f"Put pictures of {name} master parts there, taken by this camera (edge-inspect collect)."
            raise DataError(f"there are no {name} challenge pictures", str(folder / name), hint)
        masters += [Master(file, name == GOOD) for file in files]
    return masters


def as_expected(verdict: Verdict, good: bool) -> bool:
    """A bad part has to be judged, and not to pass; between the limits is not a pass."""
    if good:
        return verdict.outcome is Outcome.PASS
    return verdict.outcome is not Outcome.PASS and not verdict.reason.is_fault


def surprises(masters: Sequence[Master], judge: Callable[[Pixels, int], Verdict]) -> list[str]:
    """What was not judged as it should be, in words; empty where all was. Raises DataError."""
    wrong = []
    for number, master in enumerate(masters, 1):
        verdict = judge(read_image(master.path), number)
        if not as_expected(verdict, master.good):
            wrong.append(f"{master.path.parent.name}/{master.path.name} gave {_words(verdict)}")
    more = len(wrong) - TOLD
    return wrong if more <= 0 else [*wrong[:TOLD], f"and {more} more"]


def _words(verdict: Verdict) -> str:
    score = "" if verdict.score is None else f" ({verdict.score:.3f})"
    return f"{verdict.outcome.value}, {verdict.reason.name}{score}"
