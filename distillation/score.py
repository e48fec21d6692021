"""From several figures of one picture to its score: 1.0 is a typical good part, larger is worse.

Each part (the map's worst places, the local student's, the distances of the whole) is a detector of its own,
and all are equally wide on good parts. The soft maximum hears one that sees what no other does; the sum is
not led astray by one that has a bad day, and so has the lighter tail on good parts (docs/method.md).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from calibration.normalisation import LEAST_SPREAD, score_weights

SUM, SOFT_MAXIMUM = SCORE_FUSIONS = ("sum", "soft maximum")


class ScoreFusion(nn.Module):
    """Parts (B, n) -> score (B,). `fit` first; until then the score is the first part plus 1."""

    def __init__(self, names: Sequence[str], kind: str):
        super().__init__()
        self.names, self.kind = tuple(names), kind
        n = len(self.names)
        self.register_buffer("weights", torch.eye(n)[0])
        self.register_buffer("centres", torch.zeros(n))  # of the weighted parts, on good pictures
        self.register_buffer("spread", torch.ones(()))  # their standard deviation, the same for all

    def forward(self, parts: Tensor) -> Tensor:
        """(B, n) -> (B,)."""
        above = parts * self.weights - self.centres
        if self.kind == SUM:
            return 1 + above.sum(dim=1)
        z = above / self.spread
        # Log of sum of exponentials, written out: not every engine builder's own bears z = 100.
        highest = z.amax(dim=1, keepdim=True)
        soft = highest.squeeze(1) + (z - highest).exp().sum(dim=1).log()
        return 1 + self.spread * (soft - math.log(len(self.names)))

    def fit(self, means: Sequence[float], spreads: Sequence[float]) -> dict[str, float]:
        """From mean and standard deviation of each part on good pictures. Returns the weights by name."""
        weights = score_weights(means, spreads)
        self.weights.copy_(torch.tensor(weights))
        self.centres.copy_(torch.tensor([w * mean for w, mean in zip(weights, means, strict=True)]))
        self.spread.fill_(weights[0] * max(spreads[0], LEAST_SPREAD))
        return dict(zip(self.names, weights, strict=True))
