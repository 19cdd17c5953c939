"""Exact search beside faiss's flat index at many sizes, both with their loading: processor seconds of one thread.

python3 -m perf --only search_sizes --rounds 5
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from perf.measure import Pair, in_own_process, pair_of
from perf.search import _faiss, _ours
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.runtime import RuntimeOptions, resolve_runtime


@dataclass(frozen=True)
class Size:
    """A search: database rows, dimensions, stored type, queries, and how many rows differ (0: all)."""

    database: int
    dim: int
    dtype: str
    queries: int
    distinct: int = 0

    @property
    def what(self) -> str:
        ties = f", {self.distinct} of them distinct" if self.distinct else ""
        return f"{self.queries:,} queries in {self.database:,} x {self.dim:,} {self.dtype}{ties}"


SIZES = (
    Size(1_000, 128, "float16", 100), Size(1_000, 256, "float16", 1_000), Size(1_000, 1_024, "float16", 300),
    Size(10_000, 128, "float16", 1_000), Size(10_000, 256, "float32", 1_000), Size(10_000, 256, "float32", 1_000, 100),
    Size(100_000, 128, "float16", 300), Size(100_000, 128, "float16", 300, 1_000),
    Size(1_500, 16_384, "float32", 100), Size(3_000, 16_384, "float32", 200), Size(5_600, 16_384, "float16", 300),
    Size(2_000, 32_768, "float16", 50),
)  # fmt: skip


def measure(rounds: int) -> list[Pair]:
    """Compare every size, each in a process of its own, where the two sides take turns."""
    pairs = []
    for size in SIZES:
        found = in_own_process("perf.search_sizes", {**asdict(size), "rounds": rounds})
        pairs.append(pair_of(f"search: {size.what}", "processor s", found["ours"], found["faiss"]))
    return pairs


def main() -> None:
    """Both sides of one size: prints their processor seconds, in turn."""
    arguments = json.loads(sys.argv[1])
    rounds = arguments.pop("rounds")
    size = Size(**arguments)
    resolve_runtime(RuntimeOptions())  # with the allocator that our commands set
    torch.set_num_threads(1)
    import faiss

    faiss.omp_set_num_threads(1)
    times: dict[str, list[float]] = {"ours": [], "faiss": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("database", size.database), ("queries", size.queries)):
            _write(Path(folder) / f"{name}.h5", size, rows, seed=rows)
        for turn in range(rounds + 1):
            for side, find in (("ours", _ours), ("faiss", _faiss)):
                start = time.process_time()
                find(Path(folder))
                if turn:  # the first is a warm-up
                    times[side].append(time.process_time() - start)
    print(json.dumps(times))


def _write(path: Path, size: Size, rows: int, seed: int) -> None:
    """Write random unit descriptors; of a database with ties, each distinct one as often as it takes."""
    generator = torch.Generator().manual_seed(seed)
    distinct = size.distinct if size.distinct and path.name == "database.h5" else rows
    vectors = torch.nn.functional.normalize(torch.randn(distinct, size.dim, generator=generator), dim=1)
    stored = vectors.to(torch.float16 if size.dtype == "float16" else torch.float32)
    write_descriptors(path, stored.repeat(-(-rows // distinct), 1)[:rows], "perf").close()


if __name__ == "__main__":
    main()
