"""What a user can set about sequences as the unit of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vgbench.options import Mark, Options, above, at_least, option

if TYPE_CHECKING:
    from vgbench.data.sequences import SequenceRules

MATCHES = ("any", "centre")


@dataclass(frozen=True)
class WindowOptions(Options, needs="seq_aggregation", topic="sequence"):
    """How images are cut into sequences that are described as one."""

    seq_stride: int = option(
        1, "frames from one sequence to the next, which share those between", range=at_least(1), marks=Mark.TAKEN_OVER
    )
    seq_jump_metres: float | None = option(
        50.0, "a longer way from one frame to the next ends a sequence; 0: none does", range=at_least(0),
        marks=Mark.TAKEN_OVER,
    )  # fmt: skip
    seq_jump_seconds: float | None = option(
        None, "a longer time from one frame to the next ends a sequence, where the time of day orders them",
        range=above(0), unset="none does", marks=Mark.TAKEN_OVER,
    )  # fmt: skip
    seq_positives: str = option(
        "any",
        "a sequence is right if any of its frames lies within the threshold of any of the query's (MSLS, SeqVLAD), or "
        "the central frame of the query's central one",
        choices=MATCHES,
        marks=Mark.TAKEN_OVER,
    )

    def rules(self, length: int, order: str) -> SequenceRules:
        """Return how images are cut into sequences of `length` frames; `order` as `--seq_order`."""
        from vgbench.data.sequences import SequenceRules  # with SciPy, which options are parsed without

        return SequenceRules(
            length, order, self.seq_stride, self.seq_jump_metres or None, self.seq_jump_seconds, self.seq_positives
        )
