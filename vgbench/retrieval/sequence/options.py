"""What a user can set about sequences."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import IN_ORDER, Mark, Options, above, arguments, at_least, option

ORDERS = ("auto", "file", "timestamp", "pano_id", "list")
_HMM = "sequence=viterbi|filter"


@dataclass(frozen=True)
class FrameOptions(Options, needs="sequence or seq_aggregation", topic="sequence"):
    """Which images are frames of one sequence."""

    seq_length: int = option(
        5,
        "frames that a query is found with, itself among them, or that are described as one; 1: each image alone",
        range=at_least(1),
        marks=Mark.TAKEN_OVER,
    )
    seq_order: str = option(
        "auto",
        "what puts images into their order: <folder>_sequences.csv beside the folder (file), the time of day in their "
        "names (a sequence a day), the number at the end of the pano_id (a sequence for what stands before it), or the "
        "list as it is read (a sequence a folder); auto: the first of these that there is for all images",
        choices=ORDERS,
        marks=Mark.TAKEN_OVER,
    )


@dataclass(frozen=True)
class SequenceOptions(FrameOptions, needs="sequence", topic="sequence"):
    """Queries that are frames of a sequence."""

    sequence: str | None = option(
        None,
        "find each query with the frames around it: the mean distance along lines of constant speed (window, SeqSLAM), "
        "the best path of a hidden Markov model (viterbi), or the probability given the frames so far (filter, online)",
        registry="vgbench.retrieval.sequence:SEQUENCES",
        metavar="METHOD",
        unset="each query alone",
        common="eval",
    )
    sequence_args: tuple[str, ...] | None = arguments("sequence")
    seq_future: int | None = option(
        None,
        "how many of these frames come after the query; 0 answers at once",
        range=at_least(0),
        unset="half of them, and 0 for filter",
    )
    seq_velocity: tuple[float, float] = option(
        (0.8, 1.2), "slowest and fastest line, in database images a query", range=above(0), together=IN_ORDER,
        needs="sequence=window",
    )  # fmt: skip
    seq_band: tuple[int, int] = option(
        (0, 2), "fewest and most database images from one query to the next, all steps alike; negative: backwards",
        together=IN_ORDER, needs=_HMM,
    )  # fmt: skip
    seq_contrast: float = option(
        5.0,
        "how much likelier a frame makes its nearest images (the 2.5% quantile of its distances) than its farthest "
        "(97.5%)",
        range=above(1),
        needs=_HMM,
    )

    def check_together(self) -> None:
        """Raise UserError for more frames to come than there are, or for a filter that looks ahead."""
        if self.seq_future is not None and self.seq_future >= self.seq_length:
            raise UserError(
                f"--seq_future {self.seq_future}: the query is one of the {self.seq_length} frames of --seq_length. "
                f"Expected at most {self.seq_length - 1}"
            )
        if self.sequence == "filter" and self.seq_future:
            raise UserError(
                f"--seq_future {self.seq_future}: --sequence filter knows the frames so far alone. Expected 0; leave "
                "it out, or use --sequence viterbi"
            )

    @property
    def future(self) -> int:
        """How many frames of a query's window come after it."""
        if self.seq_future is not None:
            return self.seq_future
        return 0 if self.sequence == "filter" else (self.seq_length - 1) // 2
