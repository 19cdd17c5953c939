"""Small layers that several methods share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError


@contextlib.contextmanager
def full_precision(tensor: Tensor) -> Iterator[None]:
    """Switch autocast off on the device of a tensor [...]: sums and norms over many terms need float32."""
    with torch.autocast(tensor.device.type, enabled=False):
        yield


def check_heads(aggregation: str, heads: int, channels: int) -> None:
    """Raise UserError for attention heads that do not divide the channels of an aggregation."""
    if heads < 1 or channels % heads:
        raise UserError(
            f"--aggregation {aggregation}: {heads} attention heads for {channels} channels. Expected a divisor"
        )


def l2_normalise(x: Tensor, dim: int = 1) -> Tensor:
    """Scale `x` [...] to unit Euclidean length along `dim`; float32 of the same shape, whatever comes in."""
    return F.normalize(x.float(), p=2.0, dim=dim)


class L2Norm(nn.Module):
    """Unit Euclidean length along one dimension (1: the channels of a map, or a descriptor)."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return l2_normalise(x, self.dim)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": output ceil(size / stride), the odd row and column at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        top, bottom = same_padding(input.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(input.shape[-1], self.kernel_size[1], self.stride[1])
        if top == bottom and left == right:
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the rows (or columns) of zeros before and after an axis of `size` under "SAME" padding."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
