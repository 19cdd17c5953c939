"""A whole network: normalisation, backbone, aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vgbench.models.base import as_aggregation, as_backbone

_STRIDE = 32  # pixels from cell to cell of a convolutional network's last map


class Network(nn.Module):
    """Images to descriptors.

    Attributes:
        backbone: normalised images to local features.
        aggregation: local features to descriptors.
        geowarp: what compares pairs of images, where `models.geowarp.attach` has given it one.
        mixes_batch: whether an image's descriptor depends on the other images of its batch.
        descriptors_dim: D.
        config: what `build_network(**config)` needs to build the same again.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, aggregation: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.backbone = as_backbone(str(config.get("backbone", "of the network")), backbone)
        self.aggregation = as_aggregation(str(config.get("aggregation", "of the network")), aggregation)
        self.geowarp: nn.Module | None = None
        self.mixes_batch = self.backbone.mixes_batch or self.aggregation.mixes_batch
        self.descriptors_dim = int(self.aggregation.descriptors_dim)
        # Not persistent: published state dicts hold only the backbone's and the aggregation's keys.
        for name, statistic in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            values = torch.tensor(statistic, dtype=torch.float32)
            self.register_buffer(name, values.view(1, 3, 1, 1), persistent=False)

    @property
    def name(self) -> str:
        """What a table calls it."""
        return name_of(self.config)

    @property
    def resize_multiple(self) -> int:
        """The pixels that sides of resized training images are a multiple of: the backbone's, or a stride of 32."""
        return self.backbone.multiple if self.backbone.multiple > 1 else _STRIDE

    def normalise(self, images: Tensor) -> Tensor:
        """Turn pixels uint8 [B,3,H,W] (RGB) into the backbone's float32 input of the same shape."""
        return (images.float() / 255).sub_(self.mean).div_(self.std)

    def local_features(self, images: Tensor) -> Any:
        """Return what the backbone makes of images: a map [B,C,h,w], tokens [B,N,C], or a pair of a map and a token.

        Args:
            images: uint8 pixels [B,3,H,W] (normalised here), or floats that are normalised already.
        """
        return self.backbone(images if images.is_floating_point() else self.normalise(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return the descriptors float32 [B,D] of images [B,3,H,W], uint8 or normalised float."""
        descriptors: Tensor = self.aggregation(self.local_features(images))
        return descriptors.float()


def name_of(config: Mapping[str, Any]) -> str:
    """Return what a table calls the network of a configuration."""
    return str(config.get("method") or f"{config['backbone']} + {config['aggregation']}")
