"""Tiny networks whose tokens re-rankers compare, and pictures to re-rank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from vgbench.data import Split
from vgbench.data.loader import decode_batch
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.models import Network, build_network
from vgbench.models.backbones import deit, dinov2
from vgbench.retrieval import Predictions, write_descriptors
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Inference

CREATE = timm.create_model  # before a test puts `small_deit` in its place
SIZE = (56, 70)
PLACES, QUERIES = 4, 3
PARTS: dict[str, dict[str, Any]] = {
    "selavpr": {"backbone": "dinov2_vits14"},
    "fol": {"backbone": "dinov2_vits14", "num_clusters": 4, "cluster_dim": 3, "token_dim": 5, "mlp_dim": 9},
    "selavpr_pp": {"backbone": "dinov2_vits14", "feat_dim": 10},
    "r2former": {"backbone": "deit_small", "num_local": 9, "out_dim": 6},
    "pairvpr": {"backbone": "dinov2_vits14_reg", "decoder_dim": 24, "decoder_depth": 2, "decoder_heads": 3},
}
Pictures = tuple[RerankContext, Predictions]


def small_deit(name: str, **options: Any) -> nn.Module:
    """DeiT with its distillation token, of 2 layers and 32 channels."""
    model: nn.Module = CREATE(name, **options, embed_dim=32, depth=2, num_heads=2)
    return model


def tiny(name: str, seed: int = 0, **more: Any) -> Network:
    """The network of 4 layers and 32 channels whose aggregation is `name`, every weight drawn."""
    torch.manual_seed(seed)
    with patch.dict(dinov2.SIZES, {"vits": dinov2.Size(32, 4, 4)}), patch.object(deit.timm, "create_model", small_deit):
        network = build_network(aggregation=name, pretrain="none", **{**PARTS[name], **more})
    for key, parameter in network.named_parameters():
        if "reranker" not in key:
            nn.init.normal_(parameter, std=0.2)
        else:  # so that scores of pairs differ
            nn.init.normal_(
                parameter, float("norm" in key and key.endswith("weight")), (0.05, 0.35)[parameter.dim() > 1]
            )
    return network.eval()


def size_for(network: Network | None) -> tuple[int, int]:
    """The images' height and width: 4 x 5 patches."""
    patch = 14 if network is None else network.backbone.multiple
    return (4 * patch, 5 * patch)


def of_pictures(table: ImageTable, network: Network) -> Tensor:
    """All images of a table, uint8 [N,3,H,W]."""
    return decode_batch(table, np.arange(len(table)), size_for(network))


def maker(folder: Path) -> Callable[..., Pictures]:
    """Return a function (network=, options...) -> a context of 3 queries and 4 places, and predictions of all."""
    for kind, count in (("database", PLACES), ("queries", QUERIES)):
        (folder / kind).mkdir()
        for row in range(count):
            pixels = np.random.default_rng(row).integers(0, 256, (14, 14, 3))
            noise = np.random.default_rng(100 + row).integers(-40, 40, (14, 14, 3)) if kind == "queries" else 0
            picture = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).resize(SIZE[::-1])
            picture.save(folder / kind / f"{row}.png")

    def make(network: Network | None = None, **options: Any) -> Pictures:
        split = Split(
            root=folder, name="test", database=_table(folder / "database", PLACES),
            queries=_table(folder / "queries", QUERIES),
        )  # fmt: skip
        context = RerankContext(
            split=split,
            database=write_descriptors(folder / "d.h5", torch.eye(PLACES), "d"),
            queries=write_descriptors(folder / "q.h5", torch.eye(PLACES)[:QUERIES].contiguous(), "q"),
            network=network,
            options=RerankOptions(**options),
            inference=Inference(size_for(network)),
            cache=folder / "cache",
        )
        indices = np.array([np.roll(np.arange(PLACES), query) for query in range(QUERIES)], np.int64)
        distances = np.tile(np.linspace(0.5, 0.6, PLACES, dtype=np.float32), (QUERIES, 1))
        return context, Predictions(indices, distances)

    return make


def _table(root: Path, count: int) -> ImageTable:
    builder = TableBuilder()
    for number in range(count):
        builder.add(f"{number}.png", 100.0 * number, 0.0)
    return builder.build(root)
