"""The golden picture: an engine that was started again judges it as it did before, or judges no part.

It is drawn, the same at every start: patches and grain excite every place of the map. What the engine says to
it at its first start on this machine is remembered. A real good part would prove no more, for the question is
not whether the model is good (the limits and the gate of build-engines answer that) but whether today's
processor, driver and library still compute what they did; and it would have to wait for a part, which a
station that starts after a power cut cannot.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.atomic import write_atomically
from edge.backends import Backend
from edge.errors import BackendFault
from edge.frame import AnomalyMap, Pixels
from edge.picture.preprocess import Size
from edge.recipe import Artefact, Recipe

CELLS = 8  # a side: a map that is wrong in one place shows
# Ten times what the libraries differ by, rounding differently (docs/deploy.md); what is broken is far off.
SAME = 0.005
SEED = 0

Fingerprint = list[float]  # the score, then the means of CELLS x CELLS cells of the map


def golden_picture(size: Size) -> Pixels:
    """Patches and grain, uint8 (H, W, 3), without any library that may draw it otherwise some day."""
    draw = np.random.default_rng(SEED)
    patches, grain = draw.integers(0, 128, (9, 9, 3)), draw.integers(0, 128, (*size, 3))
    rows, columns = (np.arange(side) * 9 // side for side in size)
    return (patches[rows][:, columns] + grain).astype(np.uint8)


def fingerprint(anomaly_map: AnomalyMap, score: float) -> Fingerprint:
    """What is kept of an answer. Raises BackendFault where it is not finite."""
    rows = np.array_split(anomaly_map.astype(np.float64), CELLS)
    cells = [float(cell.mean()) for row in rows for cell in np.array_split(row, CELLS, axis=1)]
    if not all(math.isfinite(value) for value in (score, *cells)):
        hint = "Build the engine again; try another --backend."
        raise BackendFault("the self-test's answer is no number", "golden picture", hint)
    return [score, *cells]


def unlike(now: Sequence[float], golden: Sequence[float]) -> str:
    """How two answers differ, in one clause; "" where they are the same but for rounding."""
    if abs(now[0] - golden[0]) > SAME * abs(golden[0]):
        return f"the score is {now[0]:.6g}, it was {golden[0]:.6g}"
    allowed = SAME * max(abs(value) for value in golden[1:])
    off = max(abs(a - b) for a, b in zip(now[1:], golden[1:], strict=True))
    return f"the map differs by up to {off:.6g}, {allowed:.6g} is rounding" if off > allowed else ""


def answer_of(backend: Backend) -> Fingerprint:
    """What an engine says to the golden picture. Raises BackendFault."""
    return fingerprint(*backend.infer(golden_picture(backend.input_size)))


class GoldenMemory:
    """What each engine said at its first start on this machine: one small file for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, backend: Backend, recipe: Recipe, artefact: Artefact) -> None:
        """Compare, or remember the first time. Raises BackendFault where the answer is another one.

        A folder that cannot be written remembers nothing: that costs the comparison, not the station.
        """
        now, path = answer_of(backend), self._folder / f"{_key(backend, recipe, artefact)}.json"
        golden = _read(path)
        if golden is None:
            _remember(path, now)
        elif why := unlike(now, golden):
            hint = f"A new driver or library? Judge known parts with it; if all is well, remove {path}"
            what = f"the engine judges the golden picture otherwise than at its first start here: {why}"
            raise BackendFault(what, backend.name, hint)


def _key(backend: Backend, recipe: Recipe, artefact: Artefact) -> str:
    """Of engine, view and kind of library; versions are left out, for an update is what is to be noticed."""
    view = json.dumps([*recipe.view.items(), backend.input_size], sort_keys=True)
    digest = hashlib.sha256(f"{artefact.sha256} {view}".encode()).hexdigest()
    return f"{digest[:16]}-{backend.name.split()[0].lower()}"


def _read(path: Path) -> Fingerprint | None:
    try:
        values = [float(value) for value in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return None
    return values if len(values) == 1 + CELLS**2 else None


def _remember(path: Path, now: Fingerprint) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(now).encode())
    except OSError:
        return
