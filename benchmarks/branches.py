"""What are the branches of the map worth once they are fully trained? Of the models that quality.py trained.

    python benchmarks/branches.py DATA --work DIR [--sets a,b] [--seeds 0,1,2] [--save | --table]

In place of the detector's own map each model gets the largest of other branches, of all as loud as they are
worth (`--fusion trusted`), or their mean: nothing is trained again, the rest of the score stays. The figures
are those of benchmarks/parts.py, which sees no test picture. Each model's are kept in DIR as they come.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from benchset import BenchSet, console, train_ours
from jobs import Facts, Jobs, code_digest
from parts import BATCH, JUDGING_CODE, Floats, Parts, choose, parts_of, pictures, table

from calibration.dataset import load_images
from distillation.detector import Detector
from distillation.fit import FEW_HELD_OUT, fit_reliability
from distillation.mapfusion import smooth
from distillation.model import load_model
from distillation.score import SHARES
from edge.errors import DataError
from edge.frame import Pixels
from edge.picture.view import View

ALL = ("local", "global", "affinity")
# Of each the largest counts.
LARGEST = {f"map of {', '.join(of)}": of for n in (1, 2) for of in combinations(ALL, n)} | {"map of all": ALL}
TRUSTED, MEAN = "map of all, as loud as they are worth", "map: mean of all"
WITHOUT_MAP = {name: share for name, share in SHARES.items() if name != "map"}
WAYS: dict[str, Mapping[str, float]] = {
    **{name: {name: SHARES["map"], **WITHOUT_MAP} for name in (*LARGEST, TRUSTED, MEAN)},
    "no map, local twice": WITHOUT_MAP | {"local": SHARES["map"] + SHARES["local"]},
    "no map": WITHOUT_MAP,
    **{f"{name} alone": {name: 1.0} for name in (*LARGEST, TRUSTED, MEAN)},
}


def maps_of(bench: BenchSet, seed: int) -> Parts | None:
    """The parts of one model's score, and each map's beside them; None where there are none.

    Raises DataError for a detector whose branches are weighed already.
    """
    if bench.detector.fusion != "max":
        raise DataError(
            f"the branches are not those of fusion {bench.detector.fusion!r}", "--detector", "Take max."
        )
    parts = parts_of(bench, seed)
    trained = train_ours(replace(bench, jobs=Jobs(bench.jobs.folder, done_only=True)), seed)
    if parts is None or trained is None:
        return None

    def work() -> Facts:
        detector, _, held = load_model(trained[0])
        few = bench.split(seed)[0] if len(held) < FEW_HELD_OUT else []
        learnt = load_images(few, View(detector.config.input_size)) if few else held[:0]
        return deviations(detector, held, learnt, pictures(bench, held))

    rests_on = bench.rests_on(seed) | {"maps": code_digest("benchmarks/branches.py", *JUDGING_CODE)}
    found = bench.jobs.once(f"results/{bench.name}-branches-seed{seed}", rests_on, work)
    if found is None:
        return None
    return {kind: {**of, **{m: np.array(x) for m, x in found[kind].items()}} for kind, of in parts.items()}


def deviations(
    detector: Detector, held: Pixels, learnt: Pixels, shown: Mapping[str, Pixels]
) -> dict[str, dict[str, list[float]]]:
    """Kind of picture -> map -> its figure of each, in deviations from a typical good picture.

    As distillation/fit.py has them: of held-out pictures, with those `learnt` from where these are few.
    """
    trusting = copy.deepcopy(detector)
    fit_reliability(trusting, held)
    loud = _span(detector) / _span(trusting)
    good = tops(detector, held, loud)
    seen = [good] + ([tops(detector, learnt, loud)] if len(learnt) else [])
    spread = {name: np.concatenate([of[name] - of[name].mean() for of in seen]).std() for name in good}
    found = {kind: tops(detector, images, loud) for kind, images in shown.items()}
    return {
        kind: {name: ((x - good[name].mean()) / spread[name]).tolist() for name, x in of.items()}
        for kind, of in found.items()
    }


@torch.inference_mode()
def tops(detector: Detector, images: Pixels, loud: torch.Tensor) -> dict[str, Floats]:
    """Mean of the worst places of each map: (N,); `loud` (branches,) is for the one of TRUSTED."""
    fusion, batches = detector.fusion, list[torch.Tensor]()
    hook = fusion.register_forward_hook(lambda module, given, made: batches.append(made[1]))
    rows: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(images), BATCH):
        batches.clear()
        detector(torch.from_numpy(images[start : start + BATCH]))
        branches = batches[0]
        maps = {
            name: branches[:, [fusion.names.index(b) for b in of]].amax(1) for name, of in LARGEST.items()
        }
        maps |= {TRUSTED: (branches * loud.view(1, -1, 1, 1)).amax(1), MEAN: branches.mean(1)}
        for name, places in maps.items():
            blurred = smooth(places.unsqueeze(1), fusion.blur).squeeze(1)
            rows.setdefault(name, []).append(detector.map_score(blurred))
    hook.remove()
    return {name: torch.cat(of).double().numpy() for name, of in rows.items()}


def _span(detector: Detector) -> torch.Tensor:
    return detector.fusion.high - detector.fusion.low


def main() -> None:
    results: dict[str, Any] = choose(__doc__ or "", "branches", maps_of, WAYS)
    console.print(table(results, [*WAYS]))


if __name__ == "__main__":
    main()
