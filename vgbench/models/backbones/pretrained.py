"""Weights that backbones start from, and what to say when they cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.error import URLError

import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.backbones.landmarks import CLASSES, landmarks_model
from vgbench.models.weights import load_state_dict

T = TypeVar("T")


def check_pretrain(backbone: str, pretrain: str, known: tuple[str, ...] = ("imagenet", "none")) -> None:
    """Raise UserError unless `pretrain` is one of `known`."""
    if pretrain not in known:
        raise UserError(f"--pretrain {pretrain}: no such weights for {backbone}. Expected one of {', '.join(known)}")


def torchvision_model(architecture: str, pretrain: str) -> nn.Module:
    """Return a torchvision classifier: with its first ImageNet weights ("imagenet"), or freshly drawn ("none").

    Some have weights of Places 365 ("places") and of Google Landmarks v2 ("gldv2") as well.

    Raises:
        UserError: `pretrain` is another word, or the weights are neither in torch's cache nor can be downloaded.
    """
    # Importing it takes seconds, which the trunks that do not come from it need not wait for.
    from torchvision.models import get_model, get_model_weights

    if pretrain in CLASSES:
        return landmarks_model(architecture, pretrain)
    check_pretrain(architecture, pretrain)
    if pretrain == "none":
        fresh: nn.Module = get_model(architecture, weights=None)
        return fresh
    # The field's published numbers start from torchvision's first weights, not from the newer recipes.
    weights = get_model_weights(architecture)["IMAGENET1K_V1"]
    trained: nn.Module = fetch(architecture, weights.url, lambda: get_model(architecture, weights=weights))
    return trained


def published_weights(backbone: str, url: str) -> dict[str, Tensor]:
    """Return a published state dict, from torch's cache or downloaded into it; raises UserError if it cannot be had."""
    weights: dict[str, Tensor] = fetch(
        backbone, url, lambda: torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    )
    return weights


def load_published(module: nn.Module, backbone: str, url: str) -> None:
    """Load a published state dict into `module`, every key; raises UserError if it cannot be had or is another's."""
    weights = published_weights(backbone, url)
    try:
        load_state_dict(module, weights)
    except UserError as error:
        raise UserError(f"{backbone}, {url.rsplit('/', 1)[1]}: {error}") from error


def fetch(backbone: str, url: str, load: Callable[[], T], folder: str | None = None) -> T:
    """Call `load`, which may download `url`; raises UserError with the remedy if it fails.

    Args:
        folder: the folder where `load` looks for what was downloaded elsewhere (None: torch's own).
    """
    try:
        return load()
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"--pretrain imagenet: the weights of {backbone} cannot be downloaded ({reason}). "
            f"Expected {url} to be reachable; download it elsewhere and put it into "
            f"{folder or f'{torch.hub.get_dir()}/checkpoints'}, "
            "or use --backbone efficientnet_lite0, whose weights are installed, or --pretrain none"
        ) from error
