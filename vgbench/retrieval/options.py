"""What a user can set about testing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgbench.errors import UserError
from vgbench.options import DISTINCT, Mark, Options, above, arguments, at_least, option

POOLINGS = ("mean", "max", "gem", "concat")
PRESETS = ("down", "up", "random_crop")
REFINE_IVFPQ = 16
REFINE_HASH = 5
LEARNED = "hash"  # the codes that a network brings
_PRODUCT_CODES = "quantise=pq or index=ivfpq"
_COUNT = at_least(1)


@dataclass(frozen=True)
class ViewOptions(Options, topic="evaluation"):
    """Options of how an image becomes the images that are described."""

    test_method: str = option(
        "hard_resize",
        "how query images are resized or cropped",
        registry="vgbench.retrieval.query_methods:QUERY_METHODS",
        common=True,
    )
    test_method_args: tuple[str, ...] | None = arguments("test_method")
    majority_weight: float = option(
        0.01, "what the vote of one crop subtracts from a squared distance", range=at_least(0),
        needs="test_method=maj_voting",
    )  # fmt: skip
    scales: tuple[float, ...] = option(
        (1.0,), "describe each image, of the database too, at these multiples of --resize and pool the descriptors",
        range=above(0, at_most=16), together=DISTINCT,
    )  # fmt: skip
    scale_pooling: str = option(
        "mean", "how descriptors of several scales become one; gem is the power mean with p = 3", choices=POOLINGS
    )
    multi_scale: str | None = option(
        None,
        "instead of --scales: down (480x640, 400x534, 343x458, 332x427), up (480x640, 576x768, 672x896, 720x960), or "
        "random_crop (five windows of 320x430, at the same places of every image)",
        choices=PRESETS,
    )

    def check_together(self) -> None:
        """Raise UserError where --multi_scale or --scale_pooling has nothing to do."""
        if self.multi_scale is not None and tuple(self.scales) != (1.0,):
            raise UserError("--multi_scale: brings its own sizes. Expected it without --scales; leave one of them out")
        if self.scale_pooling != "mean" and len(self.scales) == 1 and self.multi_scale is None:
            raise UserError(
                f"--scale_pooling {self.scale_pooling}: there is one scale, nothing to pool. Expected --scales or "
                "--multi_scale beside it; leave it out"
            )


@dataclass(frozen=True)
class CompressionOptions(Options):
    """Options of how descriptors are made smaller."""

    descriptors_dtype: str = option(
        "float32", "how descriptors are stored on disk; float16 halves the file", choices=("float32", "float16")
    )
    pca_dim: int | None = option(
        None, "project descriptors to this many dimensions by PCA, and normalise them again", range=at_least(1),
        unset="no PCA", common="eval",
    )  # fmt: skip
    pca_whiten: bool = option(
        True, "give every dimension of the PCA the same variance", needs="pca_dim or pca_file",
        without="--no-pca_whiten: there is no PCA",
    )  # fmt: skip
    pca_dataset_folder: str | None = option(
        None,
        "folder of the images that the PCA is fitted to, below the folder of all datasets, e.g. "
        "pitts30k/images/train/database",
        unset="the train database of --dataset_name",
        metavar="FOLDER",
        needs="pca_dim",
        without="--pca_dataset_folder: there is no PCA to fit",
    )
    pca_file: Path | None = option(
        None, "a PCA that an earlier run wrote (descriptors/*pca*.h5), instead of fitting one"
    )
    quantise: str = option(
        "none",
        "keep database descriptors as codes and search among those; binary: one bit a dimension, Hamming distances; "
        "hash: those that a network has learned (--hash_bits), whose default it is; pq: product quantisation, "
        "asymmetric distances; all need faiss",
        registry="vgbench.retrieval.searching.tables:QUANTISERS",
    )
    quantise_args: tuple[str, ...] | None = arguments("quantise")
    pq_subvectors: int | None = option(
        None, "parts of a descriptor, a code each (a byte at 8 bits); they divide its dimensions", range=at_least(1),
        unset="up to 64", needs=_PRODUCT_CODES, without="--pq_subvectors: there are no product codes",
    )  # fmt: skip
    pq_bits: int = option(
        8,
        "bits of a part's code",
        choices=(4, 8),
        needs=_PRODUCT_CODES,
        without="--pq_bits: there are no product codes",
    )

    @property
    def is_reduced(self) -> bool:
        """Whether there is a PCA."""
        return self.pca_dim is not None or self.pca_file is not None

    def check_together(self) -> None:
        """Raise UserError for a PCA of two origins, and for one that is not there."""
        if self.pca_file is not None and self.pca_dataset_folder is not None:
            raise UserError("--pca_file: is fitted already. Expected no --pca_dataset_folder beside it; leave one out")
        if self.pca_file is not None and not self.pca_file.is_file():
            raise UserError(
                f"--pca_file {self.pca_file}: no such file. Expected one that an evaluation with --pca_dim wrote"
            )


@dataclass(frozen=True)
class CellOptions(Options, needs="index=ivf|ivfpq", topic="index"):
    """Options of indices that divide the database into cells."""

    nlist: int | None = option(
        None,
        "cells of the database",
        range=_COUNT,
        unset="4 times the square root of the number of database images",
    )
    nprobe: int = option(32, "cells that are searched for each query", range=_COUNT)


@dataclass(frozen=True)
class GraphOptions(Options, needs="index=hnsw", topic="index"):
    """Options of indices that are graphs."""

    hnsw_m: int = option(32, "neighbours of a node of the graph", range=at_least(2))
    ef_construction: int = option(80, "candidates that are kept while the graph is built", range=_COUNT)
    ef_search: int = option(128, "candidates that are kept while the graph is searched", range=_COUNT)


@dataclass(frozen=True)
class IndexOptions(GraphOptions, CellOptions):
    """Options of how the nearest descriptors are found."""

    search_backend: str = option(
        "torch",
        "the library that computes exact search",
        registry="vgbench.retrieval.searching.tables:SEARCH_BACKENDS",
        marks=Mark.NO_DISTANCE,
    )
    search_backend_args: tuple[str, ...] | None = arguments("search_backend")
    index: str = option(
        "exact",
        "exact: compare with all; ivf: with those of the nearest cells; ivfpq: with their codes; hnsw: along a graph "
        "(in memory); the last three need faiss and report what they lose",
        registry="vgbench.retrieval.searching.tables:INDICES",
    )
    index_args: tuple[str, ...] | None = arguments("index")
    refine: int | None = option(
        None,
        "of an approximate search, compute this many times the wanted predictions again, exactly, from the file; "
        "0: none",
        range=at_least(0),
        needs="index=ivf|ivfpq|hnsw or quantise=binary|hash|pq",
        without="--refine {value}: the search is exact already",
        unset=f"{REFINE_IVFPQ} with ivfpq, {REFINE_HASH} with hash, else 0",
    )
    compare_queries: int = option(
        1000,
        "search exactly for up to this many queries as well, to report what approximation and compression lose",
        range=at_least(0),
        marks=Mark.NO_DISTANCE,
    )
    efficient_ram_testing: bool = option(
        False,
        "search in blocks of a quarter of the usual size: slower, with less memory",
        marks=Mark.NO_DISTANCE,
    )

    def refined(self, quantise: str = "none") -> int:
        """How many times the wanted predictions are scored again, beside codes of a kind (`--quantise`)."""
        if self.refine is not None:
            return self.refine
        return REFINE_IVFPQ if self.index == "ivfpq" else REFINE_HASH if quantise == "hash" else 0


@dataclass(frozen=True)
class PoseOptions(Options, topic="evaluation"):
    """Options of the predicted coordinates."""

    pose_candidates: int = option(
        5,
        "a query's position is the weighted mean of this many of its predictions, from the first",
        range=at_least(1),
        marks=Mark.NO_DISTANCE,
    )
    pose_radius: float = option(
        25.0,
        "metres within which predictions agree on the weighted position",
        range=at_least(0),
        marks=Mark.NO_DISTANCE,
    )


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

    infer_batch_size: int = option(
        16, "images in one inference batch", range=at_least(1), common=True, marks=Mark.NO_DISTANCE
    )
    recall_values: tuple[int, ...] = option(
        (1, 5, 10, 20),
        "the N of recall@N, in predictions",
        range=at_least(1),
        common=True,
        marks=Mark.NO_DISTANCE,
    )
    threshold: tuple[float, ...] | None = option(
        None,
        "a prediction is right within these distances, a table of recalls for each; --val_positive_dist_threshold "
        "comes first if it is one of them; maps and galleries show the first",
        range=at_least(0),
        unset="--val_positive_dist_threshold; for baidu 10, as papers have it",
        metavar="METRES",
        common="eval",
        marks=Mark.NO_DISTANCE,
    )

    def check_together(self) -> None:
        """Raise UserError for options that the chosen search does not use, before a run folder is made."""
        if self.quantise != "none" and self.index != "exact":
            raise UserError(
                f"--index {self.index}: brings its own codes, --quantise {self.quantise} has others. Expected one of "
                "the two; for product codes in cells use --index ivfpq alone"
            )
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
