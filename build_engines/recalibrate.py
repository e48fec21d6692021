"""After quantisation: what good parts look like to the quantised networks is the new normal.

The score's own constants are moved, by their name in the export (`score.centres`), so that good pictures give
the mean of every part of the score as in FP32. The map's constants stay: rounding leaves nearly nothing of a
shift in it, and fitting its scale again on a few dozen pictures would bring in more than it takes out.
"""

import onnx

from build_engines.graph import consumers, set_weights, weights_of
from build_engines.probe import look_at
from edge.errors import RecipeError
from edge.frame import Pixels

WEIGHTS, CENTRES = "score.weights", "score.centres"


class GoodParts:
    """What good pictures uint8 (N, H, W, 3) look like to the FP32 graph: looked at once, for all tries."""

    def __init__(self, reference: onnx.ModelProto, images: Pixels) -> None:
        """Raises RecipeError for a graph of another version, which names its constants otherwise."""
        if not {WEIGHTS, CENTRES} <= {tensor.name for tensor in reference.graph.initializer}:
            hint = "Run build-engines on the model folder; it says where training is needed again."
            raise RecipeError("this graph was exported by another version", "INT8", hint)
        self._images, self._parts = images, consumers(reference)[WEIGHTS][0].input[0]
        self._means = look_at(reference, images, self._parts).mean(axis=0)

    def recalibrate(self, model: onnx.ModelProto) -> None:
        """Move the centres of a quantised `model`, in place, so that good pictures look so to it, too."""
        shift = look_at(model, self._images, self._parts).mean(axis=0) - self._means
        moved = weights_of(model, CENTRES) + weights_of(model, WEIGHTS) * shift
        set_weights(model, CENTRES, moved)
