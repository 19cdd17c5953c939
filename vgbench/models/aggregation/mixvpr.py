"""MixVPR (Ali-bey, Chaib-draa and Giguere, 2023): MLPs that mix all positions of each channel."""

from __future__ import annotations

from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class Mixer(nn.Module):
    """A residual MLP over the positions; [B,C,P] to the same shape."""

    def __init__(self, positions: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(positions * mlp_ratio)
        self.mix = nn.Sequential(
            nn.LayerNorm(positions), nn.Linear(positions, hidden), nn.ReLU(), nn.Linear(hidden, positions)
        )
        for layer in self.mix:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = x + self.mix(x)
        return mixed


class MixVPR(Aggregation):
    """[B,C,in_h,in_w] to [B,out_channels*out_rows], L2-normalised. The map's size is part of the weights."""

    def __init__(
        self,
        in_channels: int,
        *,
        in_h: int = 20,
        in_w: int = 20,
        out_channels: int = 1024,
        mix_depth: int = 4,
        mlp_ratio: float = 1,
        out_rows: int = 4,
    ) -> None:
        """Defaults are the paper's for 320x320 images and ResNet-50's conv4: a 20x20 map, 4 mixers, 4096 dimensions."""
        super().__init__()
        self.map_size = (in_h, in_w)
        self.mix = nn.Sequential(*[Mixer(in_h * in_w, mlp_ratio) for _ in range(mix_depth)])
        self.channel_proj = nn.Linear(in_channels, out_channels)
        self.row_proj = nn.Linear(in_h * in_w, out_rows)
        self.descriptors_dim = out_channels * out_rows

    def forward(self, features: Tensor) -> Tensor:
        """Return descriptors [B,D] of a map [B,C,h,w]; raises UserError if it is not in_h x in_w."""
        if tuple(features.shape[2:]) != self.map_size:
            height, width = features.shape[2:]
            raise UserError(
                f"--aggregation mixvpr: made for a {self.map_size[0]}x{self.map_size[1]} map, the images give "
                f"{height}x{width}. Expected the --resize it was built for"
            )
        x = self.mix(features.flatten(2))
        x = self.channel_proj(x.transpose(1, 2)).transpose(1, 2)
        return l2_normalise(self.row_proj(x).flatten(1))
