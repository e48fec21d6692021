"""ResNet teachers (arXiv 1512.03385, 1605.07146): the networks most published figures were made with.

Module names are torchvision's, so that a published state dict fits as it is. Built up to layer3 only.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from distillation.teacher import Teacher

CUT_OFF = ("layer4.", "fc.")  # stands in every published state dict, is not built here


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the skip: (B, cin, H, W) -> (B, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, cin: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(cin, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class WideBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and the skip, the inner width doubled (Wide-ResNet-50-2):
    (B, cin, H, W) -> (B, 4 * width, H / stride, W / stride). The stride sits in the 3x3, as in torchvision.
    """

    expansion = 4

    def __init__(self, cin: int, width: int, stride: int):
        super().__init__()
        inner, cout = 2 * width, self.expansion * width
        self.conv1 = nn.Conv2d(cin, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = _downsample(cin, cout, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _downsample(cin: int, cout: int, stride: int) -> nn.Module:
    if stride == 1 and cin == cout:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))


class ResNet(Teacher):
    """Base of the three below, which set `name`, `channels`, `block` and `repeats`."""

    strides = (4, 8, 16)
    mean = (123.675, 116.28, 103.53)  # ImageNet's 0.485, 0.456, 0.406, times 255
    std = (58.395, 57.12, 57.375)  # 0.229, 0.224, 0.225, times 255
    block: type[BasicBlock] | type[WideBottleneck]
    repeats: tuple[int, int, int]  # blocks in layer1, layer2, layer3

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._layer(64, 64, self.repeats[0], stride=1)
        self.layer2 = self._layer(self.channels[0], 128, self.repeats[1], stride=2)
        self.layer3 = self._layer(self.channels[1], 256, self.repeats[2], stride=2)

    def _layer(self, cin: int, width: int, repeats: int, stride: int) -> nn.Sequential:
        rest = [self.block(width * self.block.expansion, width, 1) for _ in range(repeats - 1)]
        return nn.Sequential(self.block(cin, width, stride), *rest)

    def features(self, rgb: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(rgb)))  # (B, 64, H / 2, W / 2)
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
            maps.append(x)
        return maps

    def load_published(self, state: Mapping[str, Tensor]) -> "ResNet":
        """Take the weights from torchvision's state dict of the whole network.

        Raises RuntimeError when it is of another network. A name too many counts as well: every tensor of
        ResNet-18 is also found, in the same shape, in the state dict of ResNet-34.
        """
        self.load_state_dict({name: value for name, value in state.items() if not name.startswith(CUT_OFF)})
        return self


class ResNet18(ResNet):
    """2.8 million parameters up to layer3."""

    name = "resnet18"
    channels = (64, 128, 256)
    block, repeats = BasicBlock, (2, 2, 2)


class ResNet34(ResNet):
    """8.2 million parameters up to layer3."""

    name = "resnet34"
    channels = (64, 128, 256)
    block, repeats = BasicBlock, (3, 4, 6)


class WideResNet50(ResNet):
    """Wide-ResNet-50-2; 24.9 million parameters up to layer3: a reference, not a teacher for the edge."""

    name = "wide_resnet50_2"
    channels = (256, 512, 1024)
    block, repeats = WideBottleneck, (3, 4, 6)
