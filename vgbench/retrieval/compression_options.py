"""What a user can set about the size of descriptors: PCA, storage, quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import Options, arguments, at_least, option

_PRODUCT_CODES = "quantise=pq or index=ivfpq"


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
        "pq: product quantisation, asymmetric distances; both need faiss",
        registry="vgbench.retrieval.searching.tables:QUANTISERS",
    )
    quantise_args: tuple[str, ...] | None = arguments("quantise")
    pq_subvectors: int | None = option(
        None, "bytes of a code at 8 bits: the parts of a descriptor, which must divide it", range=at_least(1),
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
        """Refuse a PCA of two origins, and one that is not there."""
        if self.pca_file is not None and self.pca_dataset_folder is not None:
            raise UserError("--pca_file: is fitted already. Expected no --pca_dataset_folder beside it; leave one out")
        if self.pca_file is not None and not self.pca_file.is_file():
            raise UserError(
                f"--pca_file {self.pca_file}: no such file. Expected one that an evaluation with --pca_dim wrote"
            )
