"""Weights that backbones start from, and what to say when they cannot be had."""

from __future__ import annotations

from urllib.error import URLError

import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

from vgbench.errors import UserError


def check_pretrain(backbone: str, pretrain: str, known: tuple[str, ...]) -> None:
    """Raise UserError unless `pretrain` is one of `known`."""
    if pretrain not in known:
        raise UserError(f"--pretrain {pretrain}: no such weights for {backbone}. Expected one of {', '.join(known)}")


def torchvision_model(architecture: str, pretrain: str) -> nn.Module:
    """Return a torchvision classifier: with its first ImageNet weights ("imagenet"), or freshly drawn ("none").

    Raises:
        UserError: `pretrain` is another word, or the weights are neither in torch's cache nor can be downloaded.
    """
    check_pretrain(architecture, pretrain, ("imagenet", "none"))
    if pretrain == "none":
        fresh: nn.Module = get_model(architecture, weights=None)
        return fresh
    # The field's published numbers start from torchvision's first weights, not from the newer recipes.
    weights = get_model_weights(architecture)["IMAGENET1K_V1"]
    try:
        trained: nn.Module = get_model(architecture, weights=weights)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"--pretrain imagenet: the ImageNet weights of {architecture} cannot be downloaded ({reason}). Expected "
            f"{weights.url} to be reachable; download it elsewhere and put it into {torch.hub.get_dir()}/checkpoints, "
            "or use --backbone efficientnet_lite0, whose weights are installed, or --pretrain none"
        ) from error
    return trained
