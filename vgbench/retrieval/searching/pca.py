"""PCA with whitening: fitted to a file of descriptors block by block, kept as a file, applied block by block.

`pca_of` finds or fits the one of an evaluation, `projected` applies it to both files of descriptors.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vgbench.data.layout import split_folder
from vgbench.data.protocol import Split, read_folder
from vgbench.data.sequences import SequenceTable, in_sequences
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.files import is_file
from vgbench.hdf5 import DAMAGED, is_sealed, seal, warn_damaged, written_hdf5
from vgbench.retrieval.extraction.store import BLOCK_BYTES, Descriptors, is_reusable
from vgbench.retrieval.extraction.writer import DescriptorWriter, writing_alone
from vgbench.retrieval.options import CompressionOptions
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)

# Up to here the covariance is summed and decomposed exactly; beyond, its matrix alone would take gigabytes.
COVARIANCE_DIM = 8192
_FLOOR = 1e-12  # of the largest variance: directions below it are rounding, which whitening must not blow up


@dataclass(frozen=True)
class PCA:
    """The principal components of descriptors.

    Attributes:
        mean: float32 [D].
        components: float32 [pca_dim,D], orthonormal, in descending order of variance.
        variances: float32 [pca_dim], along the components.
        fingerprint: of the descriptors that it was fitted to, and how many components.
        network: `weights_hash` of the network that made these; '' where the file is older and does not say.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variances: NDArray[np.float32]
    fingerprint: str
    network: str = ""

    def save(self, path: Path) -> None:
        """Write to an HDF5 file, whole or not at all."""
        with written_hdf5(path) as file:
            for name in ("mean", "components", "variances"):
                file[name] = getattr(self, name)
            file.attrs["fingerprint"] = self.fingerprint
            file.attrs["network"] = self.network
            seal(file)

    @staticmethod
    def load(path: Path) -> PCA:
        """Read what `save` wrote; raises UserError where it is something else."""
        try:
            with h5py.File(path, "r") as file:
                mean, components, variances = (
                    np.asarray(file[name], np.float32) for name in ("mean", "components", "variances")
                )
                if mean.shape != components.shape[1:] or variances.shape != components.shape[:1] or not is_sealed(file):
                    raise ValueError("it is damaged")
                network = str(file.attrs.get("network", ""))
                return PCA(mean, components, variances, str(file.attrs["fingerprint"]), network)
        except DAMAGED as error:
            raise UserError(
                f"{path}: cannot be read as a PCA ({error}). Expected one that an evaluation with --pca_dim wrote; "
                "delete it and run again"
            ) from error

    def first(self, dim: int) -> PCA:
        """Return the PCA of the first `dim` components: the one that a fit with `dim` components gives."""
        if dim == len(self.components):
            return self
        fingerprint = f"{self.fingerprint}:{dim}"
        return PCA(self.mean, self.components[:dim], self.variances[:dim], fingerprint, self.network)

    def matrix(self, whiten: bool) -> Tensor:
        """Return what centred descriptors are multiplied with: float32 [D,pca_dim]."""
        scale = np.ones_like(self.variances)
        if whiten:
            scale = 1 / np.sqrt(np.maximum(self.variances, _FLOOR * self.variances.max(initial=1e-30)))
        return torch.from_numpy((self.components * scale[:, None]).T.copy())


def fit_pca(descriptors: Descriptors, dim: int, runtime: Runtime, network: str = "") -> PCA:
    """Fit a PCA of `dim` components to a file of descriptors, reading it in blocks.

    `network` is the `weights_hash` of the network that made them.

    Exact, in float64, up to COVARIANCE_DIM dimensions; beyond by incremental PCA (Ross et al., 2008; scikit-learn).

    Raises:
        UserError: more components than dimensions, or than descriptors less one.
    """
    count, full = descriptors.shape
    _check_count(dim, descriptors.shape, descriptors.path.name)
    LOG.info("PCA: %d components of %d descriptors of %d dimensions", dim, count, full)
    fitted = _by_covariance if full <= COVARIANCE_DIM else _incrementally
    mean, components, variances = fitted(descriptors, dim, runtime)
    return PCA(
        mean.astype(np.float32), components.astype(np.float32), variances.astype(np.float32),
        pca_fingerprint(descriptors.fingerprint, dim), network,
    )  # fmt: skip


def _check_count(dim: int, shape: tuple[int, int], name: str) -> None:
    count, full = shape
    if dim > min(full, count - 1):
        raise UserError(
            f"--pca_dim {dim}: {count} descriptors of {full} dimensions ({name}) have no more than "
            f"{max(min(full, count - 1), 0)} components. Expected fewer, or more images in --pca_dataset_folder"
        )


def check_components(options: CompressionOptions, images: ImageTable | None, dim: int, network: str) -> int:
    """Refuse a PCA that will not fit descriptors, before they are made; return the dimensions that it leaves.

    Args:
        images: what `pca_images` returned.
        dim: of the descriptors as extracted.
        network: `weights_hash` of the network that makes them.

    Raises:
        UserError: a file that is no PCA, of another network or of other dimensions, or too few images.
    """
    if options.pca_file is None:
        if images is None or options.pca_dim is None:
            raise ValueError("there is no PCA to fit")
        _check_count(options.pca_dim, (len(images), dim), str(images.root))
        return options.pca_dim
    pca = _of_file(options.pca_file, options.pca_dim)
    if pca.network and pca.network != network:
        raise UserError(
            f"--pca_file {options.pca_file}: was fitted to descriptors of another network (weights {pca.network[:12]}, "
            f"these are {network[:12]}). Expected the PCA of this network; leave it out to fit one with --pca_dim"
        )
    _check_dimensions(pca, dim)
    return len(pca.components)


def _of_file(path: Path, dim: int | None) -> PCA:
    pca = PCA.load(path)
    if dim is not None and dim > len(pca.components):
        raise UserError(
            f"--pca_file {path}: has {len(pca.components)} components, --pca_dim asks for {dim}. Expected at most as "
            "many"
        )
    return pca.first(dim or len(pca.components))


def _check_dimensions(pca: PCA, dim: int) -> None:
    if pca.components.shape[1] != dim:
        raise UserError(
            f"--pca_file: made for descriptors of {pca.components.shape[1]} dimensions, but the network gives "
            f"{dim}. Expected the PCA of this network; leave it out to fit one"
        )


def pca_fingerprint(fitted_to: str, dim: int) -> str:
    """Return what a PCA of `dim` components of the descriptors with this fingerprint is known by."""
    return hashlib.sha256(f"pca 1 {fitted_to} {dim}".encode()).hexdigest()


Fit = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _by_covariance(descriptors: Descriptors, dim: int, runtime: Runtime) -> Fit:
    full = descriptors.shape[1]
    device = runtime.device
    # Around the first descriptor the sums of squares lose no digits to a large mean.
    origin = descriptors.read(0, 1).double().to(device)
    total = torch.zeros(full, dtype=torch.float64, device=device)
    squares = torch.zeros((full, full), dtype=torch.float64, device=device)
    with torch.inference_mode():
        for _, block in descriptors.blocks(max(1, BLOCK_BYTES // (8 * full))):
            centred = block.to(device).double() - origin
            total += centred.sum(0)
            squares.addmm_(centred.T, centred)
        mean = total / len(descriptors)
        covariance = (squares - len(descriptors) * torch.outer(mean, mean)) / (len(descriptors) - 1)
        variances, vectors = torch.linalg.eigh(covariance)
    best = torch.arange(full - 1, full - 1 - dim, -1, device=device)
    components = vectors.T[best]
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that every machine gives the same.
    signs = components.gather(1, components.abs().argmax(1, keepdim=True)).sign()
    return (
        (mean + origin[0]).cpu().numpy(),
        (components * signs).cpu().numpy(),
        variances[best].clamp(min=0).cpu().numpy(),
    )


def _incrementally(descriptors: Descriptors, dim: int, runtime: Runtime) -> Fit:
    from sklearn.decomposition import IncrementalPCA

    model = IncrementalPCA(dim)
    rows = max(2 * dim, BLOCK_BYTES // (4 * descriptors.shape[1]))
    # The last block must hold no fewer rows than there are components.
    blocks = max(1, len(descriptors) // rows)
    edges = np.linspace(0, len(descriptors), blocks + 1).astype(int)
    for start, stop in itertools.pairwise(edges):
        model.partial_fit(descriptors.read(int(start), int(stop)).float().numpy())
    return model.mean_, model.components_, model.explained_variance_


def project(
    descriptors: Descriptors, pca: PCA, whiten: bool, dtype: str, folder: Path, name: str, runtime: Runtime
) -> Descriptors:
    """Write the projected, L2-normalised descriptors as `folder`/`name`-<fingerprint>.h5, or reuse that file.

    Raises:
        UserError: the PCA is of other dimensions.
    """
    _check_dimensions(pca, descriptors.shape[1])
    facts = ["projected", descriptors.fingerprint, pca.fingerprint, whiten, dtype]
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    path = folder / f"{name}_pca{len(pca.components)}-{fingerprint[:12]}.h5"
    shape = (len(descriptors), len(pca.components))
    with writing_alone(path):
        if is_reusable(path, fingerprint, *shape, dtype):
            LOG.info("%s: same descriptors and PCA; reused", path)
            return Descriptors(path)
        matrix, mean = pca.matrix(whiten).to(runtime.device), torch.from_numpy(pca.mean).to(runtime.device)
        rows = max(1, BLOCK_BYTES // (4 * descriptors.shape[1]))
        with DescriptorWriter(path, *shape, dtype, fingerprint, resume_multiple=rows) as writer, torch.inference_mode():
            for _, block in descriptors.blocks(rows, writer.rows_done):
                writer.write(F.normalize((block.to(runtime.device).float() - mean) @ matrix, dim=1).cpu())
    return Descriptors(path)


def pca_images(split: Split, options: CompressionOptions) -> ImageTable | None:
    """Return the images that the PCA is to be fitted to; None where there is none to fit.

    Raises:
        UserError: no such folder.
    """
    if options.pca_dim is None or options.pca_file is not None:
        return None
    if options.pca_dataset_folder is not None:
        return _as_searched(read_folder(split.root.parent / options.pca_dataset_folder), split)
    folder = split_folder(split.root, "train") / "database"
    if not folder.is_dir():
        raise UserError(
            f"--pca_dim {options.pca_dim}: {split.root.name} has no train database to fit a PCA to. Expected other "
            "images; name their folder with --pca_dataset_folder, such as pitts30k/images/train/database"
        )
    return _as_searched(read_folder(folder), split)


def _as_searched(images: ImageTable, split: Split) -> ImageTable:
    """Return images, or the sequences of them where a split is of those."""
    database = split.database
    return in_sequences(images, database.rules) if isinstance(database, SequenceTable) else images


def pca_part(images: ImageTable) -> str:
    """Return what the descriptors of the images that a PCA is fitted to are called."""
    return f"pca_{images.root.parent.name}_{images.root.name}"


def pca_of(
    options: CompressionOptions,
    images: ImageTable | None,
    describe: Callable[[ImageTable, str], Descriptors],
    folder: Path,
    runtime: Runtime,
    network: str = "",
) -> PCA:
    """Return the PCA that the options ask for: read, found beside the descriptors, or fitted and kept there.

    Args:
        images: what `pca_images` returned.
        describe: (table, name) -> their descriptors.
        network: `weights_hash` of the network that makes them.

    Raises:
        UserError: a file that is no PCA, or of other dimensions, or fewer images than components.
    """
    if options.pca_file is not None:
        return _of_file(options.pca_file, options.pca_dim)
    if images is None or options.pca_dim is None:
        raise ValueError("there is no PCA to fit")
    with describe(images, pca_part(images)) as descriptors:
        fingerprint = pca_fingerprint(descriptors.fingerprint, options.pca_dim)
        path = folder / f"pca{options.pca_dim}-{fingerprint[:12]}.h5"
        with writing_alone(path):
            kept = _kept(path, fingerprint)
            if kept is not None:
                LOG.info("%s: same images and network; reused", path)
                return kept
            pca = fit_pca(descriptors, options.pca_dim, runtime, network)
            pca.save(path)
            LOG.info("PCA: kept as %s, which --pca_file takes", path)
    return pca


def _kept(path: Path, fingerprint: str) -> PCA | None:
    """Return the PCA that an earlier run left, None where there is none or it is damaged."""
    if not is_file(path):
        return None
    try:
        kept = PCA.load(path)
    except UserError as error:
        warn_damaged(path, error)
        return None
    return kept if kept.fingerprint == fingerprint else None


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
