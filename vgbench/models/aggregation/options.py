"""What a user can set about the aggregations that have options of their own."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

from vgbench.errors import UserError
from vgbench.options import check_above_zero, check_at_least, option

_mixvpr = partial(option, needs="aggregation=mixvpr")
_salad = partial(option, needs="aggregation=salad|megaloc")
_boq = partial(option, needs="aggregation=boq")


@dataclass(frozen=True)
class AggregationOptions:
    """Options of single aggregations, by the names of their authors; what is unset is as published.

    Raises:
        UserError: a value is out of its range.
    """

    out_channels: int | None = option(
        None,
        "channels that convap, convgem and mixvpr project a map to; unset: 512, 512 and 1024",
        needs="aggregation=convap|convgem|mixvpr",
    )
    gem_grid: int | None = option(
        None, "gem: cells a side, each of them pooled by itself; unset: 1, the whole map", needs="aggregation=gem"
    )
    s1: int | None = option(None, "convap: rows of cells that it averages over; unset: 2", needs="aggregation=convap")
    s2: int | None = option(None, "convap: columns of cells; unset: 2", needs="aggregation=convap")
    out_dim: int | None = option(None, "cosplace: dimensions; unset: 512", needs="aggregation=cosplace")
    in_h: int | None = _mixvpr(None, "mixvpr: height of the map that its weights are for; unset: what --resize gives")
    in_w: int | None = _mixvpr(None, "mixvpr: width of that map; unset: what --resize gives")
    mix_depth: int | None = _mixvpr(None, "mixvpr: feature mixers in a row; unset: 4")
    mlp_ratio: float | None = _mixvpr(None, "mixvpr: width of a mixer's hidden layer, of the map's positions; unset: 1")
    out_rows: int | None = _mixvpr(None, "mixvpr: values that remain of each channel; unset: 4")
    num_clusters: int | None = _salad(None, "salad and megaloc: clusters of the optimal transport; unset: 64")
    cluster_dim: int | None = _salad(None, "salad and megaloc: dimensions of a cluster; unset: 128 and 256")
    token_dim: int | None = _salad(None, "salad and megaloc: dimensions of the global token; unset: 256")
    mlp_dim: int | None = _salad(None, "salad and megaloc: width of their hidden layers; unset: 512")
    dropout: float | None = _salad(None, "salad and megaloc: dropout in their hidden layers; unset: 0.3")
    feat_dim: int | None = option(None, "megaloc: dimensions; unset: 8448", needs="aggregation=megaloc")
    proj_channels: int | None = _boq(None, "boq: channels that it projects a map to, a multiple of 64; unset: 512")
    num_queries: int | None = _boq(None, "boq: learned queries of a layer; unset: 32")
    num_layers: int | None = _boq(None, "boq: layers; unset: 2")
    row_dim: int | None = _boq(None, "boq: values that remain of each channel; unset: 32")

    def __post_init__(self) -> None:
        whole = (field.name for field in fields(AggregationOptions) if field.name not in ("mlp_ratio", "dropout"))
        check_at_least(self, 1, *whole)
        check_above_zero(self, "mlp_ratio")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"--dropout {self.dropout}: out of range. Expected at least 0 and less than 1")
