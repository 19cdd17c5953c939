"""Search among codes of the database's descriptors, which stream from their file as the descriptors themselves do."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from vgbench.files import is_file
from vgbench.hdf5 import DAMAGED, is_sealed, seal, warn_damaged, written_hdf5
from vgbench.retrieval.extraction.store import BLOCK_BYTES, Descriptors
from vgbench.retrieval.extraction.writer import writing_alone
from vgbench.retrieval.options import CompressionOptions, IndexOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.faiss_library import load_faiss
from vgbench.retrieval.searching.refine import refine
from vgbench.retrieval.searching.tables import QUANTISERS
from vgbench.runtime import Runtime

faiss = load_faiss("--quantise")  # both quantisers need it: say so before hours of extraction, not after
LOG = logging.getLogger(__name__)

_SAMPLE_BYTES = 2**28


class Coder(Protocol):
    """What a quantiser is: see `product.ProductCodes`; it also has the static methods `facts` and `fit`."""

    bytes: int
    state: dict[str, NDArray[Any]]

    def encode(self, descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [N,bytes]."""

    def nearest(
        self, codes: NDArray[np.uint8], queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return distances [Q,k] and rows [Q,k] of the nearest codes, nearest first."""


class CodeSearch:
    """The codes of a database, in a file beside its descriptors.

    Attributes:
        bytes_per_image: of a code.
    """

    def __init__(
        self,
        database: Descriptors,
        options: IndexOptions,
        compression: CompressionOptions,
        runtime: Runtime,
        learned: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Encode the database, or find the codes of an earlier run; raises UserError where it cannot be encoded.

        Args:
            learned: the state of a quantiser that the network brings; None: it is fitted to the database.
        """
        self.database, self.runtime = database, runtime
        self.refined = options.refined(compression.quantise)
        kind: Any = QUANTISERS.resolve(compression.quantise)
        keywords = QUANTISERS.keywords("quantise", compression.quantise, compression.quantise_args)
        of_kind = kind.facts(database, compression) if learned is None else [_digest(learned)]
        facts = ["codes 1", database.fingerprint, compression.quantise, of_kind]
        facts += [list(compression.quantise_args or ())] if keywords else []
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
        self.path = database.path.with_name(f"{database.path.stem}_{compression.quantise}-{name}.h5")
        with writing_alone(self.path):
            if not _is_kept(self.path, len(database)):
                LOG.info("%s: encoding %d descriptors", self.path, len(database))
                made = learned and kind(database.shape[1], dict(learned))
                _encode(self.path, database, made or kind.fit(database, compression, **keywords))
        with h5py.File(self.path, "r") as file:
            state = {key: np.asarray(file[key]) for key in file if key != "codes"}
        self.coder: Coder = kind(database.shape[1], state)
        self.bytes_per_image = float(self.coder.bytes)

    def search(self, queries: Descriptors, k: int) -> Predictions:
        """Find each query's min(k, N) nearest codes; distances are exact where refined, else those to the codes."""
        k = min(k, len(self.database))
        wanted = min(len(self.database), k * max(1, self.refined))
        asked = queries.read().float().numpy()
        best = Predictions(np.empty((len(asked), 0), np.int64), np.empty((len(asked), 0), np.float32))
        step = max(1, BLOCK_BYTES // self.coder.bytes)
        with h5py.File(self.path, "r") as file:
            for first in range(0, len(self.database), step):
                codes = file["codes"][first : first + step]
                distances, rows = self.coder.nearest(codes, asked, min(wanted, len(codes)))
                best = _merged(best, rows + first, distances, wanted)
        if self.refined:
            return refine(self.database, queries, best.indices, k, self.runtime)
        return best


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return what arrays are known by."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _merged(best: Predictions, rows: NDArray[np.int64], distances: NDArray[np.float32], k: int) -> Predictions:
    """Keep the k nearest of both; equal distances in order of row."""
    indices = np.concatenate([best.indices, rows], axis=1)
    every = np.concatenate([best.distances, distances], axis=1)
    order = np.lexsort((indices, every), axis=1)[:, :k]
    return Predictions(np.take_along_axis(indices, order, axis=1), np.take_along_axis(every, order, axis=1))


def _encode(path: Path, database: Descriptors, coder: Coder) -> None:
    with written_hdf5(path) as file:
        for key, values in coder.state.items():
            file[key] = values
        codes = file.create_dataset("codes", (len(database), coder.bytes), np.uint8)
        for first, block in database.blocks(max(1, BLOCK_BYTES // (4 * database.shape[1]))):
            codes[first : first + len(block)] = coder.encode(block.float().numpy())
        seal(file)


def _is_kept(path: Path, rows: int) -> bool:
    """Whether an earlier run left the codes of this many rows, undamaged."""
    if not is_file(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            whole = len(file["codes"]) == rows and is_sealed(file)
    except DAMAGED as error:
        warn_damaged(path, error)
        return False
    if not whole:
        warn_damaged(path)
    return whole


class BinaryCodes:
    """A bit says whether a dimension is above its mean; descriptors that are nowhere negative need that, not the sign.

    Attributes:
        bytes: of one code.
        state: the arrays that make the same again.
    """

    def __init__(self, dim: int, state: dict[str, NDArray[Any]]) -> None:
        """`state`: `thresholds` float32 [dim]."""
        self.dim, self.state = dim, state
        self.bytes = -(-dim // 8)

    @staticmethod
    def facts(database: Descriptors, options: CompressionOptions) -> list[Any]:
        """What the codes depend on beside the descriptors: nothing."""
        return []

    @staticmethod
    def fit(database: Descriptors, options: CompressionOptions) -> BinaryCodes:
        """Take the means of rows spread evenly over the database."""
        dim = database.shape[1]
        means = database.sample(max(1, _SAMPLE_BYTES // (4 * dim))).double().mean(0).float().numpy()
        return BinaryCodes(dim, {"thresholds": means})

    def encode(self, descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [N,bytes] of descriptors [N,D]; bits beyond D are zero."""
        return np.packbits(descriptors > self.state["thresholds"], axis=1)

    def nearest(
        self, codes: NDArray[np.uint8], queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return Hamming distances float32 [Q,k] from the codes of queries [Q,D], and the rows of those codes."""
        bits, rows = faiss.knn_hamming(self.encode(queries), np.ascontiguousarray(codes), k)
        return bits.astype(np.float32), rows.astype(np.int64)
