"""EfficientNet-B0 to B7 (Tan and Le, 2019) and EfficientNetV2-S, M, L (Tan and Le, 2021), from torchvision."""

from __future__ import annotations

from functools import partial

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import StageTrunk

# The first three stages are those before stride 16, in every one of them.
FROZEN = 3
# torchvision's V2-L was trained on pixels from -1 to 1, the others on ImageNet's usual ones.
CENTRED = {"efficientnet_v2_l": (0.5, 0.5)}


class EfficientNet(StageTrunk):
    """[B,3,H,W] to [B,C,H/32,W/32], C being 1280 (V2, B0 and B1) to 2560 (B7).

    Stages are those of the paper's table: B0 to B7 have 7, V2-S 6, V2-M and V2-L 7; the head, which widens to C
    channels, is one more.
    """

    def __init__(self, architecture: str, pretrain: str, *, cut: int | None = None, freeze: int | None = None) -> None:
        """`cut`: keep this many stages, from the first. `freeze`: do not train this many (None: 3)."""
        features = list(torchvision_model(architecture, pretrain).get_submodule("features").children())
        stages = [features[:2], *([layer] for layer in features[2:])]
        super().__init__(architecture, stages, FROZEN, cut, freeze, CENTRED.get(architecture))


efficientnet_b0 = partial(EfficientNet, "efficientnet_b0")
efficientnet_b1 = partial(EfficientNet, "efficientnet_b1")
efficientnet_b2 = partial(EfficientNet, "efficientnet_b2")
efficientnet_b3 = partial(EfficientNet, "efficientnet_b3")
efficientnet_b4 = partial(EfficientNet, "efficientnet_b4")
efficientnet_b5 = partial(EfficientNet, "efficientnet_b5")
efficientnet_b6 = partial(EfficientNet, "efficientnet_b6")
efficientnet_b7 = partial(EfficientNet, "efficientnet_b7")
efficientnet_v2_s = partial(EfficientNet, "efficientnet_v2_s")
efficientnet_v2_m = partial(EfficientNet, "efficientnet_v2_m")
efficientnet_v2_l = partial(EfficientNet, "efficientnet_v2_l")
