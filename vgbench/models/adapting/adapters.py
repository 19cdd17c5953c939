"""Adapters in a frozen transformer: serial and parallel (SelaVPR: Lu et al., 2024), a side branch (SelaVPR++, 2025).

Serial adapters stand behind each attention, x + up(relu(down(x))); parallel ones beside each MLP, their output times
0.2 added to the MLP's. All are the identity at first. The side branch is another sequence y, to which a multi-scale
convolutional adapter of the sum of y and of the frozen layer's tokens is added after each layer: gradients go through
it alone, and nothing of the transformer is kept for them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.adapting.layers import attention_layers, become
from vgbench.models.backbones.dinov2 import DINOv2
from vgbench.models.base import Backbone

# A large transformer's last two thirds have a side branch; one of this many layers or fewer has it from the beginning.
WHOLE_DEPTH = 12


class Bottleneck(nn.Module):
    """Tokens [B,N,C] to the same, through fewer channels; zero at first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        changed: Tensor = self.up(F.relu(self.down(tokens)))
        return changed


class Serial:
    """An attention with an adapter behind it."""

    adapter: nn.Module

    def forward(self, tokens: Tensor, *more: Any, **named: Any) -> Tensor:
        mixed: Tensor = super().forward(tokens, *more, **named)  # type: ignore[misc]
        return mixed + cast(Tensor, self.adapter(mixed))


class Parallel:
    """An MLP with an adapter beside it."""

    adapter: nn.Module
    adapter_scale: float

    def forward(self, tokens: Tensor, *more: Any, **named: Any) -> Tensor:
        changed: Tensor = super().forward(tokens, *more, **named)  # type: ignore[misc]
        return changed + self.adapter_scale * cast(Tensor, self.adapter(tokens))


def add_adapters(name: str, trunk: Backbone, kind: str, ratio: float, scale: float) -> list[str]:
    """Give each layer of a transformer its adapters, in place; returns the names of what they learn.

    Args:
        name: the backbone's, for messages.
        kind: "serial", "parallel" or "serial_parallel".
        ratio: their inner channels, as a part of the transformer's.
        scale: what a parallel adapter's output is multiplied with.

    Raises:
        UserError: the backbone has no layers of an attention and an MLP with the same channels.
    """
    layers: list[tuple[Any, Any]] = [(a, getattr(layer, "mlp", None)) for layer, a in attention_layers(trunk)]
    usual = all(isinstance(mlp, nn.Module) for _, mlp in layers) and _of_one_width(trunk)
    whole = not any(isinstance(attention, nn.MultiheadAttention) for attention, _ in layers)
    if not layers or not usual or not whole:
        raise UserError(
            f"--adapter {kind}: {name} has no layers of an attention and an MLP that take tokens. Expected DINOv2, "
            "DINOv3 or a vision transformer of timm"
        )
    dim = int(trunk.out_channels)
    for attention, mlp in layers:
        if "serial" in kind:
            _give(attention, Serial, dim, ratio)
        if "parallel" in kind:
            _give(mlp, Parallel, dim, ratio)
            mlp.adapter_scale = scale
    return [key for key, _ in trunk.named_parameters() if ".adapter." in key]


def _give(module: Any, kind: type[Any], dim: int, ratio: float) -> None:
    module.adapter = Bottleneck(dim, max(int(dim * ratio), 1)).to(next(module.parameters()).device)
    become(module, kind)


def _of_one_width(trunk: Backbone) -> bool:
    norms = [getattr(layer, "norm1", None) for layer, _ in attention_layers(trunk)]
    return all(norm.normalized_shape == (trunk.out_channels,) for norm in norms if isinstance(norm, nn.LayerNorm))


class MultiConv(nn.Module):
    """Tokens [B,R+hw,C] to the same: convolutions of three sizes over the patches, in fewer channels; zero at first."""

    def __init__(self, dim: int, hidden: int) -> None:
        """`hidden`: channels inside, a multiple of 4."""
        super().__init__()
        self.down, self.up = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        thin = max(hidden // 16, 1)
        self.one = _convolution(hidden, hidden - 2 * (hidden // 4), 1)
        self.three = nn.Sequential(_convolution(hidden, thin, 1), _convolution(thin, hidden // 4, 3))
        self.five = nn.Sequential(_convolution(hidden, thin, 1), _convolution(thin, hidden // 4, 5))
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        inner = F.relu(self.down(tokens))
        first, patches = inner[:, : -height * width], inner[:, -height * width :]
        grid = patches.transpose(1, 2).reshape(len(patches), -1, height, width)
        seen = torch.cat([self.one(grid), self.three(grid), self.five(grid)], dim=1).flatten(2).transpose(1, 2)
        changed: Tensor = self.up(inner + torch.cat([first, seen], dim=1))
        return changed


def _convolution(inputs: int, outputs: int, size: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU())


class SideBranch:
    """DINOv2 with a branch of adapters beside its layers."""

    blocks: nn.ModuleList
    side: nn.ModuleList

    def encode(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the branch's tokens [B,R+hw,C], of which the transformer's first layers make the beginning."""
        before = len(self.blocks) - len(self.side)
        with torch.no_grad():
            for block in self.blocks[:before]:
                tokens = block(tokens)
        branch = tokens
        for block, adapter in zip(self.blocks[before:], self.side, strict=True):
            with torch.no_grad():
                tokens = block(tokens)
            branch = branch + adapter(branch + tokens, height, width)
        return branch


def add_side_branch(name: str, trunk: nn.Module, ratio: float) -> list[str]:
    """Put a branch of multi-scale convolutions beside DINOv2, in place; returns the names of what it learns.

    Raises:
        UserError: it is another backbone.
    """
    if not isinstance(trunk, DINOv2):
        raise UserError(f"--adapter multiconv: stands beside DINOv2, and --backbone is {name}. Expected dinov2_...")
    dim, depth = int(trunk.out_channels), len(trunk.blocks)
    hidden = max(int(dim * ratio) // 4 * 4, 4)
    count = depth if depth <= WHOLE_DEPTH else depth * 2 // 3
    device = trunk.cls_token.device
    trunk.side = nn.ModuleList([MultiConv(dim, hidden) for _ in range(count)]).to(device)
    become(trunk, SideBranch)
    return [key for key in trunk.state_dict() if key.startswith("side.")]
