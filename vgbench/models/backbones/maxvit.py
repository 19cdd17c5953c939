"""MaxViT-Tiny (Tu et al., 2022), from torchvision, made free of the one image size that it is built for there."""

from __future__ import annotations

from torch import Tensor, nn

from vgbench.models.backbones.pretrained import torchvision_model
from vgbench.models.backbones.stages import StageTrunk, check_multiple

NAME = "maxvit_t"
FROZEN = 2  # the stages at strides 4 and 8
SIDE = 7  # of a window, and of a grid, in positions


class PartitionAttention(nn.Module):
    """Attention within windows of SIDE x SIDE neighbours, or among as many positions spread evenly over the map."""

    def __init__(self, layer: nn.Module) -> None:
        """Take over the weights of torchvision's layer, which knows but one, square, size of map."""
        super().__init__()
        self.attn_layer = layer.get_submodule("attn_layer")
        self.mlp_layer = layer.get_submodule("mlp_layer")
        self.stochastic_dropout = layer.get_submodule("stochastic_dropout")
        self.grid = layer.partition_type == "grid"

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows, columns = height // SIDE, width // SIDE
        if self.grid:
            order = (0, 3, 5, 2, 4, 1)
            split = x.reshape(batch, channels, SIDE, rows, SIDE, columns)
        else:
            order = (0, 2, 4, 3, 5, 1)
            split = x.reshape(batch, channels, rows, SIDE, columns, SIDE)
        parts = split.permute(order).reshape(batch, rows * columns, SIDE * SIDE, channels)
        parts = parts + self.stochastic_dropout(self.attn_layer(parts))
        parts = parts + self.stochastic_dropout(self.mlp_layer(parts))
        whole: Tensor = parts.reshape(batch, rows, columns, SIDE, SIDE, channels)
        back = (0, 5, 3, 1, 4, 2) if self.grid else (0, 5, 1, 3, 2, 4)
        return whole.permute(back).reshape(batch, channels, height, width)


class MaxViT(StageTrunk):
    """[B,3,H,W], both sides multiples of 224, to [B,512,H/32,W/32], from four stages."""

    def __init__(self, pretrain: str, *, cut: int | None = None, freeze: int | None = None) -> None:
        """`cut`: keep this many stages, from the first. `freeze`: do not train this many (None: 2)."""
        model = torchvision_model(NAME, pretrain)
        stages = [[stage] for stage in model.get_submodule("blocks").children()]
        stages[0].insert(0, model.get_submodule("stem"))
        super().__init__(NAME, stages, FROZEN, cut, freeze)
        # Every stage's map must fall into windows: the last one's are the coarsest.
        self.step = SIDE * 2 ** (len(self.stages) + 1)
        self.multiple = self.step
        for name, layer in list(self.named_modules()):
            if name.endswith(("window_attention", "grid_attention")):
                self.set_submodule(name, PartitionAttention(layer))

    def enter(self, images: Tensor) -> Tensor:
        """Return the images [B,3,H,W]; raises UserError for images of another size."""
        check_multiple(NAME, images.shape[2], images.shape[3], self.step, "its maps are cut into 7x7 windows")
        return images
