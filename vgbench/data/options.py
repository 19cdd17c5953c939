"""Which dataset, where, and at what size."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import option


@dataclass(frozen=True)
class DataOptions:
    """Options of the dataset and of reading its images."""

    datasets_folder: Path | None = option(None, "folder of all datasets; unset: $DATASETS_FOLDER, or else ./datasets")
    dataset_name: str = option("pitts30k", "name of the dataset's folder within the folder of all datasets")
    train_dataset_name: str | None = option(
        None, "train on this dataset instead (gsv_cities, say); val and test stay those of dataset_name", metavar="NAME"
    )
    queries_folder: tuple[str, ...] = option(
        ("queries",),
        "folder of the test queries, e.g. queries_v1, queries_night; several for one table of all (eval.py), the "
        "database described once",
    )
    resize: tuple[int, int] = option((480, 640), "height and width that images are resized to, pixels")
    num_workers: int = option(8, "processes that decode images, at most the machine's cores; 0: none but the main one")
    val_positive_dist_threshold: float = option(25, "a prediction within this distance of the query is right, metres")
    train_positives_dist_threshold: float = option(
        10, "training positives lie within this distance, metres", needs="train_mode=triplets|geowarp"
    )
    on_bad_image: str = option("error", "unreadable images: stop, or go on without them", choices=("error", "skip"))

    def __post_init__(self) -> None:
        if len(self.resize) != 2 or min(self.resize) < 1:
            raise UserError(f"--resize {' '.join(map(str, self.resize))}: expected height and width, 1 pixel or more")
        if self.num_workers < 0:
            raise UserError(f"--num_workers {self.num_workers}: expected 0 or more processes")
        for name in ("val_positive_dist_threshold", "train_positives_dist_threshold"):
            if not getattr(self, name) >= 0:
                raise UserError(f"--{name} {getattr(self, name)}: expected 0 metres or more")
        if self.on_bad_image not in ("error", "skip"):
            raise UserError(f"--on_bad_image {self.on_bad_image}: expected error or skip")


def dataset_root(options: DataOptions) -> Path:
    """Return <datasets_folder>/<dataset_name>, whether or not it exists."""
    folder = options.datasets_folder or os.environ.get("DATASETS_FOLDER") or "datasets"
    return Path(folder).expanduser() / options.dataset_name


def train_root(options: DataOptions) -> Path:
    """Return the folder of the dataset that is trained on: that of `train_dataset_name` where it is set."""
    return dataset_root(replace(options, dataset_name=options.train_dataset_name or options.dataset_name))
