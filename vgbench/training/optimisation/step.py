"""One optimiser step: forward in the run's precision, loss in float32, backward, update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vgbench import parallel
from vgbench.models import Network
from vgbench.runtime import Runtime
from vgbench.training.modes.base import BatchT, TrainingMode
from vgbench.training.optimisation.depthwise import fast_depthwise_gradients
from vgbench.training.optimisation.optim import with_gradient
from vgbench.training.optimisation.shared_gradients import SharedGradients


class Stepper:
    """Takes steps with one network: `backward` once or more, then `update`.

    Args:
        network: on the runtime's device.
        runtime: precision, memory format, compilation.
        clip_grad_norm: largest L2 norm of the gradients of one optimiser; None: any.
    """

    def __init__(self, network: Network, runtime: Runtime, clip_grad_norm: float | None = None) -> None:
        self.runtime = runtime
        self.clip_grad_norm = clip_grad_norm
        self.images = 0  # that went forward so far
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.amp_dtype == torch.float16)
        # The number of distinct images changes from batch to batch.
        self.gradients = SharedGradients(network, torch.compile(network, dynamic=True) if runtime.compile else network)

    def backward(
        self,
        mode: TrainingMode[BatchT],
        batch: BatchT,
        generator: torch.Generator,
        share: float = 1.0,
        last: bool = True,
    ) -> Tensor:
        """Add the gradients of `share` times a batch's loss; returns that [] of all ranks' batches, on the device.

        With `last`, an update follows.
        """
        with self.gradients.part(last):
            loss = mode.loss(self._forward, batch.to(self.runtime.device), generator)
            self.scaler.scale(loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        return parallel.all_reduce(loss.detach())

    def update(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Change the weights by the gradients that were added, and forget the gradients."""
        for optimizer in optimizers:
            self.gradients.add_the_rest(optimizer)
            if self.clip_grad_norm is not None:
                self.scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(with_gradient(optimizer), self.clip_grad_norm)
            self.scaler.step(optimizer)
        self.scaler.update()
        self.gradients.step_over()
        forget_gradients(optimizers)

    def state_dict(self) -> dict[str, Any]:
        """Return the gradient scaler's state, {} where the precision needs none."""
        state: dict[str, Any] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        if self.scaler.is_enabled() and state:
            self.scaler.load_state_dict(state)

    def _forward(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W] -> descriptors float32 [B,D]; only this runs in mixed precision, not the loss."""
        self.images += len(images)
        with self.runtime.autocast(), fast_depthwise_gradients(self.runtime):
            descriptors = self.gradients(self.runtime.to_device(images))
        return descriptors.float()


def forget_gradients(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Drop the gradients of everything that the optimisers train."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


def set_training(network: nn.Module, freeze_bn: bool) -> None:
    """Put a network in training mode, its BatchNorm layers excepted where they are frozen."""
    network.train()
    if freeze_bn:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
