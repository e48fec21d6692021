"""Are the pictures different enough to learn from? Pure judgements on small grey pictures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.look import Thumbnails, differences

# Grey levels. A picture saved again, or the same part taken again, stays below 1.5 with the noise of a
# plain camera; different parts of all sets measured are 3.5 and more apart, most of them 17 to 22.
ALIKE = 2.0
ALIKE_SHARE = 0.25  # and of what two pictures of this set usually differ: plain parts are alike by nature
SAME = 0.1  # rounding in the distances of copies: always alike

# Different pictures that give a usable model; below it training goes on, with a warning.
ENOUGH_PICTURES = 50

# Measured on one set of parts (docs/method.md, "Few pictures") at this input size: good pictures learnt from,
# largest share of good test parts that a draw's limits stopped.
FEW_PICTURES_SIZE = 256
FEW_PICTURES = ((8, 0.92), (20, 0.25), (50, 0.0))

BLOCK = 512  # rows compared at once: memory, no effect on the result
TYPICAL_PAIRS = 300  # pictures whose distances from each other tell the usual one


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to say of the pictures as a whole: what, what to do next."""

    kind: str
    what: str
    next_step: str


def usual_difference(small: Thumbnails) -> float:
    """Root mean square in grey levels between two pictures of the set that are no copies of each other, the
    median; 0 for fewer than two."""
    distinct = np.unique(small, axis=0)
    some = distinct[:: max(1, len(distinct) // TYPICAL_PAIRS)]
    pairs = differences(some, some)[np.triu_indices(len(some), 1)]
    return float(np.median(pairs)) if pairs.size else 0.0


def first_alike(small: Thumbnails) -> npt.NDArray[np.int64]:
    """For each picture the index of the first one it is nearly identical to; its own where there is none."""
    first = np.arange(len(small))
    limit = max(SAME, min(ALIKE, ALIKE_SHARE * usual_difference(small)))
    for start in range(0, len(small), BLOCK):
        rows = slice(start, start + BLOCK)
        for i, near in enumerate(differences(small[rows], small) < limit, start):
            if first[i] == i:  # a picture that is itself a copy stands for nobody
                first[(near) & (first == np.arange(len(small))) & (np.arange(len(small)) > i)] = i
    return first


def is_uniform(small: Thumbnails) -> bool:
    """All pictures nearly identical: a burst of one part, or a camera that stands still."""
    return len(small) > 1 and usual_difference(small) < ALIKE


def advice(small: Thumbnails) -> list[Advice]:
    """What `train` and `check-data` alike say of the pictures as a whole; of a good set nothing."""
    found = []
    if is_uniform(small):
        apart = f"usually {usual_difference(small):.1f} of 256 grey levels apart"
        hint = "Fine for plain parts in a fixture. If it is one part taken many times: show many parts."
        found.append(Advice("uniform", f"all pictures are nearly identical, {apart}", hint))
    distinct = len(np.unique(first_alike(small)))
    if distinct < ENOUGH_PICTURES:
        what = f"only {distinct} different picture{'s' * (distinct != 1)} to learn from"
        found.append(Advice("few", what, _few_hint()))
    return found


def _few_hint() -> str:
    (count, share), *more = FEW_PICTURES
    stopped = [f"With {count} pictures up to {share:.0%} of good parts were stopped"]
    stopped += [f"with {count} {f'up to {share:.0%}' if share else 'none'}" for count, share in more]
    return (
        f"Add other good parts: {ENOUGH_PICTURES} or more work well. {', '.join(stopped)} "
        f"(one set, at {FEW_PICTURES_SIZE} pixels)."
    )
