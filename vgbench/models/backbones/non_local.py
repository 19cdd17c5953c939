"""Non-local blocks (Wang, Girshick, Gupta and He, 2018) after a backbone: every position looks at all the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.base import Backbone


class NonLocalBlock(nn.Module):
    """The embedded-Gaussian form: a map [B,C,H,W] plus what its positions attend to, in the same shape."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        """`bottleneck`: the channels in which positions are compared and mixed."""
        super().__init__()
        self.theta = nn.Conv2d(channels, bottleneck, 1)
        self.phi = nn.Conv2d(channels, bottleneck, 1)
        self.g = nn.Conv2d(channels, bottleneck, 1)
        self.out = nn.Conv2d(bottleneck, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        # The block starts as the identity, so that it does not disturb what the backbone has learned.
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (conv(x).flatten(2).transpose(1, 2) for conv in (self.theta, self.phi, self.g))
        # Unlike a transformer's, this softmax is of the plain products.
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2)
        y: Tensor = x + self.norm(self.out(mixed.reshape(x.shape[0], -1, x.shape[2], x.shape[3])))
        return y


class NonLocalTrunk(Backbone):
    """A backbone that gives a map, with non-local blocks after it; images [B,3,H,W] to its map's shape."""

    kind = "map"

    def __init__(
        self, name: str, trunk: Backbone, num_non_local: int = 1, channel_bottleneck: int | None = None
    ) -> None:
        """Build it around `trunk`, whose `name` is for messages.

        Args:
            num_non_local: how many blocks follow one another.
            channel_bottleneck: channels inside of them (None: half the map's, as in the paper).

        Raises:
            UserError: the backbone gives no map, or a number is not positive.
        """
        kinds = trunk.kinds or (trunk.kind,)
        if "map" not in kinds:
            raise UserError(
                f"--non_local: its blocks take a map, but --backbone {name} gives {' or '.join(kinds)}. "
                "Expected a convolutional backbone; leave --non_local out"
            )
        channels = int(trunk.out_channels)
        bottleneck = max(channels // 2, 1) if channel_bottleneck is None else channel_bottleneck
        for option, number in (("--num_non_local", num_non_local), ("--channel_bottleneck", bottleneck)):
            if number < 1:
                raise UserError(f"{option} {number}: not a number of them. Expected 1 or more")
        super().__init__()
        if len(kinds) > 1:
            trunk.kind = "map"
        self.trunk = trunk
        self.non_local = nn.Sequential(*[NonLocalBlock(channels, bottleneck) for _ in range(num_non_local)])
        self.out_channels = channels
        self.mean, self.std, self.multiple, self.mixes_batch = trunk.mean, trunk.std, trunk.multiple, trunk.mixes_batch

    def enter(self, images: Tensor) -> Tensor:
        """Return what the backbone's first step takes."""
        return self.trunk.enter(images)

    def steps(self) -> Sequence[nn.Module]:
        """Return the backbone's steps, () where it has none."""
        return self.trunk.steps() if isinstance(self.trunk, Backbone) else ()

    def leave(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Return what the blocks make of the backbone's map."""
        found: Tensor = self.non_local(self.trunk.leave(features, size))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return a map [B,C,h,w] of images [B,3,H,W], of backbones too that are not made of steps."""
        features: Tensor = self.non_local(self.trunk(images))
        return features
