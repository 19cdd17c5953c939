"""Translated views: other pictures of training images, made beforehand (by a GAN, say), that stand in for them."""

from __future__ import annotations

from pathlib import Path

from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.randomness import stream_seed

EXTENSIONS = (".png", ".jpg", ".jpeg")
_SEEDS = 2.0**63  # of stream_seed


class TranslatedViews:
    """Chooses between an image and its translated version.

    The folder mirrors the train folder: the version of <train>/queries/a/b.jpg is <translated>/queries/a/b.jpg, or
    one with another of the extensions .jpg, .jpeg and .png; <translated>/a/b.jpg will do too. An image without a
    version stays as it is.

    Args:
        translated: the folder.
        probability: of taking the translated version, 0 to 1.
        seed: the run's seed.
        position: where in the run all choices are: an epoch and a round, say.
    """

    def __init__(self, translated: Path, probability: float, seed: int, position: tuple[str | int, ...] = ()) -> None:
        self.translated, self.probability, self.seed = translated.expanduser(), probability, seed
        self.position = position

    def at(self, *position: str | int) -> TranslatedViews:
        """Return the same views at a position of the run, to which `path_of` adds."""
        return TranslatedViews(self.translated, self.probability, self.seed, position)

    def check(self, *tables: ImageTable) -> None:
        """Raise UserError if the folder is not there or has a version of no image of any of the tables."""
        roots = ", ".join(str(table.root) for table in tables)
        mirrored = f"Expected it to mirror the images of {roots}: <translated_folder>/queries/..., .../database/..."
        if not self.translated.is_dir():
            raise UserError(f"--translated_folder {self.translated}: no such folder. {mirrored}")
        if not any(self._version(table, row) for table in tables for row in range(len(table))):
            raise UserError(
                f"--translated_folder {self.translated}: no file is a version of a training image. {mirrored}"
            )

    def path_of(self, table: ImageTable, row: int, position: tuple[str | int, ...]) -> Path:
        """Return the file to decode for an image.

        Args:
            table: of a folder of the train split.
            row: the image.
            position: where in the run this is (epoch, round, step); equal positions give equal choices, and the images
                of one position choose each for itself.
        """
        relative = table.relative_path(row)
        if (
            stream_seed(self.seed, "views", *self.position, *position, table.root.name, relative)
            < self.probability * _SEEDS
        ):
            version = self._version(table, row)
            if version is not None:
                return version
        return table.root / relative

    def _version(self, table: ImageTable, row: int) -> Path | None:
        # A table of queries has the root <train>/queries, one of all images <train>.
        relative = Path(table.relative_path(row))
        for same in (self.translated / table.root.name / relative, self.translated / relative):
            for path in (same, *(same.with_suffix(extension) for extension in EXTENSIONS)):
                if path.is_file():
                    return path
        return None


def build_views(translated: Path | None, probability: float, seed: int, *tables: ImageTable) -> TranslatedViews | None:
    """Return the checked views of `--translated_folder`; None if there is no folder or the probability is 0."""
    if translated is None or not probability:
        return None
    views = TranslatedViews(translated, probability, seed)
    views.check(*tables)
    return views
