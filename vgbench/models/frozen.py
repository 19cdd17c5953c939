"""A network in two parts: the layers before its first trained one, and the rest."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.arguments import own_options
from vgbench.models.backbones import BACKBONES
from vgbench.models.base import Aggregation, Backbone, declared
from vgbench.models.network import Network
from vgbench.models.sequences.network import SequenceNetwork
from vgbench.runtime import Runtime

_SEED = 0  # of the pixels that the parts are compared on


class Earlier(Backbone):
    """Images [B,3,H,W] to what the first steps of a backbone make of them, [B,...].

    Args:
        trunk: the backbone, shared.
        count: its steps that run.
    """

    def __init__(self, trunk: Backbone, count: int) -> None:
        super().__init__()
        _say_the_same(self, trunk)
        self.trunk, self.count = trunk, count

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk.enter(images)
        for step in self.trunk.steps()[: self.count]:
            features = step(features)
        return features


class Later(Backbone):
    """What `Earlier` gave, [B,...], to the features of the whole backbone.

    Args:
        trunk: the backbone, shared.
        count: the steps that have run.
        size: height and width in pixels of the images.
        dtype: in which a step would have handed them on.
    """

    def __init__(self, trunk: Backbone, count: int, size: tuple[int, int], dtype: torch.dtype) -> None:
        super().__init__()
        _say_the_same(self, trunk)
        self.trunk, self.count, self.size, self.dtype = trunk, count, size, dtype

    def forward(self, features: Tensor) -> Any:
        features = features.to(self.dtype)
        for step in self.trunk.steps()[self.count :]:
            features = step(features)
        return self.trunk.leave(features, self.size)


class Flat(Aggregation):
    """Features [B,C,h,w], or [B,...], to rows [B,D]; the channels of a map come last, as the memory has them.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.descriptors_dim = dim

    def forward(self, features: Tensor) -> Tensor:
        return (features.permute(0, 2, 3, 1) if features.dim() == 4 else features).flatten(1)


@dataclass(frozen=True)
class FrozenPart:
    """Which layers of a network come before the first that is trained.

    Attributes:
        count: the backbone's steps.
        size: height and width in pixels of the images.
        shape: of what they make of one image: C, h, w of a map, or N, C of tokens.
        dtype: of its numbers.
    """

    count: int
    size: tuple[int, int]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def stored(self) -> str:
        """How the numbers are stored: "float32", or "float16" where they have no more digits than that."""
        return "float32" if self.dtype == torch.float32 else "float16"

    def first(self, network: Network) -> Network:
        """Return the part as a network: images to rows [B,D] of `Flat`."""
        dim = int(torch.Size(self.shape).numel())
        return Network(Earlier(network.backbone, self.count), Flat(dim), network.config)

    def rest(self, network: Network) -> Network:
        """Return the other layers as a network, which shares them: features [B,...] to descriptors [B,D]."""
        return Network(Later(network.backbone, self.count, self.size, self.dtype), network.aggregation, network.config)

    def unrolled(self, rows: Tensor) -> Tensor:
        """Return rows [B,D] of `Flat` as features [B,*shape]; maps are channels_last."""
        if len(self.shape) != 3:
            return rows.view(-1, *self.shape)
        channels, height, width = self.shape
        return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)

    def weights(self, network: Network) -> str:
        """Return the sha256 (hex) of everything of the network that its features depend on."""
        name = str(network.config.get("backbone"))
        options = {"backbone", "backbone_args", *own_options(BACKBONES.resolve(name))}
        facts = {key: network.config.get(key) for key in sorted(options)} | {"steps": self.count, "shape": self.shape}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, tensor in (*_constants(network, self.count), ("mean", network.mean), ("std", network.std)):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def frozen_part(network: Network, size: tuple[int, int], runtime: Runtime) -> FrozenPart:
    """Find the layers before the first that is trained: those whose features want no gradient.

    Args:
        network: on the runtime's device; one image goes through it twice.
        size: height and width of the images in pixels.

    Raises:
        UserError: the backbone is not made of steps in a row, or trains from its first one on.
    """
    name = f"--cache_frozen: --backbone {network.config.get('backbone')}"
    trunk = network.backbone
    steps = list(trunk.steps()) if isinstance(trunk, Backbone) else []
    if isinstance(network, SequenceNetwork):
        raise UserError("--cache_frozen: not with --seq_aggregation. Expected a network of images; leave one out")
    if not steps or network.mixes_batch:
        why = "looks at several images together" if network.mixes_batch else "does not say its steps"
        raise UserError(f"{name} {why}. Expected one that does (`Backbone.steps`); leave --cache_frozen out")
    generator = torch.Generator().manual_seed(_SEED)
    pixels = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)
    with _evaluated(network), torch.enable_grad(), runtime.autocast():
        features = trunk.enter(network.normalise(runtime.to_device(pixels)))
        found, count = features, 0
        for step in steps:
            features = step(features)
            if features.requires_grad:
                break
            found, count = features, count + 1
    if not count:
        raise UserError(
            f"{name} trains its first step. Expected frozen ones (--freeze, --unfreeze_blocks); leave it out"
        )
    part = FrozenPart(count, size, tuple(found.shape[1:]), found.dtype)
    _check_same(part, network, pixels, runtime, name)
    return part


def _check_same(part: FrozenPart, network: Network, pixels: Tensor, runtime: Runtime, name: str) -> None:
    """Raise UserError where a backbone's own `forward` is not what its steps give."""
    with _evaluated(network), torch.no_grad(), runtime.autocast():
        images = runtime.to_device(pixels)
        whole, parts = network(images), part.rest(network)(part.unrolled(part.first(network)(images)))
    if not torch.allclose(whole, parts, rtol=1e-2, atol=1e-2 * float(whole.abs().max())):
        raise UserError(
            f"{name} computes another thing than its `steps`. Expected the same of both; leave --cache_frozen out"
        )


@contextlib.contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Within the body a network is in eval mode; afterwards each of its modules is as it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _constants(network: Network, count: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights and statistics of a backbone that are neither trained nor of its later steps."""
    trunk = network.backbone
    later = {id(module) for step in trunk.steps()[count:] for module in step.modules()}
    for module_name, module in trunk.named_modules():
        if id(module) in later:
            continue
        own = list(module.named_parameters(recurse=False))
        fixed: list[tuple[str, Tensor]] = [(name, value) for name, value in own if not value.requires_grad]
        if len(fixed) == len(own):  # else they are statistics of a layer that is trained
            fixed += module.named_buffers(recurse=False)
        for name, tensor in sorted(fixed, key=lambda pair: pair[0]):
            yield f"{module_name}.{name}", tensor


def _say_the_same(part: Backbone, trunk: Backbone) -> None:
    """Let a part of a backbone say of itself what the whole says."""
    for name, value in declared(trunk, Backbone).items():
        setattr(part, name, value)
    part.out_channels = trunk.out_channels
