"""Which dataset, where, and at what size."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import Mark, Options, above, at_least, option

# What a heading in a name may be of; see headings.
CONVENTIONS = ("auto", "centre", "left", "left_counterclockwise")
_METRES = at_least(0)


@dataclass(frozen=True)
class DataOptions(Options):
    """Options of the dataset and of reading its images."""

    datasets_folder: Path | None = option(
        None, "folder of all datasets", unset="$DATASETS_FOLDER, else ./datasets", common=True, marks=Mark.NO_RESULT
    )
    dataset_name: str = option(
        "pitts30k", "name of the dataset's folder in --datasets_folder", common=True, marks=Mark.TAKEN_OVER
    )
    train_dataset_name: tuple[str, ...] | None = option(
        None, "train on this dataset, gsv_cities for example; on several at once, a batch of each in every step",
        unset="--dataset_name", metavar="NAME", common=True, marks=Mark.TRAINING,
    )  # fmt: skip
    train_weights: tuple[float, ...] | None = option(
        None, "weights of the losses of several datasets to train on, one each", range=above(0), unset="1 each",
        needs="train_dataset_name", marks=Mark.TRAINING, metavar="WEIGHT",
    )  # fmt: skip
    queries_folder: tuple[str, ...] = option(
        ("queries",),
        "folders of the test queries, e.g. queries_v1 queries_night; eval.py tests several with one database",
        metavar="NAME",
        common="eval",
    )
    resize: tuple[int, int] = option(
        (480, 640), "height and width that images are resized to, pixels", range=at_least(1), metavar="H W",
        common=True, marks=Mark.TAKEN_OVER,
    )  # fmt: skip
    num_workers: int | None = option(
        None, "processes that decode images; 0: threads", range=at_least(0), common=True,
        unset="8; without a GPU cores / 4, under 8: 0", marks=Mark.NO_RESULT,
    )  # fmt: skip
    val_positive_dist_threshold: float = option(
        25, "a prediction within this distance of the query is right, metres", range=_METRES, marks=Mark.TAKEN_OVER
    )
    train_positives_dist_threshold: float = option(
        10,
        "training positives lie within this distance, metres",
        range=_METRES,
        needs="train_mode=triplets|geowarp or train_modes=triplets",
        marks=Mark.TRAINING,
    )
    on_bad_image: str = option("error", "unreadable images: stop, or go on without them", choices=("error", "skip"))

    @property
    def workers(self) -> int:
        """Processes that decode beside a network."""
        from vgbench.data.loader import decoding_processes  # torch is not imported for --help

        return decoding_processes() if self.num_workers is None else self.num_workers

    @property
    def checkers(self) -> int:
        """Processes that read images before a network does: nothing else needs the cores, which limit them."""
        return 8 if self.num_workers is None else self.num_workers

    def check_together(self) -> None:
        """Raise UserError for weights that are not one for each dataset."""
        if self.train_weights is not None and len(self.train_weights) != len(self.train_dataset_name or ()):
            weights = " ".join(f"{weight:g}" for weight in self.train_weights)
            raise UserError(
                f"--train_weights {weights}: of {len(self.train_dataset_name or ())} datasets. Expected one for each "
                "name of --train_dataset_name"
            )


def dataset_root(options: DataOptions) -> Path:
    """Return <datasets_folder>/<dataset_name>, whether or not it exists."""
    folder = options.datasets_folder or os.environ.get("DATASETS_FOLDER") or "datasets"
    return Path(folder).expanduser() / options.dataset_name


def train_root(options: DataOptions) -> Path:
    """Return the folder of the (first) dataset that is trained on: that of `train_dataset_name` where it is set."""
    return train_roots(options)[0]


def train_roots(options: DataOptions) -> tuple[Path, ...]:
    """Return the folders of all datasets that are trained on together."""
    names = options.train_dataset_name or (options.dataset_name,)
    return tuple(dataset_root(replace(options, dataset_name=name)) for name in names)
