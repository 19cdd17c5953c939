"""Somebody's own photographs, without coordinates, asked of a dataset's database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.data.layout import split_folder
from vgbench.data.options import DataOptions
from vgbench.data.protocol import Split, read_folder
from vgbench.data.unlabelled import read_unlabelled
from vgbench.data.verify import check_images
from vgbench.errors import UserError
from vgbench.options import option


@dataclass(frozen=True)
class PhotosOptions:
    """Options of placing photographs whose coordinates nobody knows."""

    no_labels: bool = option(
        False,
        "--queries_folder is any folder of photographs without coordinates (of any size, in any layout): "
        "place them in the dataset's test database and write predictions.csv; there are no recalls",
    )
    confidence_queries: int = option(
        500,
        "with --no_labels: how many of the dataset's own test queries the confidence is learned from at most, where "
        "training left none; 0: go without a confidence",
        needs="no_labels",
    )

    def __post_init__(self) -> None:
        if self.confidence_queries < 0:
            raise UserError(f"--confidence_queries {self.confidence_queries}: expected 0 or more queries")


def read_photos_split(options: DataOptions, root: Path) -> Split:
    """Return the test database of the dataset at `root` and, as queries, the photographs in `--queries_folder`.

    The queries' UTM is NaN. The folder is a path of its own, not one within the dataset.

    Raises:
        UserError: no such dataset or folder, an empty one, or unreadable images and `--on_bad_image error`.
    """
    folder = Path(options.queries_folder).expanduser().resolve()
    queries = read_unlabelled(
        folder, "--queries_folder", on_bad_image=options.on_bad_image, num_workers=options.num_workers
    )
    database = read_folder(split_folder(root, "test") / "database")
    return Split("test", root, check_images(database, options.on_bad_image, options.num_workers), queries)
