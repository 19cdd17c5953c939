"""ConvNeXt-Tiny, Small and Base (Liu et al., 2022), from torchvision."""

from __future__ import annotations

from functools import partial

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import StageTrunk

FROZEN = 2  # the stages at strides 4 and 8


class ConvNeXt(StageTrunk):
    """[B,3,H,W] to [B,C,H/32,W/32], C being 768 (Tiny, Small) or 1024 (Base), from four stages.

    The classifier's norm, which comes after its pooling, is left out.
    """

    def __init__(self, architecture: str, pretrain: str, *, cut: int | None = None, freeze: int | None = None) -> None:
        """`cut`: keep this many stages, from the first. `freeze`: do not train this many (None: 2)."""
        features = list(torchvision_model(architecture, pretrain).get_submodule("features").children())
        # What halves the resolution comes before its stage, and belongs to it.
        stages = [features[start : start + 2] for start in range(0, len(features), 2)]
        super().__init__(architecture, stages, FROZEN, cut, freeze)


convnext_tiny = partial(ConvNeXt, "convnext_tiny")
convnext_small = partial(ConvNeXt, "convnext_small")
convnext_base = partial(ConvNeXt, "convnext_base")
