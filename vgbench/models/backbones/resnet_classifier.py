"""ResNet classifiers (He et al., 2015), with the keys, the first weights and the random start of torchvision's.

torchvision's own definition imports its detection operators and torch's compiler, which takes seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.models.backbones.landmarks import CLASSES, landmarks_weights
from vgbench.models.backbones.pretrained import check_pretrain, fetch
from vgbench.models.weights import load_weights

_URL = "https://download.pytorch.org/models/{}.pth"
# The field's published numbers start from torchvision's first weights, not from the newer recipes.
FIRST_WEIGHTS = {
    name: _URL.format(f"{name}-{digits}")
    for name, digits in {
        "resnet18": "f37072fd", "resnet34": "b627a593", "resnet50": "0676ba61", "resnet101": "63fe2227",
        "resnet152": "394f9c45",
    }.items()
}  # fmt: skip
IMAGENET_CLASSES = 1000


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [B,inputs,H,W] to [B,width,H/stride,W/stride]."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None  # set by `_stage`, whose random numbers come first in torchvision

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        summed: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return summed


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: [B,inputs,H,W] to [B,4*width,H/stride,W/stride].

    The stride is that of the 3x3 convolution, as in torchvision (ResNet v1.5), not of the first 1x1.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        summed: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return summed


LAYERS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """The classifier: images [B,3,H,W] to logits [B,classes]. Its children stand in the order of its forward pass."""

    def __init__(self, architecture: str, classes: int = IMAGENET_CLASSES) -> None:
        super().__init__()
        block, depths = LAYERS[architecture]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for number, depth in enumerate(depths, start=1):
            width = 32 * 2**number
            setattr(self, f"layer{number}", _stage(block, inputs, width, depth, 1 if number == 1 else 2))
            inputs = width * block.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for name, part in self.named_children():
            x = part(torch.flatten(x, 1)) if name == "fc" else part(x)
        return x


def resnet(architecture: str, pretrain: str) -> ResNet:
    """Return a classifier: with its first ImageNet weights, with those of Places 365 or Google Landmarks v2, or none.

    Raises:
        UserError: `pretrain` is another word, or the weights are neither in torch's cache nor can be downloaded.
    """
    if pretrain in CLASSES:
        model = ResNet(architecture, CLASSES[pretrain])
        load_weights(model, landmarks_weights(architecture, pretrain))
        return model
    check_pretrain(architecture, pretrain)
    model = ResNet(architecture)
    if pretrain == "imagenet":
        url = FIRST_WEIGHTS[architecture]
        weights = fetch(
            architecture, url, lambda: torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
        )
        model.load_state_dict(weights)
    return model


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    outputs = width * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
    first = block(inputs, width, stride)
    first.downsample = shortcut
    return nn.Sequential(first, *(block(outputs, width, 1) for _ in range(1, depth)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
