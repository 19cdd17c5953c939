"""What a user can set about what a run leaves to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import option

PAIRS_FORMATS = ("hloc", "kapture")


@dataclass(frozen=True)
class ReportOptions:
    """Options of report.html and of what other programs read."""

    report_queries: int = option(60, "queries in the report's gallery, worst failures first")
    heat_maps: int = option(
        20, "queries of the gallery, from the first, that get heat maps of where the network looks; 0: none"
    )
    heat_seconds: float = option(
        2.0,
        "seconds after which no further heat map is begun; those made are kept for the next report; 0: no limit",
        needs="heat_maps",
    )
    save_preds: int = option(0, "write the first so many queries with their predictions as JPEG files, in preds/")
    pairs_out: Path | None = option(None, "write each query's predictions as pairs of images to this file")
    pairs_format: str = option(
        "hloc",
        "of --pairs_out: hloc (`query database`) or kapture (`query, database, score`)",
        choices=PAIRS_FORMATS,
        needs="pairs_out",
    )
    pairs_num: int | None = option(
        None, "predictions a query in --pairs_out; unset: all of --recall_values", needs="pairs_out"
    )

    def __post_init__(self) -> None:
        for name in ("report_queries", "heat_maps", "save_preds"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name} {getattr(self, name)}: expected 0 or more queries")
        if not 0 <= self.heat_seconds < float("inf"):
            raise UserError(f"--heat_seconds {self.heat_seconds}: expected 0 seconds or more")
        if self.pairs_num is not None and self.pairs_num < 1:
            raise UserError(f"--pairs_num {self.pairs_num}: expected at least 1 prediction a query")
        if self.pairs_format not in PAIRS_FORMATS:
            raise UserError(f"--pairs_format {self.pairs_format}: expected one of {', '.join(PAIRS_FORMATS)}")
        if self.pairs_out is not None and self.pairs_out.is_dir():
            raise UserError(f"--pairs_out {self.pairs_out}: is a folder. Expected the name of a file to write")
