"""A whole network: normalisation, backbone, aggregation; its fast form; what its weights are known by."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.base import Backbone, as_aggregation, as_backbone
from vgbench.models.sequences.options import over_frames
from vgbench.runtime import Inference, Runtime
from vgbench.runtime_options import BACKENDS

GEOWARP = "geowarp"  # the part of a network that compares pairs of images
HASHING, HASH_BITS = "hashing", "hash_bits"  # the part that makes codes of descriptors; what a configuration says of it
BESIDE = (GEOWARP, HASHING)  # parts on which descriptors do not depend
_HASH_BYTES = 64 * 2**20

Infer = Callable[[Tensor], Tensor]
_STRIDE = 32  # pixels from cell to cell of a convolutional network's last map


class Network(nn.Module):
    """Images to descriptors.

    Attributes:
        backbone: normalised images to local features.
        aggregation: local features to descriptors.
        geowarp: what compares pairs of images, where `models.geowarp.attach` has given it one.
        hashing: what makes codes of descriptors, where `models.hashing.attach_hashing` has given it one.
        mixes_batch: whether an image's descriptor depends on the other images of its batch.
        mixed_batch: how many images a batch has then.
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
        self.hashing: nn.Module | None = None
        self.mixes_batch = self.backbone.mixes_batch or self.aggregation.mixes_batch
        mixing = self.aggregation if self.aggregation.mixes_batch else self.backbone
        self.mixed_batch = mixing.mixed_batch
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
    return str(config.get("method") or f"{config['backbone']} + {config['aggregation']}") + over_frames(config)


def in_fixed_batches(network: Network, inference: Inference) -> Inference:
    """Return how images are described, in batches of its own size where the descriptors depend on their batch.

    So `--infer_batch_size` changes no descriptor, and neither does the number of ranks.
    """
    return dataclasses.replace(inference, batch_size=network.mixed_batch) if network.mixes_batch else inference


def for_inference(network: Network, runtime: Runtime) -> Infer:
    """Return a function that computes the network's descriptors in eval mode, fast, by the runtime's backend.

    The function takes images [B,3,H,W] on the runtime's device, uint8 or normalised float, and returns descriptors
    float32 [B,D], equal to the network's within the rounding of the runtime's precision. It holds copies of the
    weights: make another one when they have changed. The network itself is left as it is, but for the code of others
    (`--method` of a HubRelease), which is not copied, and is in eval mode afterwards.

    Raises:
        UserError: the backend cannot express the network; the function raises it too.
    """
    found: Infer = BACKENDS.resolve(runtime.backend)().describer(network, runtime)
    return found


def features_for_inference(network: Network, runtime: Runtime) -> Infer:
    """Return the same for `Network.local_features`: a function to maps [B,C,h,w] or tokens [B,N,C], float32."""
    found: Infer = BACKENDS.resolve(runtime.backend)().mapper(network, runtime)
    return found


def weights_hash(network: Network) -> str:
    """Return the sha256 (hex) of every parameter and buffer (non-persistent ones too) and of the configuration.

    Those of GeoWarp and of a hashing branch are left out: descriptors do not depend on them.
    """
    config = {key: value for key, value in network.config.items() if key not in (GEOWARP, HASH_BITS)}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    named = [*network.named_parameters(), *network.named_buffers()]
    named = [(name, tensor) for name, tensor in named if name.partition(".")[0] not in BESIDE]
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
        for start in range(0, len(flat), _HASH_BYTES):
            digest.update(flat[start : start + _HASH_BYTES].data)
    return digest.hexdigest()


class CompositeTrunk(Backbone):
    """A trunk whose parts are whole networks: pixels [B,3,H,W] in 0..1, which each member normalises in its own way.

    Args:
        members: the networks.
    """

    kind = "vector"
    as_it_is = True  # its members are rewritten into their faster form, one by one, and not the whole
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        # Sides of images have to suit every member's patches.
        self.multiple = math.lcm(*(member.backbone.multiple for member in members))
        mixing = [member for member in members if member.mixes_batch]
        self.mixes_batch = bool(mixing)
        if mixing:
            self.mixed_batch = mixing[0].mixed_batch

    def networks(self) -> list[Network]:
        """Return the members."""
        return [cast(Network, member) for member in self.members]

    def descriptors(self, pixels: Tensor) -> list[Tensor]:
        """Return each member's L2-normalised descriptors [B,D]."""
        return [F.normalize(member((pixels - member.mean) / member.std), dim=1) for member in self.networks()]
