"""This project's networks through torch.hub, for other people's code.

torch.hub.load("<owner>/<repository>", "trained", checkpoint="best_model.pth")
torch.hub.load("<owner>/<repository>", "network", backbone="efficientnet_lite0", aggregation="gem")
torch.hub.load("<owner>/<repository>", "released", name="salad")

Each returns a module in eval mode: images uint8 or normalised float [B,3,H,W] to descriptors float32 [B,D].
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from vgbench.errors import UserError
from vgbench.models import Network, build_network
from vgbench.models.network_file import read_network_file
from vgbench.models.releases import load_release

dependencies = ["torch", "torchvision", "numpy", "requests", "gdown", "safetensors"]


def trained(checkpoint: str, own: Sequence[str] = ()) -> Network:
    """Return the network of a checkpoint that train.py wrote, with its weights.

    Args:
        checkpoint: a file, or the URL of one. It is not trusted: it names parts of this project, and nothing else.
        own: code of your own, package.module:Class, that it may name too.

    Raises:
        UserError: it is no such file, one that does not say which network it is of or names other code, or it cannot be
            downloaded.
    """
    path = _downloaded(checkpoint) if "://" in checkpoint else Path(checkpoint)
    return read_network_file(path, own, name=checkpoint).network().eval()


def network(backbone: str, aggregation: str, pretrain: str = "imagenet", **options: Any) -> Network:
    """Return an untrained network by the names of its parts; arguments as `vgbench.models.build_network`."""
    return build_network(backbone, aggregation, pretrain, **options).eval()


def released(name: str, weights: str | None = None) -> Network:
    """Return a network that its authors released, by its name; raises UserError with the known names.

    Args:
        weights: a file at hand with its weights; not given: fetched from where its authors released it.
    """
    return load_release(name, weights=None if weights is None else Path(weights)).eval()


def _downloaded(url: str) -> Path:
    """Return where a URL's file is kept; raises UserError if it cannot be downloaded."""
    # Most checkpoints have one name, best_model.pth: the URL's digest tells them apart.
    name = Path(urlsplit(url).path)
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{name.stem}-{digest}{name.suffix}"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path))
    except (OSError, ValueError, HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise UserError(f"{url}: cannot be downloaded ({reason}). Expected the URL of a checkpoint") from error
    return path
