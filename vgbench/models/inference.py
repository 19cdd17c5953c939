"""The fast form of a network, for everything that only looks: extraction, mining, validation."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vgbench.models.base import Backbone
from vgbench.models.fold_batch_norm import FusedConv2d, fuse
from vgbench.models.network import Network
from vgbench.runtime import Inference, Runtime, onednn_has_bf16

# Modules whose weights may be stored in half precision: what autocast would do to them at every call anyway.
HALF_SAFE = (nn.Conv2d, FusedConv2d)
# On a CPU the maps of a few images fit its caches, those of a batch do not.
CPU_CHUNK = 4

# Networks that look at all images of a batch are described in batches of so many, as CricaVPR's authors test theirs.
MIXED_BATCH = 16


def in_fixed_batches(network: Network, inference: Inference) -> Inference:
    """Return how images are described, in batches of MIXED_BATCH where the descriptors depend on their batch.

    So `--infer_batch_size` changes no descriptor, and neither does the number of ranks.
    """
    return dataclasses.replace(inference, batch_size=MIXED_BATCH) if network.mixes_batch else inference


def for_inference(network: Network, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Return a function that computes the network's descriptors in eval mode, fast.

    The function takes images [B,3,H,W] on the runtime's device, uint8 or normalised float, and returns descriptors
    float32 [B,D], equal to the network's within the rounding of the runtime's precision. It holds copies of the
    weights: make another one when they have changed. The network itself is left as it is, but for the code of others
    (`--method` of a HubRelease), which is not copied, and is in eval mode afterwards.
    """
    return _fast(network, runtime, Network.forward)


def features_for_inference(network: Network, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Return the same for `Network.local_features`: a function to maps [B,C,h,w] or tokens [B,N,C], float32."""
    return _fast(network, runtime, Network.local_features)


def _fast(
    network: Network, runtime: Runtime, compute: Callable[[Network, Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    on_cpu = runtime.device.type == "cpu"
    fused = copy.copy(network)
    # What looks at pairs of images has no part in descriptors, nor in maps.
    fused._modules = {name: module for name, module in network._modules.items() if name != "geowarp"}
    fused._buffers = {name: buffer.clone() for name, buffer in network._buffers.items() if buffer is not None}
    fused.backbone = fuse(network.backbone, pointwise=on_cpu and _can_fuse(runtime))  # type: ignore[assignment]
    fused.aggregation = copy.deepcopy(network.aggregation).requires_grad_(False)
    runtime.prepare(fused.eval())
    if runtime.amp_dtype is not None and _half_safe(fused.backbone):
        fused.backbone.to(dtype=runtime.amp_dtype)
    forward: Callable[[Tensor], Tensor] = _Chunked(fused, runtime, compute)
    return torch.compile(forward) if runtime.compile else forward


class _Chunked(nn.Module):
    def __init__(self, network: Network, runtime: Runtime, compute: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.runtime = runtime
        self.compute = compute
        first = next(network.backbone.parameters(), None)
        self.dtype = torch.float32 if first is None else first.dtype
        self.chunk = CPU_CHUNK if runtime.device.type == "cpu" and not network.mixes_batch else 0

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        if self.chunk and len(images) > self.chunk:
            return torch.cat([self._computed(part) for part in torch.split(images, self.chunk)])
        return self._computed(images)

    def _computed(self, images: Tensor) -> Tensor:
        pixels = images if images.is_floating_point() else self.network.normalise(images)
        pixels = pixels.to(dtype=self.dtype, memory_format=self.runtime.memory_format)
        with self.runtime.autocast():
            return self.compute(self.network, pixels).float()


def _half_safe(backbone: nn.Module) -> bool:
    return all(
        not (isinstance(module, Backbone) and module.shared)
        and (isinstance(module, HALF_SAFE) or not any(True for _ in module.parameters(recurse=False)))
        for module in backbone.modules()
    )


def _can_fuse(runtime: Runtime) -> bool:
    """Whether oneDNN is there to fuse convolutions in this precision: before AVX-512 it has no kernels for bf16."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    known = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return bool(available) and known and (runtime.amp_dtype != torch.bfloat16 or onednn_has_bf16())
