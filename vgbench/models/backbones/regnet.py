"""RegNetX and RegNetY (Radosavovic et al., 2020), from torchvision."""

from __future__ import annotations

from functools import partial

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import StageTrunk

FROZEN = 2  # the stages at strides 4 and 8


class RegNet(StageTrunk):
    """[B,3,H,W] to [B,C,H/32,W/32], from four stages; C is from 400 (X-400MF) to 3712 (Y-32GF)."""

    def __init__(self, architecture: str, pretrain: str, *, cut: int | None = None, freeze: int | None = None) -> None:
        """`cut`: keep this many stages, from the first. `freeze`: do not train this many (None: 2)."""
        model = torchvision_model(architecture, pretrain)
        stages = [[stage] for stage in model.get_submodule("trunk_output").children()]
        stages[0].insert(0, model.get_submodule("stem"))
        super().__init__(architecture, stages, FROZEN, cut, freeze)


regnet_x_400mf = partial(RegNet, "regnet_x_400mf")
regnet_x_800mf = partial(RegNet, "regnet_x_800mf")
regnet_x_1_6gf = partial(RegNet, "regnet_x_1_6gf")
regnet_x_3_2gf = partial(RegNet, "regnet_x_3_2gf")
regnet_x_8gf = partial(RegNet, "regnet_x_8gf")
regnet_x_16gf = partial(RegNet, "regnet_x_16gf")
regnet_x_32gf = partial(RegNet, "regnet_x_32gf")
regnet_y_400mf = partial(RegNet, "regnet_y_400mf")
regnet_y_800mf = partial(RegNet, "regnet_y_800mf")
regnet_y_1_6gf = partial(RegNet, "regnet_y_1_6gf")
regnet_y_3_2gf = partial(RegNet, "regnet_y_3_2gf")
regnet_y_8gf = partial(RegNet, "regnet_y_8gf")
regnet_y_16gf = partial(RegNet, "regnet_y_16gf")
regnet_y_32gf = partial(RegNet, "regnet_y_32gf")
