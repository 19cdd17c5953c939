"""Floating-point operations of a network, by torch's own formulas, without loading torch's compiler to count them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@torch.no_grad()
def count_flops(network: nn.Module, size: tuple[int, int]) -> int:
    """Return the FLOPs (a multiply-add is two) of one uint8 image of `size`, height and width in pixels, in eval mode.

    What has no formula (element-wise operations, pooling) counts as nothing, as in `torch.utils.flop_counter`.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    images = torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
    with _Counter() as counter:
        network(images)
    network.train(was_training)
    return int(counter.total)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch's own counter hides itself from the compiler, and imports it for that: 1.5 seconds per run."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=out))
        return out
