"""Swin Transformer V2, Tiny, Small and Base (Liu et al., 2022), from torchvision."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import StageTrunk

FROZEN = 2  # the stages at strides 4 and 8


class SwinV2(StageTrunk):
    """[B,3,H,W] of any size to [B,C,H/32,W/32] (rounded), C being 768 (Tiny, Small) or 1024 (Base), from four stages.

    The final norm is applied if no stage is cut off.
    """

    def __init__(self, architecture: str, pretrain: str, *, cut: int | None = None, freeze: int | None = None) -> None:
        """`cut`: keep this many stages, from the first. `freeze`: do not train this many (None: 2)."""
        model = torchvision_model(architecture, pretrain)
        features = list(model.get_submodule("features").children())
        # What halves the resolution comes before its stage, and belongs to it.
        stages = [features[start : start + 2] for start in range(0, len(features), 2)]
        super().__init__(architecture, stages, FROZEN, cut, freeze)
        self.norm = model.get_submodule("norm") if len(self.stages) == len(stages) else nn.Identity()

    def leave(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the map [B,C,h,w] of what the stages gave, [B,h,w,C]: its layers keep the channels last."""
        normed: Tensor = self.norm(features)
        return normed.permute(0, 3, 1, 2)


swin_v2_t = partial(SwinV2, "swin_v2_t")
swin_v2_s = partial(SwinV2, "swin_v2_s")
swin_v2_b = partial(SwinV2, "swin_v2_b")
