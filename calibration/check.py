"""What is wrong with a set of good pictures, before a model learns from it. Pure judgements on looks."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.likeness import advice, first_alike, is_uniform
from calibration.look import SMALL, Look, Thumbnails
from calibration.refused import by_advice
from calibration.unusual import FAR, Steps, robust_steps
from edge.errors import DataError

DIM = 64.0  # grey levels: three quarters of the range above are unused
PALE = 191.0  # grey levels: three quarters of the range below are unused
OTHER_LEVEL = 15.0  # grey levels from the others' mean: more than twice what a lamp does in a shift
OTHER_SATURATED = 0.05  # share of the picture that is white here and not in the others
BLURRED = 0.25  # of the others' sharpness: parts of one kind differ by less, strong blur does more
OTHER_ASPECT = 0.1  # of the usual width to height: seen as a distortion, for all are resized to one shape

Groups = tuple[tuple[Path, ...], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what, what to do next, and its files; a group's files belong together."""

    kind: str
    what: str
    next_step: str
    groups: Groups = ()

    @property
    def files(self) -> list[Path]:
        return [path for group in self.groups for path in group]


def unreadable(errors: Mapping[Path, DataError]) -> list[Finding]:
    """Files that are no pictures, are broken or do not fit the view; one finding for each thing to do."""
    return [_unusable(paths, first) for paths, first in by_advice(errors)]


def _unusable(paths: Sequence[Path], first: DataError) -> Finding:
    what = f"{_pictures(len(paths))} unusable: {first.what}"
    hint = f"{first.next_step} Training stops at such a picture."
    return Finding("unreadable", what, hint, tuple((path,) for path in paths))


def judge(looks: Sequence[Look]) -> list[Finding]:
    """Everything that the pixels alone tell."""
    if not looks:
        return []
    return [*sizes(looks), *exposure(looks), *blur(looks), *repeats(looks), *variety(looks)]


def sizes(looks: Sequence[Look]) -> list[Finding]:
    """Pictures of another size than most; where no size is common, those of another shape."""
    counts = Counter(look.size for look in looks)
    (height, width), most = counts.most_common(1)[0]
    if most == len(looks):
        return []
    if 2 * most > len(looks):
        odd = [look for look in looks if look.size != (height, width)]
        what = f"{_pictures(len(odd))} of another size than the other {most}, {width}x{height}"
        return [
            _finding("size", what, "Take them anew with the line's camera settings, or remove them.", odd)
        ]
    aspects = np.array([look.size[1] / look.size[0] for look in looks])
    odd = _where(looks, np.abs(aspects / np.median(aspects) - 1) > OTHER_ASPECT)
    what = f"{len(counts)} different picture sizes"
    if 2 * len(odd) > len(looks):
        what, odd = f"{what}, and no shape that most of them have", []
    elif odd:
        what = f"{what}; {_pictures(len(odd))} of another shape than most"
    hint = "All are resized to one shape: use one camera setting, or cut the part out with --roi."
    return [_finding("size", what, hint, odd)]


def exposure(looks: Sequence[Look]) -> list[Finding]:
    """Pictures that show nothing, are too dark or bright in themselves, or unlike the others."""
    level = np.array([look.level for look in looks])
    white = np.array([look.saturated for look in looks])
    blank = np.array([look.blank for look in looks])
    away = robust_steps(level, 1e-6)
    far = (np.abs(away) > FAR) & (np.abs(level - np.median(level)) > OTHER_LEVEL)
    glare = (robust_steps(white, 1e-6) > FAR) & (white > np.median(white) + OTHER_SATURATED)
    dark = np.array([look.brightest < DIM for look in looks]) | (far & (away < 0))
    bright = np.array([look.darkest > PALE for look in looks]) | (far & (away > 0)) | glare
    found = {
        ("blank", "black, white or of one colour"): blank,
        ("dark", "too dark"): dark & ~blank,
        ("bright", "too bright"): bright & ~blank & ~dark,
    }
    hint = "Check lamp and exposure; remove them, for the model would learn that parts may look so."
    return [
        _finding(kind, f"{_pictures(int(mask.sum()))} {words}", hint, _where(looks, mask))
        for (kind, words), mask in found.items() if mask.any()
    ]  # fmt: skip


def blur(looks: Sequence[Look]) -> list[Finding]:
    """Pictures far less sharp than the others."""
    logs = np.log([max(look.sharpness, 1e-3) for look in looks])
    blurred = (robust_steps(logs, 1e-6) < -FAR) & (logs < np.median(logs) + np.log(BLURRED))
    seen = _where(looks, blurred & ~np.array([look.blank for look in looks]))
    hint = "Check focus, exposure time and whether the part stood still; remove them."
    return [_finding("blurred", f"{_pictures(len(seen))} blurred", hint, seen)] if seen else []


def repeats(looks: Sequence[Look]) -> list[Finding]:
    """Files that are copies, and pictures that are nearly identical."""
    copies = _groups(looks, [look.digest for look in looks])
    single = list({look.digest: look for look in reversed(looks)}.values())[::-1]
    shown = [look for look in single if not look.blank]
    alike = [] if is_uniform(_small(shown)) else _groups(shown, first_alike(_small(shown)).tolist())
    hint = "Keep one of each: a picture that is learnt and kept back as well makes the limits too tight."
    found = {"duplicate": (copies, "the same file"), "near-duplicate": (alike, "nearly identical")}
    return [
        Finding(kind, f"{_pictures(_spare(groups))} more than needed: {words}", hint, groups)
        for kind, (groups, words) in found.items()
        if groups
    ]


def tested(looks: Sequence[Look], tests: Mapping[str, Path]) -> list[Finding]:
    """Pictures that are also test pictures; `tests` by the hex sha256 of their files."""
    groups = tuple((look.path, tests[key]) for look in looks if (key := look.digest.hex()) in tests)
    hint = "Remove them on one side: how a learnt picture is judged says nothing about new parts."
    what = f"{_pictures(len(groups))} both to learn from and to test with"
    return [Finding("tested", what, hint, groups)] if groups else []


def variety(looks: Sequence[Look]) -> list[Finding]:
    """Too few different pictures, all of them nearly the same, or both."""
    told = advice(_small([look for look in looks if not look.blank]))
    return [Finding(found.kind, found.what, found.next_step) for found in told]


def outliers(paths: Sequence[Path], steps: Steps) -> list[Finding]:
    """Pictures unlike the other good ones, worst first; `steps` (N,) as from `unusualness`."""
    order = [i for i in np.argsort(-steps) if steps[i] > FAR]
    hint = "Look at them: remove those that are no good parts, or show more of their kind."
    groups = tuple((paths[i],) for i in order)
    return [Finding("outlier", f"{_pictures(len(order))} unlike the others", hint, groups)] if order else []


def distinct_looks(looks: Sequence[Look]) -> list[Look]:
    """One picture of each kind of repeat, and nothing blank: what tells how parts differ."""
    shown = [look for look in looks if not look.blank]
    first = first_alike(_small(shown))
    return [look for i, look in enumerate(shown) if first[i] == i]


def _finding(kind: str, what: str, next_step: str, looks: Sequence[Look]) -> Finding:
    return Finding(kind, what, next_step, tuple((look.path,) for look in looks))


def _where(looks: Sequence[Look], mask: npt.NDArray[np.bool_]) -> list[Look]:
    return [look for look, chosen in zip(looks, mask.tolist(), strict=True) if chosen]


def _groups(looks: Sequence[Look], keys: Sequence[object]) -> Groups:
    together: dict[object, list[Path]] = defaultdict(list)
    for look, key in zip(looks, keys, strict=True):
        together[key].append(look.path)
    return tuple(tuple(paths) for paths in together.values() if len(paths) > 1)


def _spare(groups: Groups) -> int:
    return sum(len(group) - 1 for group in groups)


def _small(looks: Sequence[Look]) -> Thumbnails:
    return np.array([look.small for look in looks], np.float32).reshape(len(looks), SMALL * SMALL)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
