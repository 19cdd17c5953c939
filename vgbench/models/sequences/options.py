"""What a user can set about descriptors of sequences."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.options import Options, arguments, at_least, option


@dataclass(frozen=True)
class SequenceNetworkOptions(Options, topic="sequence"):
    """How descriptors of frames become one of their sequence."""

    seq_aggregation: str | None = option(
        None,
        "describe sequences of --seq_length frames, and find sequences: how descriptors of frames become one",
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
