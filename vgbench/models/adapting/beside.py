"""Adapters that need the whole of DINOv2's layers: EDTformer's low-rank branch, CricaVPR's convolutions in each layer.

Low-rank parallel adaptation (LoPA; Jin et al., 2025) is a second sequence y beside the frozen layers' x: after layer l,
z = y + x_l and y = z + 0.5 up(gelu(down(z))), from y = x_0, in 4 channels; gradients go through y alone. CricaVPR (Lu
et al., 2024) adds 0.2 times SelaVPR++'s multi-scale convolutions of the same normalised tokens to what each MLP gives.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.adapting.adapters import MultiConv
from vgbench.models.adapting.layers import become
from vgbench.models.backbones.dinov2 import DINOv2

LOW_RANK = 4  # LoPA's channels, whatever the transformer's
LOW_RANK_SCALE = 0.5
CONVOLUTION_SCALE = 0.2


class LowRankAdapter(nn.Module):
    """Tokens [B,N,C] to the same: themselves, plus what goes through a few channels, which is zero at first."""

    def __init__(self, dim: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.scale = scale
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        changed: Tensor = tokens + self.scale * self.up(F.gelu(self.down(tokens)))
        return changed


class LowRankBranch:
    """DINOv2 with a low-rank branch beside all of its layers."""

    blocks: nn.ModuleList
    side: nn.ModuleList

    def encode(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the branch's tokens [B,1+R+hw,C]."""
        branch = tokens
        for block, adapter in zip(self.blocks, self.side, strict=True):
            with torch.no_grad():
                tokens = block(tokens)
            branch = adapter(branch + tokens)
        return branch


class ConvolvedBlock:
    """A layer with multi-scale convolutions beside its MLP."""

    norm1: nn.Module
    attn: nn.Module
    ls1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    ls2: nn.Module

    def forward(self, x: Tensor, adapter: nn.Module, scale: float, height: int, width: int) -> Tensor:
        """Tokens [B,1+R+height*width,C] to the same; what `adapter` makes of them is multiplied by `scale`."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        normed = self.norm2(x)
        changed: Tensor = x + self.ls2(self.mlp(normed) + scale * adapter(normed, height, width))
        return changed


class ConvolvedMLPs:
    """DINOv2 with multi-scale convolutions beside each MLP."""

    blocks: nn.ModuleList
    side: nn.ModuleList
    side_scale: float

    def encode(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the tokens [B,1+R+hw,C] after all layers."""
        for block, adapter in zip(self.blocks, self.side, strict=True):
            tokens = block(tokens, adapter, self.side_scale, height, width)
        return tokens


def add_low_rank_branch(name: str, trunk: nn.Module, hidden: int, scale: float) -> list[str]:
    """Put LoPA beside DINOv2, in place; returns the names of what it learns.

    Args:
        name: the backbone's, for messages.
        hidden: channels inside of its adapters.
        scale: what they add is multiplied by this.

    Raises:
        UserError: it is another backbone.
    """
    whole = _dinov2("lopa", name, trunk)
    return _beside(whole, LowRankBranch, [LowRankAdapter(_dim(whole), hidden, scale) for _ in whole.blocks])


def add_convolutions(name: str, trunk: nn.Module, ratio: float, scale: float) -> list[str]:
    """Put convolutions beside DINOv2's MLPs, in place; returns the names of what they learn, and of their statistics.

    Args:
        name: the backbone's, for messages.
        ratio: channels inside of them, as a part of the transformer's.
        scale: what they add is multiplied by this.

    Raises:
        UserError: it is another backbone.
    """
    whole: Any = _dinov2("parallel_multiconv", name, trunk)
    hidden = max(int(_dim(whole) * ratio) // 4 * 4, 4)
    whole.side_scale = scale
    for block in whole.blocks:
        become(block, ConvolvedBlock)
    return _beside(whole, ConvolvedMLPs, [MultiConv(_dim(whole), hidden) for _ in whole.blocks])


def _beside(trunk: DINOv2, kind: type[Any], adapters: list[nn.Module]) -> list[str]:
    trunk.side = nn.ModuleList(adapters).to(trunk.cls_token.device)
    become(trunk, kind)
    return [key for key in trunk.state_dict() if key.startswith("side.")]


def _dim(trunk: DINOv2) -> int:
    return int(trunk.out_channels)


def _dinov2(adapter: str, name: str, trunk: nn.Module) -> DINOv2:
    if not isinstance(trunk, DINOv2):
        raise UserError(f"--adapter {adapter}: stands beside DINOv2, and --backbone is {name}. Expected dinov2_...")
    return trunk
