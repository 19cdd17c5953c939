"""What a user can set about the protocol of a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vgbench.errors import UserError
from vgbench.options import Options, at_least, between, option

if TYPE_CHECKING:
    from vgbench.data.positives import GroundTruth


@dataclass(frozen=True)
class ProtocolOptions(Options):
    """What is tested, and what counts as right."""

    split: str = option("test", "the split that is tested", choices=("val", "test"), common="eval")
    ground_truth: Path | None = option(
        None,
        "file of the right database images of each query, for sets without coordinates: .csv (a line for each query: "
        "its name, then theirs) or .npy (pairs of rows [M,2], padded rows [Q,K], or an array of arrays)",
    )
    frame_tolerance: int | None = option(
        None,
        "two drives frame by frame: a database image is right within this many frames of the query's number, which is "
        "the last number of its name (Nordland: 10, or 1 for its other protocol)",
        range=at_least(0),
    )
    heading_threshold: float | None = option(
        None,
        "a prediction within the threshold is right only if its heading is within this many degrees of the query's",
        range=between(0, 180),
    )

    def check_together(self) -> None:
        """Raise UserError for two answers to what is right."""
        if self.ground_truth is not None and self.frame_tolerance is not None:
            raise UserError("--ground_truth and --frame_tolerance: both say what is right. Expected one of them")
        if self.heading_threshold is not None and not self.truth.located:
            raise UserError("--heading_threshold: is of positions. Expected no --ground_truth and no --frame_tolerance")

    @property
    def truth(self) -> GroundTruth:
        """What these options say is right."""
        from vgbench.data.positives import GroundTruth  # with NumPy, which options are parsed without

        return GroundTruth(self.heading_threshold, self.frame_tolerance, self.ground_truth)
