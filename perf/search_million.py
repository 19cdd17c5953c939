"""A million descriptors: exact search from the file, and IVF-PQ, beside faiss's flat index with everything in memory.

The descriptors are made up, but not without structure, which IVF and PQ live on: 10,000 places of about 100 images,
in 512 dimensions whose variance falls off as a trained network's does (as 1/(1+i/16)), float16, L2-normalised. A query
is a database descriptor with noise of half its length. Every search runs in a process of its own, in turn.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perf.measure import Pair, in_own_process, pair_of, peak_mb
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.extraction.writer import DescriptorWriter
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.searching.exact import make_searcher
from vgbench.runtime import Runtime

K = 20
DIM = 512
PLACES_A_MILLION = 10_000
SPREAD, NOISE = 0.7, 0.5  # of an image about its place, of a query about its image; lengths, where a place has 1
BLOCK = 20_000
IVFPQ: dict[str, Any] = {
    "index": "ivfpq", "nlist": 1024, "nprobe": 80, "pq_subvectors": 128, "pq_bits": 4, "refine": 4,
}  # fmt: skip


def measure(rows: int, queries: int, rounds: int) -> list[Pair]:
    """Return two pairs: exact beside faiss flat, and IVF-PQ beside exact; say what the neighbours have in common."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, rows, queries)
        in_own_process("perf.search_million", {"who": "build", "folder": name})
        sides: dict[str, list[dict[str, Any]]] = {"exact": [], "flat": [], "ivfpq": []}
        for _ in range(rounds):
            for who, runs in sides.items():
                runs.append(in_own_process("perf.search_million", {"who": who, "folder": name}))
        found = {who: np.load(folder / f"{who}.npy") for who in sides}
        source = np.load(folder / "source.npy")
    exact, flat, ivfpq = (found[who] for who in sides)
    right = {who: 100 * float(np.mean(indices[:, 0] == source)) for who, indices in found.items()}
    print(
        f"exact and faiss flat: {100 * np.mean(exact == flat):.3f}% of {exact.size} neighbours the same, "
        f"{100 * np.mean(exact[:, 0] == flat[:, 0]):.2f}% of the first; R@1 of the source image: exact "
        f"{right['exact']:.1f}, faiss flat {right['flat']:.1f}, IVF-PQ {right['ivfpq']:.1f} "
        f"(first neighbour as exact: {100 * np.mean(ivfpq[:, 0] == exact[:, 0]):.1f}%)"
    )
    times = {who: [run["seconds"] for run in runs] for who, runs in sides.items()}
    peaks = {who: statistics.median(run["peak_mb"] for run in runs) for who, runs in sides.items()}
    what = f"search, {queries} queries in {rows} x {DIM} float16"
    against = (("exact", "flat", "exact, streamed; faiss flat in memory"), ("ivfpq", "exact", "IVF-PQ; exact"))
    return [
        pair_of(f"{what}: {label}", "seconds", times[a], times[b], memory=(peaks[a], peaks[b]))
        for a, b, label in against
    ]


def _write(folder: Path, rows: int, queries: int) -> None:
    """Write database.h5, queries.h5 and source.npy: the row that each query was made of."""
    random = torch.Generator().manual_seed(0)
    scale = 1 / (1 + torch.arange(DIM) / 16)
    scale /= torch.linalg.vector_norm(scale)  # a draw then has a length of about 1

    def draw(count: int) -> Tensor:
        return torch.randn(count, DIM, generator=random) * scale

    centres = draw(max(1, rows * PLACES_A_MILLION // 1_000_000))
    source = torch.randperm(rows, generator=random)[:queries].sort().values
    taken = []
    with DescriptorWriter(folder / "database.h5", rows, DIM, "float16", f"perf {rows}") as writer:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            place = torch.randint(0, len(centres), (count,), generator=random)
            block = torch.nn.functional.normalize(centres[place] + SPREAD * draw(count), dim=1).half()
            writer.write(block)
            taken.append(block[source[(source >= start) & (source < start + count)] - start])
    asked = torch.nn.functional.normalize(torch.cat(taken).float() + NOISE * draw(queries), dim=1)
    with DescriptorWriter(folder / "queries.h5", queries, DIM, "float16", "perf") as writer:
        writer.write(asked.half())
    np.save(folder / "source.npy", source.numpy())


def _prepared(who: str, database: Descriptors) -> Any:
    """Return a function from queries to predicted rows int64 [Q,K], ready to be timed."""
    if who == "flat":
        import faiss

        index = faiss.IndexFlatL2(DIM)
        for _, block in database.blocks(BLOCK):
            index.add(block.float().numpy())
        return lambda queries: index.search(queries.read().float().numpy(), K)[1]
    searcher = make_searcher(database, EvalOptions(**({} if who == "exact" else IVFPQ)), Runtime())
    return lambda queries: searcher.search(queries, K).indices


def main() -> None:
    """One side, in its own process: prints its seconds and its peak memory."""
    arguments = json.loads(sys.argv[1])
    who, folder = arguments["who"], Path(arguments["folder"])
    with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
        if who == "build":
            begun = time.perf_counter()
            make_searcher(database, EvalOptions(**IVFPQ), Runtime())
            print(json.dumps({"seconds": time.perf_counter() - begun, "peak_mb": peak_mb()}))
            return
        find = _prepared(who, database)
        find(InMemory(queries.read(0, 8), queries.path))  # the libraries' first call sets up their threads
        begun = time.perf_counter()
        indices = find(queries)
        spent = time.perf_counter() - begun
    np.save(folder / f"{who}.npy", indices)
    print(json.dumps({"seconds": spent, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
