"""A network together with its preprocessing, as one module from pixels to descriptors."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models import Network
from vgbench.models.adapting.lora import merged


class Deployable(nn.Module):
    """Pixels uint8 [B,3,H,W] (RGB) to descriptors float32 [B,D].

    Args:
        network: whose normalisation, backbone and aggregation run.
        resize: height and width in pixels that images of any size are brought to, as `decode_image` does (bilinear,
            with antialiasing), but for its rounding to whole pixel values, which two runtimes can do differently; None
            where images come at the right size.
        unit: divide each descriptor by its length, so that a dot product is a cosine.
    """

    def __init__(self, network: Network, resize: tuple[int, int] | None = None, *, unit: bool = False) -> None:
        super().__init__()
        self.network = cast(Network, merged(network))
        self.resize = resize
        self.unit = unit

    def forward(self, images: Tensor) -> Tensor:
        """Return the descriptors float32 [B,D] of images [B,3,H,W]."""
        pixels = images.float()
        if self.resize is not None:
            pixels = F.interpolate(pixels, size=self.resize, mode="bilinear", align_corners=False, antialias=True)
        descriptors: Tensor = self.network(self.network.normalise(pixels))
        return F.normalize(descriptors, dim=1) if self.unit else descriptors
