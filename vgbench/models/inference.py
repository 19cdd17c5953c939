"""The fast form of a network for extraction."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from vgbench.models.network import Network
from vgbench.runtime import Runtime


def for_inference(network: Network, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Return a function from image batches [B,3,H,W] on the device to descriptors float32 [B,D], as fast as it goes."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    runtime.place(network)

    def describe(images: Tensor) -> Tensor:
        with torch.inference_mode(), runtime.autocast():
            descriptors: Tensor = network(images)
            return descriptors

    return describe
