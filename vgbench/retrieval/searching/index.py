"""Approximate search by faiss's indices (Douze et al., 2024): IVF, IVF-PQ and HNSW, built from the descriptors' file.

Training sees a sample, and rows are added block by block, so the file is never in memory as a whole. IVF's lists lie
on disk; IVF-PQ's hold codes of some dozens of bytes; HNSW's graph and vectors are in memory, as stored.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vgbench.errors import UserError, in_short
from vgbench.files import check_space, is_file, is_full, write_text, written_whole
from vgbench.hdf5 import warn_damaged
from vgbench.retrieval.extraction.store import BLOCK_BYTES, Descriptors
from vgbench.retrieval.extraction.writer import writing_alone
from vgbench.retrieval.options import CompressionOptions, EvalOptions, IndexOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.faiss_library import load_faiss, silenced
from vgbench.retrieval.searching.product import subvectors
from vgbench.retrieval.searching.refine import complete, refine
from vgbench.runtime import Runtime

faiss = load_faiss("--index")
LOG = logging.getLogger(__name__)

_SAMPLE_BYTES = 2**29
_ROWS_A_CELL = 50  # k-means settles with fewer than faiss's 256
_ID_BYTES = 8  # of a row's number in an inverted list
_QUERIES_AT_ONCE = 4096


class IndexSearch:
    """An index of a database, built or found beside its descriptors.

    Attributes:
        bytes_per_image: what the index keeps of an image.
    """

    def __init__(
        self, database: Descriptors, options: IndexOptions, compression: CompressionOptions, runtime: Runtime
    ) -> None:
        """Build the index, or open the one that an earlier run built of the same descriptors.

        Raises:
            UserError: options that the database has too few rows or other dimensions for.
        """
        self.database, self.options, self.runtime = database, options, runtime
        self._check(database.shape, options, compression)
        nlist = options.nlist or max(1, min(round(4 * len(database) ** 0.5), len(database) // 39))
        parts = subvectors(database.shape, compression) if options.index == "ivfpq" else 0
        facts: list[Any] = ["index 1", database.fingerprint, options.index]
        if options.index == "hnsw":
            facts += [options.hnsw_m, options.ef_construction]
        else:
            facts += [nlist, parts, compression.pq_bits if parts else 0]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
        path = database.path.with_name(f"{database.path.stem}_{options.index}-{name}.faiss")
        with writing_alone(path):
            if not _is_kept(path, database.shape):
                LOG.info("%s: building %s of %d descriptors", path, options.index, len(database))
                with silenced():
                    self._build(path, nlist, parts, compression.pq_bits)
        with silenced():
            self.index = faiss.read_index(str(path), faiss.IO_FLAG_ONDISK_SAME_DIR if options.index == "ivf" else 0)
        if options.index == "hnsw":
            self.bytes_per_image = self.index.storage.sa_code_size() + 8.0 * options.hnsw_m
        else:
            self.bytes_per_image = self.index.code_size + 8.0
            self.index.nprobe = min(options.nprobe, nlist)
        self.index, self._resources = _on_gpu(self.index, runtime)

    @staticmethod
    def check_shape(shape: tuple[int, int], options: EvalOptions) -> None:
        """Raise UserError for descriptors [N,D] that are too few, or have other dimensions, for the index."""
        IndexSearch._check(shape, options, options)

    @staticmethod
    def _check(shape: tuple[int, int], options: IndexOptions, compression: CompressionOptions) -> None:
        if options.index in ("ivf", "ivfpq") and (options.nlist or 1) > shape[0]:
            raise UserError(
                f"--nlist {options.nlist}: there are {shape[0]} database images. Expected at most that many cells"
            )
        if options.index == "ivfpq":
            subvectors(shape, compression)

    def search(self, queries: Descriptors, k: int) -> Predictions:
        """Find each query's min(k, N) nearest rows, nearly; distances are exact where refined, else the index's own."""
        k = min(k, len(self.database))
        wanted = min(len(self.database), k * max(1, self.options.refined()))
        if self.options.index == "hnsw":
            self.index.hnsw.efSearch = max(self.options.ef_search, wanted)
        squared = np.empty((len(queries), wanted), dtype=np.float32)
        indices = np.empty((len(queries), wanted), dtype=np.int64)
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            part = slice(first, first + _QUERIES_AT_ONCE)
            asked = queries.read(first, first + _QUERIES_AT_ONCE).float().numpy()
            squared[part], indices[part] = self.index.search(asked, wanted)
        if self.options.refined():
            found = refine(self.database, queries, indices, k, self.runtime)
        else:
            found = Predictions(indices, np.sqrt(np.maximum(squared, 0)))
        return complete(found, self.database, queries, "torch", self.runtime)

    def _build(self, path: Path, nlist: int, parts: int, bits: int) -> None:
        database, options = self.database, self.options
        dim, half = database.shape[1], str(database.dtype) == "torch.float16"
        index: Any
        if options.index == "hnsw":
            kind = faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexHNSWSQ(dim, kind, options.hnsw_m) if half else faiss.IndexHNSWFlat(dim, options.hnsw_m)
            index.hnsw.efConstruction = options.ef_construction
        else:
            index = _ivf(faiss.IndexFlatL2(dim), dim, nlist, parts, bits, half)
        sample = min(max(_ROWS_A_CELL * nlist, 2**16), max(_SAMPLE_BYTES // (4 * dim), nlist, 2**bits))
        index.train(database.sample(sample).numpy())
        if options.index == "ivf":
            # It grows by doubling, and is written by mmap: a disk that is full would end the process (SIGBUS).
            need = 2 * len(database) * (index.code_size + _ID_BYTES)
            check_space(path.with_suffix(".ivfdata"), need, "choose another --index")
            lists = faiss.OnDiskInvertedLists(nlist, index.code_size, str(path.with_suffix(".ivfdata")))
            index.replace_invlists(lists)
        for _, block in database.blocks(max(1, BLOCK_BYTES // (4 * dim))):
            index.add(block.float().numpy())
        _write(path, index)
        write_text(_note(path), json.dumps({"rows": len(database), "files": _checksums(path)}) + "\n")


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".checksum")


def _checksums(path: Path) -> dict[str, int]:
    """Return the CRC-32 of an index's files, by how their names end."""
    found = {}
    for one in (path, path.with_suffix(".ivfdata")):
        if one.is_file():
            value = 0
            with one.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    value = zlib.crc32(block, value)
            found[one.suffix] = value
    return found


def _write(path: Path, index: Any) -> None:
    with written_whole(path) as partial:
        try:
            faiss.write_index(index, str(partial))
        except RuntimeError as error:  # what faiss makes of a full disk
            raise OSError(errno.ENOSPC if is_full(error) else errno.EIO, in_short(error)) from error


def _is_kept(path: Path, shape: tuple[int, int]) -> bool:
    """Whether an earlier run left the index of descriptors [N,D], undamaged."""
    if not is_file(path):
        return False
    try:
        noted = json.loads(_note(path).read_text())
        whole = bool(noted == {"rows": shape[0], "files": _checksums(path)})
    except (OSError, ValueError):
        whole = False
    if not whole:
        warn_damaged(path)
    return whole


def _ivf(quantizer: Any, dim: int, nlist: int, parts: int, bits: int, half: bool) -> Any:
    if parts:
        kind = faiss.IndexIVFPQFastScan if bits == 4 else faiss.IndexIVFPQ
        index = kind(quantizer, dim, nlist, parts, bits)
        index.pq.cp.min_points_per_centroid = 1  # faiss would complain to the console about small databases
    elif half:
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, dim, nlist, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2, False
        )
    else:
        index = faiss.IndexIVFFlat(quantizer, dim, nlist)
    index.cp.min_points_per_centroid = 1
    return index


def _on_gpu(index: Any, runtime: Runtime) -> tuple[Any, Any]:
    """Move an index to the runtime's GPU where faiss can, with what must live as long as it does.

    HNSW, and a few sizes of codes, faiss searches on the CPU.
    """
    if runtime.device.type != "cuda" or not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return index, None
    if isinstance(index, (faiss.IndexHNSW, faiss.IndexIVFPQFastScan)):
        return index, None
    resources = faiss.StandardGpuResources()
    try:
        moved = faiss.index_cpu_to_gpu(resources, runtime.device.index or 0, index)
    except RuntimeError as error:
        LOG.warning("faiss cannot search this index on the GPU (%s); the CPU does", str(error).splitlines()[-1])
        return index, None
    faiss.GpuParameterSpace().set_index_parameter(moved, "nprobe", index.nprobe)
    return moved, resources
