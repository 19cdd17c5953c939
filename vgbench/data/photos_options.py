"""What a user can set about own photographs, without coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.options import Options, at_least, option


@dataclass(frozen=True)
class PhotosOptions(Options, needs="no_labels"):
    """Options of placing photographs whose coordinates nobody knows."""

    no_labels: bool = option(
        False,
        "--queries_folder is any folder of photographs without coordinates (jpg or png, of any size, in any layout): "
        "find where they were taken among the dataset's test database and write predictions.csv; there are no recalls",
        common=True,
    )
    database_folder: Path | None = option(
        None,
        "with --no_labels: find the photographs among those of this folder, in any layout and without coordinates, "
        "instead of in a dataset; predictions are file names",
    )
    confidence_queries: int = option(
        500,
        "with --no_labels: learn the confidence from this many of the dataset's own test queries at most, where "
        "training left none; 0: go without a confidence",
        range=at_least(0),
    )
