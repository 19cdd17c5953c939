"""What a user can set about networks that are made out of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.data.augment.options import AugmentOptions, BatchOptions, TranslatedOptions
from vgbench.data.options import DataOptions
from vgbench.models.options import COMBINATIONS
from vgbench.options import REQUIRED, Mark, Options, at_least, between, option, option_names
from vgbench.retrieval.options import EvalOptions
from vgbench.runtime_options import RuntimeOptions

SOUPS = ("uniform", "greedy")
BATCH_NORMS = ("average", "reestimate")
BN_IMAGES = 1024
# Below it, the layer's float32 would round away what is left of the directions.
LEAST_SHRINKAGE = 1e-6
# Augmentation of whole batches, or from files of its own: it does not vary one query after the other.
NOT_OF_QUERIES = (*option_names(BatchOptions), *option_names(TranslatedOptions))

_COUNT = at_least(1)


@dataclass(frozen=True)
class OutputOptions(Options, topic="files"):
    """What is written."""

    output: Path = option(REQUIRED, "the checkpoint to write", metavar="FILE", marks=Mark.BY_MATRIX)
    own_code: tuple[str, ...] | None = option(
        None,
        "your own classes, package.module:Class, that the checkpoints may use",
        metavar="NAME",
        marks=Mark.THIS_RUN,
    )


@dataclass(frozen=True)
class SoupOptions(Options):
    """What a soup is made of."""

    checkpoints: tuple[Path, ...] = option(
        REQUIRED, "two or more checkpoints, of train.py or of combine", metavar="FILE", marks=Mark.BY_MATRIX
    )
    soup: str = option(
        "uniform",
        "uniform: the mean of all checkpoints; greedy: begin with the best and add those that raise the recall on val",
        choices=SOUPS,
    )
    recall: int = option(1, "with --soup greedy: the N of the recall@N on val that decides", range=_COUNT)
    batch_norm: str = option(
        "average",
        "average BatchNorm's statistics too, which fits networks that are near each other, or reestimate them on "
        f"{BN_IMAGES} images of the train split",
        choices=BATCH_NORMS,
    )
    infer_batch_size: int = option(16, "images in one inference batch", range=_COUNT)


@dataclass(frozen=True)
class EnsembleOptions(Options):
    """What an ensemble is made of."""

    checkpoints: tuple[Path, ...] = option(
        REQUIRED, "two or more checkpoints, of train.py or of combine", metavar="FILE", marks=Mark.BY_MATRIX
    )
    combine: str = option("concat", "descriptors side by side, or averaged", choices=COMBINATIONS)
    weights: tuple[float, ...] | None = option(None, "weight of each checkpoint", unset="equal")


@dataclass(frozen=True)
class WhitenOptions(Options):
    """How a whitening is learned.

    Raises:
        UserError: a value is out of its range.
    """

    positives: int = option(
        8, "pairs of each query at most: with the most similar database images of its place", range=_COUNT
    )
    pairs: int = option(
        8192,
        "pairs of all queries together at most, before augmentation; where there are more, queries are drawn at random",
        range=_COUNT,
    )  # fmt: skip
    shrinkage: float = option(
        0.5,
        f"how far the covariance of the pairs is shrunk towards a multiple of the identity, {LEAST_SHRINKAGE:.6f} to 1",
        range=between(LEAST_SHRINKAGE, 1), metavar="A",
    )  # fmt: skip
    dim: int | None = option(
        None, "keep this many dimensions, those that vary most after whitening", range=_COUNT, unset="all"
    )


_IMAGES = ("resize", "dataset_name", "datasets_folder", "num_workers")
_MACHINE = ("device", "amp", "inference_backend")
# Each command's dataclasses, and which of their options it takes; None: all.
TAKES: dict[str, dict[type[Options], tuple[str, ...] | None]] = {
    "soup": {
        SoupOptions: None,
        OutputOptions: None,
        DataOptions: (*_IMAGES, "val_positive_dist_threshold"),
        RuntimeOptions: _MACHINE,
    },
    "ensemble": {EnsembleOptions: None, OutputOptions: None, DataOptions: ("resize",)},
    "whiten": {
        SoupOptions: ("checkpoints",),
        OutputOptions: None,
        WhitenOptions: None,
        DataOptions: (*_IMAGES, "train_positives_dist_threshold"),
        EvalOptions: ("infer_batch_size",),
        RuntimeOptions: _MACHINE,
        AugmentOptions: tuple(name for name in option_names(AugmentOptions) if name not in NOT_OF_QUERIES),
    },
}


def options_of(command: str) -> set[str]:
    """Return the names of the options that a command takes."""
    return {name for options, only in TAKES[command].items() for name in only or option_names(options)}
