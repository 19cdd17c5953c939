"""What a user can set about descriptors of sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vgbench.options import Options, arguments, at_least, option


@dataclass(frozen=True)
class SequenceNetworkOptions(Options, topic="sequence"):
    """How descriptors of frames become one of their sequence."""

    seq_aggregation: str | None = option(
        None,
        "find sequences, by one descriptor of their --seq_length frames",
        registry="vgbench.models.sequences:SEQ_AGGREGATIONS",
        unset="images alone",
        metavar="NAME",
        common=True,
    )
    seq_aggregation_args: tuple[str, ...] | None = arguments("seq_aggregation")
    seqnet_width: int | None = option(
        None, "frames that a filter of SeqNet sees", range=at_least(1), unset="5", needs="seq_aggregation=seqnet"
    )
    seqnet_dim: int | None = option(
        None, "dimensions of SeqNet's descriptors", range=at_least(1), unset="those of a frame",
        needs="seq_aggregation=seqnet",
    )  # fmt: skip


def over_frames(config: Mapping[str, Any]) -> str:
    """Return what a name ends with where the network is of sequences: " + seqgem of 5"; else ""."""
    name = config.get("seq_aggregation")
    return f" + {name} of {config.get('seq_length')}" if name else ""
