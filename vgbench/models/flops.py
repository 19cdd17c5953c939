"""Floating-point operations of a network, without loading torch's compiler or triton to count them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten


@torch.no_grad()
def count_flops(network: nn.Module, size: tuple[int, int]) -> int:
    """Return the FLOPs (a multiply-add is two) of one uint8 image of `size`, height and width in pixels, in eval mode.

    What has no formula (element-wise operations, pooling) counts as nothing, as in `torch.utils.flop_counter`. The
    network is run: on torch's meta device, which computes shapes alone, it would import the compiler (1.8 s).
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
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(out[0] if isinstance(out, tuple) else out, *args)
        return out


def _product(out: Tensor, a: Tensor, b: Tensor, *_: Any) -> int:
    return 2 * out.numel() * a.shape[-1]


def _sum_and_product(out: Tensor, bias: Tensor, a: Tensor, b: Tensor, *_: Any) -> int:
    return _product(out, a, b)


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *others: Any) -> int:
    _bias, _stride, _padding, _dilation, transposed = others[:5]
    # Each value of the output, transposed of the input, meets the weights of one of its channels.
    return 2 * (x if transposed else out).numel() * math.prod(weight.shape[1:])


def _attention(out: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    """Products of queries [B,H,L,E] with keys [B,H,S,E], and of what they weigh with values [B,H,S,V]."""
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


# torch's own table of formulas imports triton (0.13 s, 80 modules) and has those of training too.
_FORMULAS: dict[Any, Callable[..., int]] = {
    _ATEN.mm: _product,
    _ATEN.bmm: _product,
    _ATEN.addmm: _sum_and_product,
    _ATEN.baddbmm: _sum_and_product,
    _ATEN.convolution: _convolution,
    _ATEN._convolution: _convolution,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention: _attention,
    _ATEN._scaled_dot_product_efficient_attention: _attention,
    _ATEN._scaled_dot_product_cudnn_attention: _attention,
}
