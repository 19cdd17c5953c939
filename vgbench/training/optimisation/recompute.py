"""Less memory for more arithmetic: activations that are computed again in the backward pass (Chen et al., 2016)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from vgbench.errors import UserError

_CONTAINERS = (nn.Sequential, nn.ModuleList)


def blocks_of(backbone: nn.Module, name: str) -> list[nn.Module]:
    """Return the blocks of a backbone, whose inner activations need not be kept: a ResNet's, a transformer's layers.

    They are what stands in its lists and is made of several layers with weights.

    Args:
        name: the backbone's, for messages.

    Raises:
        UserError: there are none.
    """
    found = list(_blocks(backbone))
    if not found:
        raise UserError(
            f"--checkpoint_activations: {name} has no blocks. Expected a backbone made of residual blocks or "
            "transformer layers; leave it out"
        )
    return found


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        several = sum(any(True for _ in part.parameters(recurse=False)) for part in child.modules()) > 1
        if several and isinstance(module, _CONTAINERS) and not isinstance(child, _CONTAINERS):
            yield child
        else:
            yield from _blocks(child)


@contextlib.contextmanager
def recomputing(blocks: Iterable[nn.Module], again: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Within the body, blocks keep what goes into them alone, and compute the rest again when gradients want it.

    Random numbers are drawn again as they were, and running statistics follow the first time only.

    Args:
        blocks: of `blocks_of`.
        again: makes the context that the body's forward pass runs in, which the second pass needs as well.
    """
    chosen = list(blocks)
    for block in chosen:
        block.forward = functools.partial(_recomputed, block, block.forward, again)
    try:
        yield
    finally:
        for block in chosen:
            del block.forward  # the class's own is seen again


def _recomputed(
    block: nn.Module, forward: Callable[..., Any], again: Callable[[], AbstractContextManager[Any]], *values: Any
) -> Any:
    @contextlib.contextmanager
    def second_pass() -> Iterator[None]:
        with again(), statistics_left_alone(block):
            yield

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return contextlib.nullcontext(), second_pass()

    return checkpoint(forward, *values, use_reentrant=False, context_fn=contexts)


@contextlib.contextmanager
def statistics_left_alone(module: nn.Module) -> Iterator[None]:
    """Within the body, no BatchNorm layer's running statistics follow what it sees; autograd keeps what it would."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer, (_, counted) in zip(layers, before, strict=True):
        layer.momentum = 0.0  # of what is new; then the old stays to the last bit
        layer.num_batches_tracked = None if counted is None else counted.clone()
    try:
        yield
    finally:
        for layer, (momentum, counted) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, counted
