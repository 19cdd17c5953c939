"""MobileNetV3-Small and Large (Howard et al., 2019), from torchvision."""

from __future__ import annotations

from functools import partial

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import StageTrunk


class MobileNetV3(StageTrunk):
    """[B,3,H,W] to [B,C,H/32,W/32], C being 576 (Small) or 960 (Large).

    Stages are the rows of the paper's table: 11 blocks in Small, 15 in Large; the last convolution is one more.
    """

    def __init__(
        self, architecture: str, frozen: int, pretrain: str, *, cut: int | None = None, freeze: int | None = None
    ) -> None:
        """Build it.

        Args:
            architecture: its name in torchvision.
            frozen: the stages before stride 16.
            pretrain: "imagenet" or "none".
            cut: keep this many stages, from the first.
            freeze: do not train this many stages, from the first (None: `frozen`).
        """
        features = list(torchvision_model(architecture, pretrain).get_submodule("features").children())
        stages = [features[:2], *([layer] for layer in features[2:])]
        super().__init__(architecture, stages, frozen, cut, freeze)


mobilenet_v3_small = partial(MobileNetV3, "mobilenet_v3_small", 3)
mobilenet_v3_large = partial(MobileNetV3, "mobilenet_v3_large", 6)
