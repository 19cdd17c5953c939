"""The table of backbones: name -> a callable that takes `pretrain` and its own options and returns the backbone.

A backbone is an `nn.Module` with `out_channels: int`, `kind: str` (`"map"`: [B,C,H,W]; `"tokens"`: [B,N,C];
`"map+token"`: a pair of [B,C,H,W] and [B,C]; `"vector"`: [B,C]) and, if it was not trained with ImageNet's usual ones,
`mean` and `std` of its input channels. It takes normalised images, float [B,3,H,W].
"""

from vgbench.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "resnet18conv4": "vgbench.models.backbones.resnet:resnet18conv4",
        "resnet18conv5": "vgbench.models.backbones.resnet:resnet18conv5",
        "efficientnet_lite0": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite0",
        "efficientnet_lite0_s16": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite0_s16",
    },
)
