"""ResNets cut after their conv4_x or conv5_x stage (He et al., 2015)."""

from __future__ import annotations

from functools import partial

from torch import nn

from vgbench.models.backbones.resnet_classifier import resnet
from vgbench.models.backbones.stages import check_number
from vgbench.models.base import Backbone

# The classifier's children in order: conv1, bn1, relu, maxpool, layer1 (conv2_x) ... layer4 (conv5_x), avgpool, fc.
STEM = 4
FROZEN_STAGES = 2  # conv2_x and conv3_x, which come before stride 16


class ResNetTrunk(Backbone, nn.Sequential):
    """A ResNet without its later stages; input [B,3,H,W], output [B,out_channels,H/16,W/16] (conv4) or /32 (conv5)."""

    kind = "map"

    def __init__(self, architecture: str, last_stage: int, pretrain: str, *, freeze: int | None = None) -> None:
        """Cut `architecture` after `last_stage` (4 or 5).

        `freeze`: do not train this many stages from conv2_x on, and conv1 with the first (None: 2, which is
        everything before conv4_x; 0: train everything). Raises UserError if there are fewer.
        """
        check_number("--freeze", freeze, 0, last_stage - 1, f"{architecture}conv{last_stage}", "stage")
        stages = list(resnet(architecture, pretrain).children())[: last_stage + 3]
        super().__init__(*stages)
        last_block = list(stages[-1].children())[-1]
        self.out_channels: int = [m for m in last_block.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
        frozen = FROZEN_STAGES if freeze is None else freeze
        for stage in stages[: STEM + frozen if frozen else 0]:
            stage.requires_grad_(False)


resnet18conv4 = partial(ResNetTrunk, "resnet18", 4)
resnet18conv5 = partial(ResNetTrunk, "resnet18", 5)
resnet34conv4 = partial(ResNetTrunk, "resnet34", 4)
resnet34conv5 = partial(ResNetTrunk, "resnet34", 5)
resnet50conv4 = partial(ResNetTrunk, "resnet50", 4)
resnet50conv5 = partial(ResNetTrunk, "resnet50", 5)
resnet101conv4 = partial(ResNetTrunk, "resnet101", 4)
resnet101conv5 = partial(ResNetTrunk, "resnet101", 5)
resnet152conv4 = partial(ResNetTrunk, "resnet152", 4)
resnet152conv5 = partial(ResNetTrunk, "resnet152", 5)
