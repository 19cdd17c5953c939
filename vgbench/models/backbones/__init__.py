"""The table of backbones: name -> a callable that takes `pretrain` and its own options and returns the backbone.

A backbone is an `nn.Module` with `out_channels: int`, `kind: str` (`"map"`: [B,C,H,W]; `"tokens"`: [B,N,C];
`"map+token"`: a pair of [B,C,H,W] and [B,C]; `"vector"`: [B,C]) and, if it was not trained with ImageNet's usual ones,
`mean` and `std` of its input channels. It takes normalised images, float [B,3,H,W]. A sequence whose first token is a
class token says `class_token = True`; one that can pool itself has `pool_sequence = False`, and its kind is "vector"
once that is set. One that can give its features in several forms names them in `kinds`, the one that it prefers first;
`build_network` then sets its `kind` to the first form that the aggregation `takes`. `l2_over = "positions"` says that a
normalisation before its tokens are pooled goes over the positions of a channel, not over the channels of a token.
"""

from functools import partial
from typing import Any

from vgbench.registry import Registry

TIMM = "timm:"


class Backbones(Registry):
    """The table, and beside it every network of timm as `timm:<name>`."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).startswith(TIMM)

    def families(self) -> list[str]:
        """Return the names by family, and how any network of timm is named."""
        return [*super().families(), f"{TIMM}<name> (any network of timm)"]

    def resolve(self, name: str) -> Any:
        if name.startswith(TIMM):
            make = super().resolve("vgbench.models.backbones.timm_model:timm_backbone")
            return partial(make, name, name[len(TIMM) :])
        return super().resolve(name)


BACKBONES = Backbones(
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
        "efficientnet_b0": "vgbench.models.backbones.efficientnet:efficientnet_b0",
        "efficientnet_b1": "vgbench.models.backbones.efficientnet:efficientnet_b1",
        "efficientnet_b2": "vgbench.models.backbones.efficientnet:efficientnet_b2",
        "efficientnet_b3": "vgbench.models.backbones.efficientnet:efficientnet_b3",
        "efficientnet_b4": "vgbench.models.backbones.efficientnet:efficientnet_b4",
        "efficientnet_b5": "vgbench.models.backbones.efficientnet:efficientnet_b5",
        "efficientnet_b6": "vgbench.models.backbones.efficientnet:efficientnet_b6",
        "efficientnet_b7": "vgbench.models.backbones.efficientnet:efficientnet_b7",
        "efficientnet_v2_s": "vgbench.models.backbones.efficientnet:efficientnet_v2_s",
        "efficientnet_v2_m": "vgbench.models.backbones.efficientnet:efficientnet_v2_m",
        "efficientnet_v2_l": "vgbench.models.backbones.efficientnet:efficientnet_v2_l",
        "convnext_tiny": "vgbench.models.backbones.convnext:convnext_tiny",
        "convnext_small": "vgbench.models.backbones.convnext:convnext_small",
        "convnext_base": "vgbench.models.backbones.convnext:convnext_base",
        "swin_v2_t": "vgbench.models.backbones.swin:swin_v2_t",
        "swin_v2_s": "vgbench.models.backbones.swin:swin_v2_s",
        "swin_v2_b": "vgbench.models.backbones.swin:swin_v2_b",
        "mobilenet_v3_small": "vgbench.models.backbones.mobilenet:mobilenet_v3_small",
        "mobilenet_v3_large": "vgbench.models.backbones.mobilenet:mobilenet_v3_large",
        "regnet_x_400mf": "vgbench.models.backbones.regnet:regnet_x_400mf",
        "regnet_x_800mf": "vgbench.models.backbones.regnet:regnet_x_800mf",
        "regnet_x_1_6gf": "vgbench.models.backbones.regnet:regnet_x_1_6gf",
        "regnet_x_3_2gf": "vgbench.models.backbones.regnet:regnet_x_3_2gf",
        "regnet_x_8gf": "vgbench.models.backbones.regnet:regnet_x_8gf",
        "regnet_x_16gf": "vgbench.models.backbones.regnet:regnet_x_16gf",
        "regnet_x_32gf": "vgbench.models.backbones.regnet:regnet_x_32gf",
        "regnet_y_400mf": "vgbench.models.backbones.regnet:regnet_y_400mf",
        "regnet_y_800mf": "vgbench.models.backbones.regnet:regnet_y_800mf",
        "regnet_y_1_6gf": "vgbench.models.backbones.regnet:regnet_y_1_6gf",
        "regnet_y_3_2gf": "vgbench.models.backbones.regnet:regnet_y_3_2gf",
        "regnet_y_8gf": "vgbench.models.backbones.regnet:regnet_y_8gf",
        "regnet_y_16gf": "vgbench.models.backbones.regnet:regnet_y_16gf",
        "regnet_y_32gf": "vgbench.models.backbones.regnet:regnet_y_32gf",
        "vit_b_16": "vgbench.models.backbones.vit:ViT",
        "vit": "vgbench.models.backbones.vit:DeepVGViT",  # as the Deep VG benchmark calls it
        "deit_small": "vgbench.models.backbones.deit:deit_small",
        "maxvit_t": "vgbench.models.backbones.maxvit:MaxViT",
        "dinov2_vits14": "vgbench.models.backbones.dinov2:dinov2_vits14",
        "dinov2_vits14_reg": "vgbench.models.backbones.dinov2:dinov2_vits14_reg",
        "dinov2_vitb14": "vgbench.models.backbones.dinov2:dinov2_vitb14",
        "dinov2_vitb14_reg": "vgbench.models.backbones.dinov2:dinov2_vitb14_reg",
        "dinov2_vitl14": "vgbench.models.backbones.dinov2:dinov2_vitl14",
        "dinov2_vitl14_reg": "vgbench.models.backbones.dinov2:dinov2_vitl14_reg",
        "dinov2_vitg14": "vgbench.models.backbones.dinov2:dinov2_vitg14",
        "dinov2_vitg14_reg": "vgbench.models.backbones.dinov2:dinov2_vitg14_reg",
        "dinov3_vits16": "vgbench.models.backbones.dinov3:dinov3_vits16",
        "dinov3_vitb16": "vgbench.models.backbones.dinov3:dinov3_vitb16",
        "dinov3_vitl16": "vgbench.models.backbones.dinov3:dinov3_vitl16",
    },
    positional=1,
)
