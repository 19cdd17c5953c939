"""DINOv3's vision transformers (Simeoni et al., 2025), from timm."""

from __future__ import annotations

from functools import partial

from vgbench.models.backbones.timm_model import TimmMap, TimmTokens, timm_backbone


def dinov3(name: str, architecture: str, pretrain: str, *, unfreeze_blocks: int = 4) -> TimmMap | TimmTokens:
    """Return it: [B,3,H,W], both sides multiples of 16, to tokens [B,1+HW/256,C], the class token first; or their map.

    Positions are rotations of the attention's queries and keys, so that any size has its own.

    Args:
        name: its name here.
        architecture: its name in timm.
        pretrain: "imagenet" (its published weights, though those were learned from LVD-1689M) or "none".
        unfreeze_blocks: train only this many transformer layers, from the last, and the norm that follows them; 4 as
            with DINOv2, 0 trains nothing.

    Raises:
        UserError: there are fewer layers, or timm or the weights cannot be had.
    """
    return timm_backbone(name, architecture, pretrain, unfreeze_blocks=unfreeze_blocks)


dinov3_vits16 = partial(dinov3, "dinov3_vits16", "vit_small_patch16_dinov3")
dinov3_vitb16 = partial(dinov3, "dinov3_vitb16", "vit_base_patch16_dinov3")
dinov3_vitl16 = partial(dinov3, "dinov3_vitl16", "vit_large_patch16_dinov3")
