"""Draw docs/images/trays.jpg, two good trays and one with each anomaly: python benchmarks/tray_sheet.py

The first tray of seed 7 with each anomaly: none is picked by hand.
"""

from pathlib import Path

import cv2
import numpy as np
from tray.picture import LOGICAL, STRUCTURAL, photograph

from edge.frame import Pixels

PICTURE = Path(__file__).parents[1] / "docs/images/trays.jpg"
SEED, COLUMNS, SIZE, QUALITY = 7, 4, (400, 300), 78
HEAD, PAPER, INK, OUTLINE = 30, (255, 255, 255), (40, 40, 40), (200, 40, 255)


def tile(index: int, anomaly: str) -> Pixels:
    """One tray with its title above it and its anomaly outlined."""
    photo = photograph(SEED, index, anomaly)
    outlines, _ = cv2.findContours(photo.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    picture = cv2.drawContours(photo.pixels.copy(), outlines, -1, OUTLINE, 2)
    head = np.full((HEAD, SIZE[0], 3), PAPER, np.uint8)
    title = anomaly or "good"
    cv2.putText(head, title, (4, HEAD - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA)
    return np.vstack([head, cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA)])


def main() -> None:
    tiles = [tile(i, anomaly) for i, anomaly in enumerate(("", "", *LOGICAL, *STRUCTURAL))]
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(PICTURE), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
