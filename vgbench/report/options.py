"""What a user can set about what a run leaves to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import Mark, Options, at_least, option

PAIRS_FORMATS = ("hloc", "kapture", "msls")
_COUNT = at_least(0)


@dataclass(frozen=True)
class ReportOptions(Options):
    """Options of report.html and of what other programs read."""

    report_queries: int = option(60, "queries in the report's gallery, worst failures first", range=_COUNT)
    heat_maps: int = option(
        20, "queries of the gallery, from the first, that get heat maps of where the network looks; 0: none",
        range=_COUNT,
    )  # fmt: skip
    heat_seconds: float | None = option(
        None,
        "seconds after which no further heat map is begun; those made are kept for the next report; 0: no limit",
        range=_COUNT,
        needs="heat_maps",
        unset="a tenth of what the test took",
    )
    save_preds: int = option(
        0, "JPEGs of the first N queries and their predictions in preds/", range=_COUNT,
        common="eval",
    )  # fmt: skip
    pairs_out: Path | None = option(
        None, "write each query's predictions as pairs of images to this file", marks=Mark.THIS_RUN
    )
    pairs_format: str = option(
        "hloc",
        "of --pairs_out: hloc (`query database`), kapture (`query, database, score`) or msls (the challenge's: keys, "
        "a line per query)",
        choices=PAIRS_FORMATS,
        needs="pairs_out",
    )
    pairs_num: int | None = option(
        None, "predictions of each query in --pairs_out", range=at_least(1), needs="pairs_out",
        unset="as many as the largest of --recall_values",
    )  # fmt: skip

    def check_together(self) -> None:
        """Raise UserError for a file that cannot be written."""
        if self.pairs_out is not None and self.pairs_out.is_dir():
            raise UserError(f"--pairs_out {self.pairs_out}: is a folder. Expected the name of a file to write")
