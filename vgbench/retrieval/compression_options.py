"""What a user can set about the size of descriptors: PCA, storage, quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import option

QUANTISERS = ("none", "binary", "pq")


@dataclass(frozen=True)
class CompressionOptions:
    """Options of how descriptors are made smaller."""

    descriptors_dtype: str = option(
        "float32", "how descriptors are stored on disk; float16 halves the file", choices=("float32", "float16")
    )
    pca_dim: int | None = option(None, "project descriptors to so many dimensions by PCA, and normalise them again")
    pca_whiten: bool = option(True, "give every dimension of the PCA the same variance")
    pca_dataset_folder: str | None = option(
        None,
        "folder of the images that the PCA is fitted to, below the folder of all datasets, e.g. "
        "pitts30k/images/train/database; unset: the train database of --dataset_name",
        metavar="FOLDER",
    )
    pca_file: Path | None = option(
        None, "a PCA that an earlier run wrote (descriptors/*pca*.h5), instead of fitting one"
    )
    quantise: str = option(
        "none",
        "keep database descriptors as codes and search among those: binary (one bit a dimension, Hamming distances) or "
        "pq (product quantisation, asymmetric distances); needs faiss",
        choices=QUANTISERS,
    )
    pq_subvectors: int | None = option(
        None, "bytes of a code at 8 bits: the parts of a descriptor, which must divide it; unset: up to 64"
    )
    pq_bits: int = option(8, "bits of a part's code: 4 or 8")

    @property
    def is_reduced(self) -> bool:
        """Whether there is a PCA."""
        return self.pca_dim is not None or self.pca_file is not None

    def check_compression(self) -> None:
        """Refuse values that no run could use."""
        if self.pca_dim is not None and self.pca_dim < 1:
            raise UserError(f"--pca_dim {self.pca_dim}: expected at least 1 dimension")
        if self.pca_file is not None and self.pca_dataset_folder is not None:
            raise UserError("--pca_file: is fitted already. Expected no --pca_dataset_folder beside it; leave one out")
        if self.pca_dataset_folder is not None and self.pca_dim is None:
            raise UserError("--pca_dataset_folder: there is no PCA to fit. Expected --pca_dim beside it; add that")
        if self.pca_file is not None and not self.pca_file.is_file():
            raise UserError(
                f"--pca_file {self.pca_file}: no such file. Expected one that an evaluation with --pca_dim wrote"
            )
        if not self.pca_whiten and not self.is_reduced:
            raise UserError(
                "--no-pca_whiten: there is no PCA. Expected --pca_dim or --pca_file beside it; leave it out"
            )
        if self.quantise not in QUANTISERS:
            raise UserError(f"--quantise {self.quantise}: expected one of {', '.join(QUANTISERS)}")
        if self.pq_bits not in (4, 8):
            raise UserError(f"--pq_bits {self.pq_bits}: expected 4 or 8")
        if self.pq_subvectors is not None and self.pq_subvectors < 1:
            raise UserError(f"--pq_subvectors {self.pq_subvectors}: expected at least 1")
