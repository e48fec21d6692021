"""Draw docs/images/heatmaps.jpg with the shipped engine: python docs/images/make.py

One good part and, for each kind of defect, the first one of the demo's line: none is picked by hand, and the
engine has learnt from none of them.
"""

from itertools import count
from pathlib import Path

import cv2
import numpy as np

from edge.backends import Backend, open_backend
from edge.cameras.conveyor import GOOD, Script
from edge.cameras.parts import DEFECTS, SIDE, render_part
from edge.demo.show import ENGINE
from edge.frame import Inspection, Pixels, Shot, make_frame
from edge.picture.overlay import heatmap_overlay
from edge.picture.preprocess import preprocess
from edge.recipe import Recipe, load_pair
from edge.verdict import decide

PICTURE = Path(__file__).with_name("heatmaps.jpg")
LINE = Script(seed=7, defects=0.25)  # as `edge-inspect demo` runs it
GAP, HEAD, PAPER, INK = 12, 44, (255, 255, 255), (40, 40, 40)
QUALITY = 82


def first_of(kind: str) -> Pixels:
    """The first part of the line that is `kind`."""
    index = next(i for i in count() if (LINE.defect(i) or GOOD) == kind)
    return render_part(LINE.seed, index, None if kind == GOOD else kind)


def column(kind: str, backend: Backend, recipe: Recipe) -> Pixels:
    """Title, part, heat map, one below the other."""
    pixels = first_of(kind)
    anomaly_map, score = backend.infer(preprocess(pixels, recipe.input_size, recipe.roi))
    frame = make_frame(Shot(pixels), 0, "picture", captured_ns=0)
    verdict = decide(frame, Inspection(0, score, anomaly_map, "", 0, 0), recipe, now_ns=0)
    overlay = heatmap_overlay(pixels, anomaly_map, float(recipe.normalisation["map_limit"]), recipe.roi)
    head = np.full((HEAD, SIDE, 3), PAPER, np.uint8)
    text = f"{kind}: {verdict.outcome.name} {score:.2f}"
    cv2.putText(head, text, (2, HEAD - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.75, INK, 2, cv2.LINE_AA)
    return np.vstack([head, pixels, np.full((GAP, SIDE, 3), PAPER, np.uint8), overlay])


def main() -> None:
    engine, recipe, _ = load_pair(ENGINE)
    backend = open_backend(engine, recipe)
    columns = [column(kind, backend, recipe) for kind in (GOOD, *DEFECTS)]
    gap = np.full((columns[0].shape[0], GAP, 3), PAPER, np.uint8)
    sheet = np.hstack([part for c in columns for part in (c, gap)][:-1])
    cv2.imwrite(str(PICTURE), sheet, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
