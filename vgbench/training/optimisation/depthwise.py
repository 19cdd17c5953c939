"""Depthwise convolutions whose bf16 gradients are slow on a CPU, with those gradients in float32.

oneDNN has no bf16 kernels for the input gradient of a strided depthwise convolution, nor for the weight gradient of
one larger than 3x3: in bf16 they took 2 to 40 times as long as in float32 (which is also the more exact). The forward
pass, and every other gradient, stays in bf16. Where oneDNN has no bf16 at all (before AVX-512) these convolutions have
both gradients in float32: torch's own sum up in bf16, 1 to 2% off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vgbench.runtime import Runtime, onednn_has_bf16


@contextlib.contextmanager
def fast_depthwise_gradients(runtime: Runtime) -> Iterator[None]:
    """Convolutions called in the body have their gradients computed by the fast route of the runtime's machine."""
    if runtime.device.type == "cpu" and runtime.amp_dtype == torch.bfloat16 and not runtime.compile:
        with _Route():
            yield
    else:
        yield


class _Route(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and torch.is_grad_enabled():
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    slow = groups > 1 and weight.shape[1] == 1 and (_two(stride) != [1, 1] or max(weight.shape[2:]) > 3)
    if not slow or isinstance(padding, str) or not (input.requires_grad or weight.requires_grad):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    geometry = (_two(stride), _two(padding), _two(dilation), groups)
    convolved: Tensor = _DepthwiseConv2d.apply(input, weight, bias, *geometry)
    return convolved


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int],
        dilation: list[int], groups: int,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight)
        ctx.biased, ctx.geometry = bias is not None, (stride, padding, dilation, groups)
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, _, _, _ = ctx.geometry
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.biased
        by_input = by_weight = None
        emulated = not onednn_has_bf16()
        if needs_input:
            dtype = torch.float32 if stride != [1, 1] or emulated else grad.dtype
            by_input = _gradient(grad, x, weight, ctx.geometry, dtype, which=0).to(x.dtype)
        if needs_weight:
            dtype = torch.float32 if max(weight.shape[2:]) > 3 or emulated else grad.dtype
            by_weight = _gradient(grad, x, weight, ctx.geometry, dtype, which=1).to(weight.dtype)
        by_bias = grad.float().sum((0, 2, 3)) if needs_bias else None
        return by_input, by_weight, by_bias, None, None, None, None


def _gradient(
    grad: Tensor, x: Tensor, weight: Tensor, geometry: tuple[Any, ...], dtype: torch.dtype, which: int
) -> Tensor:
    stride, padding, dilation, groups = geometry
    mask = [place == which for place in range(3)]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad.to(dtype), x.to(dtype), weight.to(dtype), None, stride, padding, dilation, False, [0, 0], groups, mask
    )
    return gradients[which]


def _two(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(v) for v in value]
