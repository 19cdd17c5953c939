"""Exact search from the descriptor file beside faiss with everything in memory: seconds and peak memory."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from perf.measure import Pair, in_own_process, pair_of, peak_mb, seconds, write_descriptors
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.searching.exact import search

K = 20


def measure(database: int, queries: int, dim: int, rounds: int) -> Pair:
    """Compare `retrieval.search` (torch, streamed) with faiss's IndexFlatL2, each in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("database", database), ("queries", queries)):
            write_descriptors(Path(folder) / f"{name}.h5", rows, dim, seed=rows)
        found = [
            in_own_process("perf.search", {"who": who, "folder": folder, "rounds": rounds}) for who in ("ours", "faiss")
        ]
    if found[0]["checksum"] != found[1]["checksum"]:
        print(f"search: the two found different neighbours ({found[0]['checksum']}, {found[1]['checksum']})")
    return pair_of(
        f"search, {queries} queries in {database} x {dim} float16, exact", "seconds",
        found[0]["seconds"], found[1]["seconds"], memory=(found[0]["peak_mb"], found[1]["peak_mb"]),
    )  # fmt: skip


def _ours(folder: Path) -> np.ndarray:
    with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
        return search(database, queries, K).indices


def _faiss(folder: Path) -> np.ndarray:
    import faiss

    with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
        index = faiss.IndexFlatL2(database.shape[1])
        index.add(database.read().float().numpy())
        indices: np.ndarray = index.search(queries.read().float().numpy(), K)[1]
        return indices


def main() -> None:
    """One side, in its own process: prints its seconds."""
    arguments = json.loads(sys.argv[1])
    find = {"ours": _ours, "faiss": _faiss}[arguments["who"]]
    folder = Path(arguments["folder"])
    indices = find(folder)
    times = [seconds(lambda: find(folder)) for _ in range(arguments["rounds"])]
    print(json.dumps({"seconds": times, "checksum": int(indices[:, :1].sum()), "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
