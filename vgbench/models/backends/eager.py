"""PyTorch as it is: BatchNorm and activations folded into convolutions, and a few images at a time on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from vgbench.models.adapting.lora import merged
from vgbench.models.backends.base import Infer, InferenceBackend
from vgbench.models.base import Backbone
from vgbench.models.fold_batch_norm import FusedConv2d, fuse
from vgbench.models.network import BESIDE, Network
from vgbench.runtime import Runtime, onednn_has_bf16

# Modules whose weights may be stored in half precision: what autocast would do to them at every call anyway.
HALF_SAFE = (nn.Conv2d, FusedConv2d)
# On a CPU the maps of a few images fit its caches, those of a batch do not; of too few, cores wait for each other.
CPU_CHUNK_PIXELS, CPU_CHUNK_LEAST = 8 * 320 * 320, 4

Compute = Callable[[Network, Tensor], Tensor]


class Eager(InferenceBackend):
    """The form that everything else is compared with."""

    name = "eager"

    def describer(self, network: Network, runtime: Runtime) -> Infer:
        return Chunked(fused(network, runtime, pointwise=can_fuse(runtime)), runtime, Network.forward)

    def mapper(self, network: Network, runtime: Runtime) -> Infer:
        return Chunked(fused(network, runtime, pointwise=can_fuse(runtime)), runtime, Network.local_features)


def fused(network: Network, runtime: Runtime, *, pointwise: bool) -> Network:
    """Return a copy of a network in eval mode with fewer, larger steps, on the runtime's device in its precision."""
    network = cast(Network, merged(network))
    form = copy.copy(network)
    # What looks at pairs of images, or at descriptors, has no part in those, nor in maps.
    form._modules = {name: module for name, module in network._modules.items() if name not in BESIDE}
    form._buffers = {name: buffer.clone() for name, buffer in network._buffers.items() if buffer is not None}
    form.backbone = fuse(network.backbone, pointwise=pointwise)  # type: ignore[assignment]
    form.aggregation = copy.deepcopy(network.aggregation).requires_grad_(False)
    runtime.prepare(form.eval())
    if runtime.amp_dtype is not None and _half_safe(form.backbone):
        form.backbone.to(dtype=runtime.amp_dtype)
    return form


class Chunked(nn.Module):
    """A form of a network on batches of any size, a chunk at a time on a CPU."""

    def __init__(self, network: Network, runtime: Runtime, compute: Compute) -> None:
        super().__init__()
        self.network = network
        self.runtime = runtime
        self.compute = compute
        first = next(network.backbone.parameters(), None)
        self.dtype = torch.float32 if first is None else first.dtype
        self.splits = runtime.device.type == "cpu" and not network.mixes_batch

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        if not self.splits:
            return self.computed(images)
        parts = torch.split(images, cpu_chunk(*images.shape[-2:]))
        return self.computed(images) if len(parts) == 1 else torch.cat([self.computed(part) for part in parts])

    def computed(self, images: Tensor) -> Tensor:
        """Return what the network makes of images [B,3,H,W] that are few enough."""
        pixels = images if images.is_floating_point() else self.network.normalise(images)
        pixels = pixels.to(dtype=self.dtype, memory_format=self.runtime.format_of(pixels))
        with self.runtime.autocast():
            return self.compute(self.network, pixels).float()


def cpu_chunk(height: int, width: int) -> int:
    """Return how many images of a size, in pixels, a CPU is given at once: 8 of 320x320, more of smaller ones."""
    return max(CPU_CHUNK_LEAST, CPU_CHUNK_PIXELS // (height * width))


def _half_safe(backbone: nn.Module) -> bool:
    return all(
        not (isinstance(module, Backbone) and module.shared)
        and (isinstance(module, HALF_SAFE) or not any(True for _ in module.parameters(recurse=False)))
        for module in backbone.modules()
    )


def can_fuse(runtime: Runtime) -> bool:
    """Whether oneDNN is there to fuse convolutions in this precision: before AVX-512 it has no kernels for bf16."""
    if runtime.device.type != "cpu":
        return False
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    known = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return bool(available) and known and (runtime.amp_dtype != torch.bfloat16 or onednn_has_bf16())
