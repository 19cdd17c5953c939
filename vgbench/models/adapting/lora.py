"""LoRA: weights that stay as they are, plus a learned product of two thin matrices (Hu et al., 2022).

The update is added to the weight, not to what comes out of its layer: so that every layer which reads the weight has
it (attention that takes a weight without calling its layer too), and so that merged weights compute the same, bit for
bit.
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.adapting.layers import attention_layers, become, unbecome
from vgbench.models.layers import full_precision

A, B = "lora_a", "lora_b"


class LowRank:
    """What a module with a low-rank update has: `lora_a` [r,I], which is drawn, and `lora_b` [O,r], which is zero."""

    lora_weight: str
    lora_scale: float
    _parameters: dict[str, Any]

    def updated(self) -> Tensor:
        """Return the weight [O,I] with its update, in float32 whatever the precision around it."""
        own = cast(Tensor, self._parameters[self.lora_weight])
        with full_precision(own):
            change: Tensor = self._parameters[B] @ self._parameters[A]
            return own + self.lora_scale * change


class LowRankWeight(LowRank):
    """Of the weight of a linear layer."""

    lora_weight = "weight"
    weight = property(LowRank.updated)


class LowRankProjections(LowRank):
    """Of the joint projections to queries, keys and values of torch's own attention."""

    lora_weight = "in_proj_weight"
    in_proj_weight = property(LowRank.updated)


def add_low_rank(name: str, trunk: nn.Module, rank: int, alpha: float, layers: str) -> list[str]:
    """Give a transformer's weights low-rank updates, in place; returns the names of what they learn.

    Args:
        name: the backbone's, for messages.
        rank: r.
        alpha: updates are multiplied by alpha / r.
        layers: "attention" (its projections), or "all" (the linear layers of the MLPs too).

    Raises:
        UserError: the backbone has no attention; the rank is that of a weight or more.
    """
    found = _adapted(trunk, layers)
    if not found:
        raise UserError(f"--lora_rank {rank}: {name} has no attention. Expected a transformer, such as dinov2_vitb14")
    for module in found:
        kind = LowRankProjections if isinstance(module, nn.MultiheadAttention) else LowRankWeight
        weight = cast(Tensor, getattr(module, kind.lora_weight))
        outputs, inputs = weight.shape
        if rank >= min(outputs, inputs):
            raise UserError(
                f"--lora_rank {rank}: a weight of {name} is {outputs}x{inputs}. Expected less than {min(weight.shape)}"
            )
        down = nn.Parameter(torch.empty(rank, inputs, device=weight.device, dtype=weight.dtype))
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        up = nn.Parameter(torch.zeros(outputs, rank, device=weight.device, dtype=weight.dtype))
        module.register_parameter(A, down)
        module.register_parameter(B, up)
        become(module, kind)
        cast(Any, module).lora_scale = alpha / rank
    return [key for key, _ in trunk.named_parameters() if key.endswith((f".{A}", f".{B}"))]


def merged(network: nn.Module) -> nn.Module:
    """Return a network whose low-rank updates are part of its weights; itself where it has none, else a copy."""
    if not any(isinstance(module, LowRank) for module in network.modules()):
        return network
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, LowRank):
            _merge(module)
    return copied


def _merge(module: Any) -> None:
    kind = LowRankProjections if isinstance(module, LowRankProjections) else LowRankWeight
    whole = module.updated().detach()
    module._parameters[kind.lora_weight] = nn.Parameter(whole, requires_grad=False)
    del module._parameters[A], module._parameters[B], module.lora_scale
    unbecome(module, kind)


def _adapted(trunk: nn.Module, layers: str) -> list[nn.Module]:
    """Return the modules whose weights are updated, each once."""
    found: list[nn.Module] = []
    for layer, attention in attention_layers(trunk):
        if isinstance(attention, nn.MultiheadAttention):
            found.append(attention)
        # Deeper ones are no projections: Swin's biases of relative positions, for example.
        found += [module for module in attention.children() if isinstance(module, nn.Linear)]
        if layers == "all":
            inside = {id(module) for module in attention.modules()}
            found += [m for m in layer.modules() if isinstance(m, nn.Linear) and id(m) not in inside]
    return list(dict.fromkeys(found))
