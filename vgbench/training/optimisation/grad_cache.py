"""The gradients of a loss of more images than fit into memory, a chunk of images at a time (Gao et al., 2021).

A first pass describes all images without gradients. The loss of the descriptors gives a gradient for each of them. A
second pass describes the same chunks again, with the same random numbers, and sends those gradients through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vgbench import parallel
from vgbench.training.optimisation.recompute import statistics_left_alone

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class _Described:
    """What one call of `GradCache.describe` was given and returned: chunks, random states before them, descriptors."""

    chunks: tuple[Tensor, ...]
    states: list[list[Tensor]]
    descriptors: Tensor


class GradCache:
    """One step's forward pass in two.

    The gradients are the whole batch's where an image's descriptor depends on that image alone. BatchNorm in training
    mode takes its statistics from the chunk instead of the batch; they are followed once, in the second pass.

    Args:
        forward: images [B,3,H,W] to descriptors float32 [B,D].
        network: whose BatchNorm layers the first pass leaves alone.
        chunk: images that fit into memory together.
    """

    def __init__(self, forward: Forward, network: nn.Module, chunk: int) -> None:
        self.forward, self.network, self.chunk = forward, network, chunk
        self._calls: list[_Described] = []

    def describe(self, images: Tensor) -> Tensor:
        """Return descriptors float32 [B,D] of images, leaves that a loss's gradients are kept at."""
        wanted = -(-len(images) // self.chunk)
        # Layers that ranks share are met equally often on all of them.
        chunks = images.tensor_split(max(parallel.all_gather_objects(wanted)))
        states, found = [], []
        with torch.no_grad(), statistics_left_alone(self.network):
            for chunk in chunks:
                states.append(_random_states(images.device))
                found.append(self.forward(chunk))
        descriptors = torch.cat(found).requires_grad_()
        self._calls.append(_Described(chunks, states, descriptors))
        return descriptors

    def backward(self) -> None:
        """Add the gradients of all that was described; the descriptors have theirs by now."""
        for call in self._calls:
            gradient = call.descriptors.grad
            # Layers that ranks share are met on all of them, also where the loss of one does without its images.
            if not any(parallel.all_gather_objects(gradient is not None)):
                continue
            if gradient is None:
                gradient = torch.zeros_like(call.descriptors)
            after = _random_states(call.descriptors.device)
            gradients = gradient.tensor_split(len(call.chunks))
            for chunk, state, gradient in zip(call.chunks, call.states, gradients, strict=True):
                _set_random_states(state)
                torch.autograd.backward(self.forward(chunk), gradient)
            _set_random_states(after)
        self._calls.clear()


def _random_states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if device.type == "cuda" else [])]


def _set_random_states(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
