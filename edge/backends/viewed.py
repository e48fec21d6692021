"""A backend behind a view with tiles or a mask: one picture in, one map and one score out, as with any other.

The picture's score is the largest of its tiles' scores: a defect lies in one tile or two, and a mean would
thin it out by all the good ones. Limits are set on that score, so they know how many tiles can go wrong.
"""

import numpy as np

from edge.backends import Backend
from edge.frame import AnomalyMap, Pixels
from edge.picture.view import View


class ViewedBackend:
    """Takes what `view.see` gives; owns `inner`. Where the mask says "ignore" the map is 0."""

    def __init__(self, inner: Backend, view: View) -> None:
        self.name, self.input_size = inner.name, view.size
        self.resizes = inner.resizes and view.tiling is None  # tiles are cut out of the resized canvas
        self._inner, self._view = inner, view
        try:
            self.infer(np.zeros((*view.size, 3), np.uint8))  # plans its batch and the seams
        except BaseException:
            self.close()
            raise

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """See `edge.backends.Backend`. NaN in any tile's score is NaN in the picture's: it is not judged."""
        tiling, view = self._view.tiling, self._view
        if tiling is None:
            anomaly_map, score = self._inner.infer(pixels)
        else:
            maps, scores = self._inner.infer_batch(tiling.cut(pixels, view.chosen_tiles))
            anomaly_map, score = tiling.join(maps, view.chosen_tiles), float(np.max(scores))
        if view.looked_at is not None:
            anomaly_map = np.where(view.looked_at, anomaly_map, np.float32(0))
        return anomaly_map, score

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """One picture after the other."""
        maps, scores = zip(*map(self.infer, pixels), strict=True)
        return np.stack(maps), np.array(scores, np.float32)

    def close(self) -> None:
        """Close the engine."""
        self._inner.close()
