"""The two students: fusion, local student (reverse or forward), global student behind the GCCB.

All work on maps that are standardised per channel, three of them, at strides 4, 8 and 16. Widths are our
reading, not the paper's: chosen so that both students together cost less than the teacher.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALES = 3  # of the teacher's maps: a coarser one is none of the students' business


class Conv(nn.Sequential):
    """Convolution, batch normalisation, ReLU: the three that every engine builder fuses into one."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1):
        super().__init__(
            nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True)
        )


class Fusion(nn.Module):
    """RD4AD's one-class embedding: all three maps at stride 16, concatenated, condensed to stride 32.

    Maps (B, C_k, H_k, W_k) -> (B, width, H_3 / 2, W_3 / 2).
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        c1, c2, c3 = channels
        mid = width // 2
        self.fine = nn.Sequential(Conv(c1, mid // 2, stride=2), Conv(mid // 2, mid, stride=2))
        self.middle = Conv(c2, mid, stride=2)
        self.coarse = Conv(c3, mid, kernel=1)
        self.condense = Conv(3 * mid, width, stride=2)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        m1, m2, m3 = maps[:SCALES]
        return self.condense(torch.cat([self.fine(m1), self.middle(m2), self.coarse(m3)], dim=1))


class Decoder(nn.Module):
    """Mirror of the teacher: (B, width, h, w) at stride 32 -> maps at strides 4, 8 and 16."""

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        widths = (width // 2, width // 4, width // 8)  # at strides 16, 8, 4
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        cin = width
        for cmid, cout in zip(widths, reversed(channels), strict=True):
            # The 1x1 first: it makes the 3x3 at twice the size four times cheaper.
            self.stages.append(
                nn.Sequential(Conv(cin, cmid, kernel=1), nn.Upsample(scale_factor=2), Conv(cmid, cmid))
            )
            self.heads.append(nn.Conv2d(cmid, cout, 1))
            cin = cmid

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            x = stage(x)
            maps.append(head(x))
        return maps[::-1]


class ReverseStudent(nn.Module):
    """Local student as in Reverse Distillation (RD4AD, CVPR 2022): fusion, embedding, mirrored decoder."""

    targets = (0, 1, 2)  # the teacher's maps that it predicts

    def __init__(self, channels: Sequence[int], width: int = 256):
        super().__init__()
        self.fusion = Fusion(channels, width)
        self.decoder = Decoder(channels, width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return self.decoder(self.fusion(maps))


class ForwardStudent(nn.Module):
    """Local student that goes the teacher's way: its stride-4 map in, its stride-8 and stride-16 maps out.

    It cannot copy what it must predict, and its receptive field is small, so it sees what is wrong with a
    place and not where the place is.
    """

    targets = (1, 2)

    def __init__(self, channels: Sequence[int], width: int = 64):
        super().__init__()
        c1, c2, c3 = channels
        self.to_middle = nn.Sequential(Conv(c1, width, stride=2), Conv(width, width))
        self.middle = nn.Conv2d(width, c2, 1)
        self.to_coarse = nn.Sequential(Conv(width, 2 * width, stride=2), Conv(2 * width, 2 * width))
        self.coarse = nn.Conv2d(2 * width, c3, 1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x = self.to_middle(maps[0])
        return [self.middle(x), self.coarse(self.to_coarse(x))]


class GlobalContextCondensingBlock(nn.Module):
    """GCCB: the whole picture becomes ONE vector and is spread out again; nothing local can pass.

    (B, width, h, w) -> context (B, context) -> (B, width, h, w). A full-size convolution condenses (after a
    1x1 to `squeeze` channels, which keeps it small) and its transpose expands. GCNet adds the input back to
    the context; that would let local detail through, so it is not done here.
    """

    def __init__(self, width: int, size: tuple[int, int], context: int, squeeze: int = 32):
        super().__init__()
        self.squeeze = Conv(width, squeeze, kernel=1)
        self.condense: nn.Module = nn.Conv2d(squeeze, context, size)
        self.expand = nn.ConvTranspose2d(context, squeeze, size)
        self.spread = Conv(squeeze, width, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        context = self.condense(self.squeeze(x))  # (B, context, 1, 1)
        return self.spread(F.relu(self.expand(context)))


class AttentionPooling(nn.Module):
    """GCNet's pooling, with several heads: each sums up the places that it finds important.

    (B, c, h, w) -> (B, context, 1, 1).
    """

    def __init__(self, channels: int, heads: int, context: int):
        super().__init__()
        self.attend = nn.Conv2d(channels, heads, 1)
        self.gather = nn.Linear(heads * channels, context)

    def forward(self, x: Tensor) -> Tensor:
        attention = self.attend(x).flatten(2).softmax(dim=2)  # (B, heads, h * w)
        pooled = attention @ x.flatten(2).transpose(1, 2)  # (B, heads, c)
        return self.gather(pooled.flatten(1))[:, :, None, None]


def bottleneck(kind: str, width: int, size: tuple[int, int], context: int, heads: int) -> nn.Module:
    """What stands between fusion and decoder of the global student: BOTTLENECKS names the kinds."""
    if kind == "none":
        return Conv(width, width, kernel=1)
    block = GlobalContextCondensingBlock(width, size, context)
    if kind == "attention":
        block.condense = AttentionPooling(block.squeeze[0].out_channels, heads, context)
    return block


class GlobalStudent(nn.Module):
    """Global student: fusion, global context condensing block, its own decoder."""

    targets = (0, 1, 2)

    def __init__(
        self, channels: Sequence[int], size: tuple[int, int], width: int = 256, context: int = 256,
        kind: str = "convolution", heads: int = 8,
    ):  # fmt: skip
        """`size` is (height, width) of the stride-32 map."""
        super().__init__()
        self.fusion = Fusion(channels, width)
        self.gccb = bottleneck(kind, width, size, context, heads)
        self.decoder = Decoder(channels, width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return self.decoder(self.gccb(self.fusion(maps)))


BOTTLENECKS = ("convolution", "attention", "none")  # "none" lets everything pass: for comparing only
LOCAL_STUDENTS = {"reverse": ReverseStudent, "forward": ForwardStudent}
