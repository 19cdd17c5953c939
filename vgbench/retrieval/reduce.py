"""The PCA of an evaluation: fitted where none is there yet, and both files of descriptors projected by it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from vgbench.data.protocol import Split, read_folder
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.retrieval.compression_options import CompressionOptions
from vgbench.retrieval.pca import PCA, fit_pca, pca_fingerprint, project
from vgbench.retrieval.store import Descriptors, writing_alone
from vgbench.runtime import Runtime

log = logging.getLogger(__name__)


def pca_images(split: Split, options: CompressionOptions) -> ImageTable | None:
    """Return the images that the PCA is to be fitted to; None where there is none to fit.

    Raises:
        UserError: no such folder.
    """
    if options.pca_dim is None or options.pca_file is not None:
        return None
    if options.pca_dataset_folder is not None:
        return read_folder(split.root.parent / options.pca_dataset_folder)
    folder = split.root / "images" / "train" / "database"
    if not folder.is_dir():
        raise UserError(
            f"--pca_dim {options.pca_dim}: {split.root.name} has no train database to fit a PCA to. Expected other "
            "images; name their folder with --pca_dataset_folder, such as pitts30k/images/train/database"
        )
    return read_folder(folder)


def pca_of(
    options: CompressionOptions,
    images: ImageTable | None,
    describe: Callable[[ImageTable, str], Descriptors],
    folder: Path,
    runtime: Runtime,
) -> PCA:
    """Return the PCA that the options ask for: read, found beside the descriptors, or fitted and kept there.

    Args:
        images: what `pca_images` returned.
        describe: (table, name) -> their descriptors.

    Raises:
        UserError: a file that is no PCA, or of other dimensions, or too few images for so many components.
    """
    if options.pca_file is not None:
        pca = PCA.load(options.pca_file)
        if options.pca_dim is not None and options.pca_dim > len(pca.components):
            raise UserError(
                f"--pca_file {options.pca_file}: has {len(pca.components)} components, --pca_dim asks for "
                f"{options.pca_dim}. Expected at most as many"
            )
        return pca.first(options.pca_dim or len(pca.components))
    if images is None or options.pca_dim is None:
        raise ValueError("there is no PCA to fit")
    with describe(images, f"pca_{images.root.parent.name}_{images.root.name}") as descriptors:
        fingerprint = pca_fingerprint(descriptors.fingerprint, options.pca_dim)
        path = folder / f"pca{options.pca_dim}-{fingerprint[:12]}.h5"
        with writing_alone(path):
            if path.is_file() and PCA.load(path).fingerprint == fingerprint:
                log.info("%s: same images and network; reused", path)
                return PCA.load(path)
            pca = fit_pca(descriptors, options.pca_dim, runtime)
            pca.save(path)
            log.info("PCA: kept as %s, which --pca_file takes", path)
    return pca


def projected(
    pca: PCA, both: tuple[Descriptors, Descriptors], options: CompressionOptions, folder: Path, runtime: Runtime
) -> tuple[Descriptors, Descriptors]:
    """Return the database's and the queries' descriptors after the PCA, from files beside the full ones."""
    database, queries = (
        project(
            one, pca, options.pca_whiten, options.descriptors_dtype, folder, one.path.stem.rpartition("-")[0], runtime
        )
        for one in both
    )
    return database, queries
