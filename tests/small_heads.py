"""Options that make every aggregation small enough for tests."""

from __future__ import annotations

from typing import Any


def small_options(name: str, height: int, width: int) -> dict[str, Any]:
    """Options of one aggregation, for a map of `height` x `width` cells; {} where it has no size to choose."""
    options: dict[str, dict[str, Any]] = {
        "netvlad": {"netvlad_clusters": 5},
        "crn": {"netvlad_clusters": 5},
        "convap": {"out_channels": 6},
        "convgem": {"out_channels": 6},
        "cosplace": {"out_dim": 6},
        "mixvpr": {"in_h": height, "in_w": width, "out_channels": 6, "out_rows": 3},
        "salad": {"num_clusters": 4, "cluster_dim": 3, "token_dim": 5, "mlp_dim": 9},
        "megaloc": {"num_clusters": 4, "cluster_dim": 3, "token_dim": 5, "mlp_dim": 9, "feat_dim": 11},
        "supervlad": {"supervlad_clusters": 3, "ghost_clusters": 2},
        "cricavpr": {"nhead": 4},
        "edtformer": {"num_queries": 4, "proj_channels": 6, "row_dim": 3, "nhead": 4},
        "qaa": {"num_clusters": 4, "cluster_dim": 6, "num_queries": 9, "feature_nheads": 2, "score_nheads": 3},
        "vlad_buff": {"netvlad_clusters": 4, "nv_pca": 6},
        "selavpr_pp": {"feat_dim": 10},
        "fol": {"num_clusters": 4, "cluster_dim": 3, "token_dim": 5, "mlp_dim": 9},
        "r2former": {"out_dim": 6, "num_local": 9},
        "pairvpr": {"out_dim": 6, "decoder_dim": 8, "decoder_depth": 2, "decoder_heads": 2},
        "boq": {"proj_channels": 64, "num_queries": 4, "row_dim": 3},
    }
    return options.get(name, {})
