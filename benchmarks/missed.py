"""What does a model miss? Of each type the anomaly with the lowest score, beside its heat map.

    python benchmarks/missed.py MODEL DATA --out missed.jpg

Looks at test pictures, so it chooses nothing. docs/images/missed.jpg is of drawn trays (benchmarks/trays.py).
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from jobs import errors_in_words
from judging import type_of

from calibration.dataset import open_dataset
from calibration.evaluate import evaluate, map_of
from calibration.figures import Evaluation, Judged
from calibration.gallery import aligned
from edge.atomic import write_atomically
from edge.backends import Backend, open_backend
from edge.errors import DataError
from edge.frame import Pixels
from edge.paths import check_file
from edge.picture.images import read_image
from edge.picture.overlay import heatmap_overlay
from edge.picture.view import view_of
from edge.recipe import load_pair
from edge.verdict import Outcome

COLUMNS, WIDTH, HEAD, QUALITY = 2, 300, 28, 72  # pairs in a row; pixels of one picture, of its title
PAPER, INK = (255, 255, 255), (40, 40, 40)


def pair(image: Judged, stopped: float, e: Evaluation, backend: Backend) -> Pixels:
    """Title, picture and heat map side by side, (HEAD + height, 2 x WIDTH, 3)."""
    pixels = aligned(e, read_image(image.path))
    anomaly_map = map_of(backend, view_of(e.recipe), image.path)
    hot = heatmap_overlay(pixels, anomaly_map, e.map_limit, e.recipe.roi)
    head = np.full((HEAD, 2 * WIDTH, 3), PAPER, np.uint8)
    title = f"{type_of(image)}: {image.outcome.name} {image.score:.2f} ({stopped:.0%} of the type stopped)"
    cv2.putText(head, title, (4, HEAD - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    size = (WIDTH, round(WIDTH * pixels.shape[0] / pixels.shape[1]))
    both = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (pixels, hot)]
    return np.vstack([head, np.hstack(both)])


def sheet(pairs: list[Pixels]) -> Pixels:
    """Pairs in rows, paper below the lower ones and in place of one that is missing."""
    tallest = max(p.shape[0] for p in pairs)
    filled = [np.vstack([p, np.full((tallest - len(p), 2 * WIDTH, 3), PAPER, np.uint8)]) for p in pairs]
    filled += [np.full_like(filled[0], PAPER)] * (-len(pairs) % COLUMNS)
    return np.vstack([np.hstack(filled[i : i + COLUMNS]) for i in range(0, len(filled), COLUMNS)])


def pairs_of(model: Path, data: Path) -> list[Pixels]:
    """One of each type, those that are missed most first. Raises InspectError."""
    engine, recipe, _ = load_pair(model)
    backend, dataset = open_backend(engine, recipe), open_dataset(data, minimum=0, view=view_of(recipe))
    result = evaluate(backend, recipe, dataset)
    by_type: dict[str, list[Judged]] = {}
    for image in result.images:
        if not image.is_good:
            by_type.setdefault(type_of(image), []).append(image)
    if not by_type:
        raise DataError("there are no anomalous test pictures", str(data), "Put some into test/<type>.")
    found = {name: np.mean([i.outcome is not Outcome.PASS for i in of]) for name, of in by_type.items()}
    lowest = [min(by_type[name], key=lambda i: i.score) for name in sorted(found, key=found.__getitem__)]
    return [pair(image, float(found[type_of(image)]), result, backend) for image in lowest]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="model folder or engine")
    parser.add_argument("data", type=Path, help="data set with test pictures")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    arguments = parser.parse_args()
    with errors_in_words():
        check_file(arguments.out, "--out")
        picture = sheet(pairs_of(arguments.model, arguments.data))
        packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        write_atomically(arguments.out, packed.tobytes())


if __name__ == "__main__":
    main()
