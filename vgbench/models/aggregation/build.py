"""From names and options to an aggregation layer, with its L2 placement and its fully connected layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.arguments import call_checked
from vgbench.models.base import Aggregation, as_aggregation
from vgbench.models.layers import L2Norm, full_precision
from vgbench.models.options import L2_PLACES

# What the L2 normalisation before a pooling of tokens [B,N,C] goes over: the dimension of each.
L2_OVER = {"positions": 1, "channels": 2}


class Head(Aggregation, nn.Sequential):
    """Layers in a row that together are an aggregation."""

    def __init__(self, *layers: nn.Module, descriptors_dim: int) -> None:
        super().__init__(*layers)
        self.descriptors_dim = descriptors_dim


class Projection(nn.Linear):
    """A fully connected layer [B,D] to [B,out_features] in float32."""

    def forward(self, input: Tensor) -> Tensor:
        with full_precision(input):
            return super().forward(input.float())


def build_aggregation(
    name: str,
    in_channels: int | None = None,
    *,
    l2: str = "before_pool",
    fc_output_dim: int | None = None,
    l2_over: str = "channels",
    **options: Any,
) -> Aggregation:
    """Return the aggregation `name` for local features of `in_channels` channels, with `.descriptors_dim`.

    Args:
        name: one of AGGREGATIONS, or "package.module:Class" of your own.
        in_channels: channels of the local features; aggregations that call it `num_channels` take that option instead.
        l2: where the L2 normalisation of mac, spoc, gem and rmac sits: "before_pool", "after_pool" or "none".
        fc_output_dim: project the descriptors to this many dimensions and L2-normalise them.
        l2_over: what a normalisation before pooling tokens goes over: "channels" (each token becomes of unit length, as
            each position of a map does) or "positions" (each channel, as in the Deep VG Benchmark).
        options: the aggregation's own, as its class declares them.

    Raises:
        UserError: an unknown name or option, or a bad value.
    """
    cls = AGGREGATIONS.resolve(name)
    channels = _channels(name, in_channels, options.pop("num_channels", None))
    if l2 not in L2_PLACES:
        raise UserError(f"--l2 {l2}: not known. Expected one of {', '.join(L2_PLACES)}")
    pool = as_aggregation(name, call_checked(f"aggregation {name}", cls, (channels,), options))
    dim = int(pool.descriptors_dim)
    if pool.places_l2:
        dim_before = L2_OVER[l2_over] if options.get("tokens") else 1
        around = {"before_pool": (L2Norm(dim_before), pool), "after_pool": (pool, L2Norm()), "none": (pool,)}[l2]
        pool = Head(*around, descriptors_dim=dim)
    if fc_output_dim is not None:
        if fc_output_dim < 1:
            raise UserError(f"--fc_output_dim {fc_output_dim}: not a dimension. Expected a positive number")
        pool = Head(pool, Projection(dim, fc_output_dim), L2Norm(), descriptors_dim=fc_output_dim)
    return pool


def _channels(name: str, in_channels: int | None, num_channels: Any) -> int:
    channels = in_channels if in_channels is not None else num_channels
    if channels is None or (num_channels is not None and channels != num_channels):
        raise UserError(
            f"aggregation {name}: in_channels is {in_channels}, num_channels {num_channels}. "
            "Expected the channels of the local features, in one of the two"
        )
    return int(channels)
