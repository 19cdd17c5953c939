"""One optimiser step: forward in the run's precision, loss in float32, backward, update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vgbench import parallel
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.runtime import Runtime
from vgbench.training.modes.base import BatchT, TrainingMode
from vgbench.training.optimisation.depthwise import fast_depthwise_gradients
from vgbench.training.optimisation.grad_cache import GradCache
from vgbench.training.optimisation.optim import with_gradient
from vgbench.training.optimisation.recompute import blocks_of, recomputing
from vgbench.training.optimisation.shared_gradients import SharedGradients


@dataclass(frozen=True)
class Memory:
    """What is done so that a step fits into memory.

    Attributes:
        checkpoint_activations: compute a block's inner activations again in the backward pass instead of keeping them.
        grad_cache_chunk: images that go through the network together; None: a batch's.
        calls_apart: whether parameters of the network learn outside of its call.
    """

    checkpoint_activations: bool = False
    grad_cache_chunk: int | None = None
    calls_apart: bool = False


PLENTY = Memory()


class Stepper:
    """Takes steps with one network: `backward` once or more, then `update`.

    Args:
        network: on the runtime's device.
        runtime: precision, memory format, compilation.
        clip_grad_norm: largest L2 norm of the gradients of one optimiser; None: any.
        memory: what is done so that a step fits into memory.

    Raises:
        UserError: the network has no activations that could be computed again.
    """

    def __init__(
        self, network: Network, runtime: Runtime, clip_grad_norm: float | None = None, memory: Memory = PLENTY
    ) -> None:
        self.network, self.runtime, self.memory = network, runtime, memory
        self._blocks: list[nn.Module] = []
        if memory.checkpoint_activations:
            if runtime.compile:
                raise UserError("--checkpoint_activations: not with --compile on. Expected one of them; leave one out")
            self._blocks = blocks_of(network.backbone, str(network.config.get("backbone")))
        self.clip_grad_norm = clip_grad_norm
        self.images = 0  # that went forward so far
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.amp_dtype == torch.float16)
        # The number of distinct images changes from batch to batch.
        call = torch.compile(network, dynamic=True) if runtime.compile else network
        # In buckets, all that learns is reached through the call.
        self.gradients = SharedGradients(
            network, call, overlap=memory.grad_cache_chunk is None and not memory.calls_apart
        )

    def backward(
        self,
        mode: TrainingMode[BatchT],
        batch: BatchT,
        generator: torch.Generator,
        share: float = 1.0,
        last: bool = True,
        add: Callable[[Tensor], Tensor] = parallel.all_reduce,
    ) -> Tensor:
        """Add the gradients of `share` times a batch's loss; returns that [] of all ranks' batches, on the device.

        With `last`, an update follows. `add` makes the loss of all ranks' batches of that of this rank's.

        Raises:
            UserError: a batch of one image whose map has one cell, of which BatchNorm knows no variance.
        """
        chunk = self.memory.grad_cache_chunk
        cache = None if chunk is None else GradCache(self._described, self.network, chunk)

        def forward(images: Tensor) -> Tensor:
            self.images += images.shape[:-3].numel()
            return self._described(images) if cache is None else cache.describe(images)

        with self.gradients.part(last), _naming_lone_cells():
            loss = mode.loss(forward, batch.to(self.runtime.device), generator)
            with self.runtime.products():
                self.scaler.scale(loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
                if cache is not None:
                    cache.backward()
        return add(loss.detach())

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

    def _described(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W] or sequences [B,L,3,H,W] -> descriptors float32 [B,D].

        Only this runs in mixed precision, not the loss.
        """
        pixels = self.runtime.to_device(images)
        with self.runtime.autocast(), fast_depthwise_gradients(self.runtime), recomputing(self._blocks, self._again):
            descriptors = self.gradients(pixels)
        return descriptors.float()

    def _again(self) -> AbstractContextManager[None]:
        return fast_depthwise_gradients(self.runtime)


@contextmanager
def _naming_lone_cells() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "BatchNorm: one image whose map has one cell leaves nothing to average over. Expected more images in "
            "a batch (--train_batch_size, --images_per_batch), a larger --resize, or --freeze_bn"
        ) from error


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
