"""What a user can set about testing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vgbench.errors import UserError
from vgbench.options import at_least, option
from vgbench.retrieval.compression_options import CompressionOptions
from vgbench.retrieval.index_options import IndexOptions
from vgbench.retrieval.pose_options import PoseOptions
from vgbench.retrieval.view_options import ViewOptions


def thresholds_in_order(wanted: Sequence[float] | None, usual: Sequence[float]) -> tuple[float, ...]:
    """Return the distances, metres, within which predictions are judged right, the one that counts first.

    Args:
        wanted: `--threshold`; None where it is unset.
        usual: what is judged then; its first counts, and comes first in `wanted` too where that has it.
    """
    return tuple(sorted((float(t) for t in wanted or usual), key=lambda t: t != usual[0]))


@dataclass(frozen=True)
class EvalOptions(PoseOptions, IndexOptions, CompressionOptions, ViewOptions, topic="evaluation"):
    """Options of extraction, search and metrics."""

    infer_batch_size: int = option(16, "images in one inference batch", range=at_least(1), common=True)
    recall_values: tuple[int, ...] = option(
        (1, 5, 10, 20), "the N of recall@N, in predictions", range=at_least(1), common=True
    )
    threshold: tuple[float, ...] | None = option(
        None,
        "a prediction is right within these distances, a table of recalls for each; --val_positive_dist_threshold "
        "comes first if it is one of them; maps and galleries show the first",
        range=at_least(0),
        unset="--val_positive_dist_threshold",
        metavar="METRES",
        common="eval",
    )

    def check_together(self) -> None:
        """Refuse what the chosen search does not look at, before a run folder is made."""
        if self.quantise != "none" and self.index != "exact":
            raise UserError(
                f"--index {self.index}: brings its own codes, --quantise {self.quantise} has others. Expected one of "
                "the two; for product codes in cells use --index ivfpq alone"
            )
        self._check_used()

    @property
    def searches_otherwise(self) -> bool:
        """Whether what is searched is not the stored descriptors, or not all of them."""
        return self.is_reduced or self.quantise != "none" or self.index != "exact"

    @property
    def is_lossy(self) -> bool:
        """Whether what is searched is not the descriptors as extracted, in float32, or not all of them."""
        return self.searches_otherwise or self.descriptors_dtype != "float32"

    def plain(self, recall_values: Sequence[int]) -> EvalOptions:
        """Return the options of a plain test: whole images, full descriptors, exact search, the usual threshold.

        What changes speed or memory and nothing else stays as it is.
        """
        return EvalOptions(
            infer_batch_size=self.infer_batch_size,
            recall_values=tuple(recall_values),
            search_backend=self.search_backend,
            search_backend_args=self.search_backend_args,
            efficient_ram_testing=self.efficient_ram_testing,
        )

    def searching_all(self) -> EvalOptions:
        """Return the same options but for how descriptors are made smaller and searched: all of them, exactly."""
        if not self.searches_otherwise:
            return self
        fields = (*dataclasses.fields(CompressionOptions), *dataclasses.fields(IndexOptions))
        kept = ("descriptors_dtype", "search_backend", "efficient_ram_testing")
        plain: dict[str, Any] = {field.name: field.default for field in fields if field.name not in kept}
        return dataclasses.replace(self, **plain)

    def _check_used(self) -> None:
        """Refuse what the chosen search does not look at."""
        if not self.is_lossy and self.compare_queries != EvalOptions.compare_queries:
            raise UserError(
                f"--compare_queries {self.compare_queries}: nothing is lossy. Expected --index, --quantise, --pca_dim, "
                "--pca_file or --descriptors_dtype float16 beside it; leave it out"
            )
        exact = self.index == "exact"
        if not exact or self.quantise != "none":
            for name in ("search_backend", "efficient_ram_testing"):
                if getattr(self, name) != getattr(EvalOptions, name):
                    other = f"--index {self.index}" if not exact else f"--quantise {self.quantise}"
                    raise UserError(f"--{name}: is of the exact search, not of {other}. Expected one of the two")
