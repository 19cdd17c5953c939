"""The table of backbones: name -> a callable that takes `pretrain` and its own options and returns the backbone.

A backbone is an `nn.Module` with `out_channels: int`, `kind: str` (`"map"`: [B,C,H,W]; `"tokens"`: [B,N,C];
`"map+token"`: a pair of [B,C,H,W] and [B,C]; `"vector"`: [B,C]) and, if it was not trained with ImageNet's usual ones,
`mean` and `std` of its input channels. It takes normalised images, float [B,3,H,W]. A sequence whose first token is a
class token says `class_token = True`; one that can pool itself has `pool_sequence = False`, and its kind is "vector"
once that is set.
"""

from vgbench.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "alexnet": "vgbench.models.backbones.plain:alexnet",
        "vgg16": "vgbench.models.backbones.plain:vgg16",
        "resnet18conv4": "vgbench.models.backbones.resnet:resnet18conv4",
        "resnet18conv5": "vgbench.models.backbones.resnet:resnet18conv5",
        "resnet34conv4": "vgbench.models.backbones.resnet:resnet34conv4",
        "resnet34conv5": "vgbench.models.backbones.resnet:resnet34conv5",
        "resnet50conv4": "vgbench.models.backbones.resnet:resnet50conv4",
        "resnet50conv5": "vgbench.models.backbones.resnet:resnet50conv5",
        "resnet101conv4": "vgbench.models.backbones.resnet:resnet101conv4",
        "resnet101conv5": "vgbench.models.backbones.resnet:resnet101conv5",
        "resnet152conv4": "vgbench.models.backbones.resnet:resnet152conv4",
        "resnet152conv5": "vgbench.models.backbones.resnet:resnet152conv5",
        "cct384": "vgbench.models.backbones.cct:CCT384",
        "efficientnet_lite0": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite0",
        "efficientnet_lite0_s16": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite0_s16",
        "efficientnet_lite1": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite1",
        "efficientnet_lite1_s16": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite1_s16",
        "efficientnet_lite2": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite2",
        "efficientnet_lite2_s16": "vgbench.models.backbones.efficientnet_lite:efficientnet_lite2_s16",
    },
)
