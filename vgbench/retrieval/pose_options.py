"""What a user can set about the predicted coordinates."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.options import Options, at_least, option


@dataclass(frozen=True)
class PoseOptions(Options, topic="evaluation"):
    """Options of the predicted coordinates."""

    pose_candidates: int = option(
        5, "predictions, from the first, that the weighted position of a query is made of", range=at_least(1)
    )
    pose_radius: float = option(
        25.0, "metres within which predictions agree on the weighted position", range=at_least(0)
    )
