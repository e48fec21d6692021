"""From several figures of one picture to its score: 1.0 where all are typical of good parts, larger is worse.

Each part (the map's worst places, the local student's, the distances of the whole) is a detector of its own.
They combine as independent distances do, by the root of their squares, each with its share: one that sees
what no other does is heard better than in a sum, and one with a bad day leads less astray than in a maximum
(docs/method.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from calibration.normalisation import LEAST_SPREAD, score_weights

LENGTH, ALIKE, SUM = SCORE_FUSIONS = ("length", "alike", "sum")
ORIGIN = 2.0  # standard deviations below a typical good part: as good as good parts get
# How much each part counts (docs/method.md): words hear logical mistakes best, pooled statistics say much on
# some sets and nothing on others, where they drown the rest if they are as loud.
SHARES = {"map": 1.0, "local": 1.0, "words": 2.0, "deep": 1.0, "pooled": 0.5}


class ScoreFusion(nn.Module):
    """Parts (B, n) -> score (B,). `fit` first; until then only the first part counts.

    kind: "length" (root of the mean of squares, each with its share), "alike" (all shares equal), "sum".
    """

    def __init__(self, names: Sequence[str], kind: str):
        super().__init__()
        if kind not in SCORE_FUSIONS:
            raise ValueError(f"score fusion {kind!r}: known are {', '.join(SCORE_FUSIONS)}")
        self.names, self.kind = tuple(names), kind
        n = len(self.names)
        shares = torch.tensor([1.0 if kind == ALIKE else SHARES[name] for name in self.names])
        self.register_buffer("shares", shares / shares.sum(), persistent=False)
        self.register_buffer("weights", torch.eye(n)[0])
        self.register_buffer("centres", torch.zeros(n))  # of the weighted parts, on good pictures
        self.register_buffer("spread", torch.ones(()))  # their standard deviation, the same for all

    def forward(self, parts: Tensor) -> Tensor:
        """(B, n) -> (B,). A part that is no number makes a score that is none."""
        above = parts * self.weights - self.centres
        if self.kind == SUM:
            return 1 + above.sum(dim=1)
        from_origin = above / (self.spread * ORIGIN) + 1
        return (from_origin.square() * self.shares).sum(dim=1).sqrt()

    def fit(self, means: Sequence[float], spreads: Sequence[float]) -> dict[str, float]:
        """From mean and standard deviation of each part on good pictures. Returns the weights by name."""
        weights = score_weights(means, spreads)
        self.weights.copy_(torch.tensor(weights))
        self.centres.copy_(torch.tensor([w * mean for w, mean in zip(weights, means, strict=True)]))
        self.spread.fill_(weights[0] * max(spreads[0], LEAST_SPREAD))
        return dict(zip(self.names, weights, strict=True))
