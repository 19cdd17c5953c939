"""What a user can set about the aggregations that have options of their own.

An aggregation's options have its own parameters' names, and stand here so that the command line knows them without
loading any network. One that is not here is set by `--aggregation_args name=value`.
"""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.options import Options, above, at_least, option

_COUNT = at_least(1)


@dataclass(frozen=True)
class ProjectedOptions(Options, needs="aggregation=convap|convgem|mixvpr", topic="aggregation"):
    """Aggregations that project a map to other channels first."""

    out_channels: int | None = option(
        None,
        "channels that they project a map to",
        range=_COUNT,
        unset="512 for convap and convgem, 1024 for mixvpr",
    )


@dataclass(frozen=True)
class GridOptions(Options, needs="aggregation=gem", topic="aggregation"):
    """GeM in the cells of a grid."""

    gem_grid: int | None = option(
        None, "cells a side, each of them pooled by itself", range=_COUNT, unset="1, the whole map"
    )


@dataclass(frozen=True)
class ConvApOptions(Options, needs="aggregation=convap", topic="aggregation"):
    """Conv-AP."""

    s1: int | None = option(None, "rows of cells that it averages over", range=_COUNT, unset="2")
    s2: int | None = option(None, "columns of cells", range=_COUNT, unset="2")


@dataclass(frozen=True)
class CosPlaceOptions(Options, needs="aggregation=cosplace|r2former|pairvpr", topic="aggregation"):
    """CosPlace, and heads that end with one layer as it does."""

    out_dim: int | None = option(
        None, "dimensions of the descriptor", range=_COUNT, unset="512 for cosplace and pairvpr, 256 for r2former"
    )


@dataclass(frozen=True)
class MixVprOptions(Options, needs="aggregation=mixvpr", topic="aggregation"):
    """MixVPR."""

    in_h: int | None = option(
        None, "height of the map that its weights are for", range=_COUNT, unset="what --resize gives"
    )
    in_w: int | None = option(None, "width of that map", range=_COUNT, unset="what --resize gives")
    mix_depth: int | None = option(None, "feature mixers in a row", range=_COUNT, unset="4")
    mlp_ratio: float | None = option(
        None,
        "width of a mixer's hidden layer, as a multiple of the number of positions in the map",
        range=above(0),
        unset="1",
    )
    out_rows: int | None = option(None, "values that remain of each channel", range=_COUNT, unset="4")


@dataclass(frozen=True)
class ClusterOptions(Options, needs="aggregation=salad|megaloc|qaa|fol", topic="aggregation"):
    """SALAD, and the heads that have clusters as it has."""

    num_clusters: int | None = option(None, "clusters", range=_COUNT, unset="64")
    cluster_dim: int | None = option(
        None, "dimensions of a cluster", range=_COUNT, unset="256 for megaloc, 128 for the others"
    )


@dataclass(frozen=True)
class SaladOptions(Options, needs="aggregation=salad|megaloc|fol", topic="aggregation"):
    """SALAD, and the heads that have one inside."""

    token_dim: int | None = option(None, "dimensions of the global token", range=_COUNT, unset="256")
    mlp_dim: int | None = option(None, "width of their hidden layers", range=_COUNT, unset="512")
    dropout: float | None = option(None, "dropout in their hidden layers", range=at_least(0, below=1), unset="0.3")


@dataclass(frozen=True)
class ProjectionOptions(Options, needs="aggregation=megaloc|selavpr_pp", topic="aggregation"):
    """Heads that end with a projection."""

    feat_dim: int | None = option(
        None, "dimensions of the descriptor", range=_COUNT,
        unset="8448 for megaloc; for selavpr_pp 2048 for up to 768 channels, else 4096",
    )  # fmt: skip


@dataclass(frozen=True)
class QueryOptions(Options, needs="aggregation=boq|edtformer", topic="aggregation"):
    """Heads whose learned queries ask the local features."""

    proj_channels: int | None = option(
        None, "channels that it projects to, a multiple of 64 for boq", range=_COUNT,
        unset="512 for boq, 256 for edtformer",
    )  # fmt: skip
    num_layers: int | None = option(None, "layers", range=_COUNT, unset="2")
    row_dim: int | None = option(
        None, "values that remain of each channel", range=_COUNT, unset="32 for boq, 16 for edtformer"
    )


@dataclass(frozen=True)
class QueryCountOptions(Options, needs="aggregation=boq|edtformer|qaa", topic="aggregation"):
    """How many queries they have."""

    num_queries: int | None = option(
        None, "learned queries, of a layer in boq", range=_COUNT, unset="32 for boq, 64 for edtformer, 256 for qaa"
    )


@dataclass(frozen=True)
class AggregationOptions(
    QueryCountOptions,
    QueryOptions,
    ProjectionOptions,
    SaladOptions,
    ClusterOptions,
    MixVprOptions,
    CosPlaceOptions,
    ConvApOptions,
    GridOptions,
    ProjectedOptions,
):
    """Options of single aggregations, by the names of their authors; what is unset is as published.

    Raises:
        UserError: a value is out of its range.
    """
