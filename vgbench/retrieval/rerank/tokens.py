"""Local tokens of a network as local features: found once an image, kept as those are, and read in pairs."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models.backends.eager import can_fuse, fused
from vgbench.models.base import LocalTokens
from vgbench.models.network import Network
from vgbench.retrieval.extraction.extract import weights_hash
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.local.features import LocalFeatures


def check_tokens(name: str, network: Network | None) -> Network:
    """Return the network, whose tokens the re-ranker `name` compares.

    Raises:
        UserError: there is none, or its tokens are another re-ranker's.
    """
    if network is None:
        raise UserError(f"--rerank {name}: there is no network. Expected the one that made the descriptors")
    theirs = getattr(network.aggregation, "reranked_by", "")
    if theirs != name:
        remedy = f"use --rerank {theirs}" if theirs else f"use --method {name}, or --aggregation {name}"
        raise UserError(f"--rerank {name}: {network.name} has no tokens for it. Expected a network that does; {remedy}")
    return network


class TokenExtractor:
    """The local tokens of a network as local features (see `vgbench.models.base.LocalTokens`), float32 [T,C] an image.

    Args:
        name: of the re-ranker.
        context: whose network and image size are used.

    Raises:
        UserError: the network has no tokens for it.
    """

    binary = False

    def __init__(self, name: str, context: RerankContext) -> None:
        network = check_tokens(name, context.network)
        self.runtime = context.runtime
        self.network = fused(network, self.runtime, pointwise=can_fuse(self.runtime))
        self.tokens = cast(LocalTokens, self.network.aggregation)
        self.dim = self.tokens.token_dim
        self.name = f"{name}-{weights_hash(network)[:12]}-{self.runtime.amp_dtype}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        height, width = images.shape[2:]
        pixels = self.network.normalise(self.runtime.to_device(images))
        first = next(self.network.backbone.parameters(), pixels)
        with self.runtime.autocast():
            found = self.tokens.pair_tokens(self.network.local_features(pixels.to(first.dtype)))
        size = np.array([width, height], np.float32)
        return [
            LocalFeatures(places.float().cpu().numpy() * size, tokens.float().cpu().numpy(), (width, height))
            for places, tokens in found
        ]
