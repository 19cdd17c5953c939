"""Choosing a round's positives and negatives alone: the images are described already, with made-up descriptors.

python3 -m perf.beside.selection ours|reference CHECKOUT DIM [QUERIES]    # a process of its own; prints one JSON line
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perf.beside.stopwatch import now
from vgbench.data import ImageTable
from vgbench.data.table import TableBuilder

SPACING, NEGATIVES, SAMPLES, DATABASE_A_QUERY = 2.0, 10, 1000, 5
Choose = Callable[[], "list[list[int]]"]


def positions(queries: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Database [5 Q,2] and query [Q,2] positions, metres: images every 2 m of a street, a query every 10 m."""
    database = np.stack([np.arange(DATABASE_A_QUERY * queries) * SPACING, np.zeros(DATABASE_A_QUERY * queries)], axis=1)
    return database, database[::DATABASE_A_QUERY] + 1.0


def described(rows: NDArray[np.int64], dim: int) -> Tensor:
    """Unit descriptors [len(rows),D] that depend on the rows alone, in a fraction of the time of drawing each."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(64, dim, generator=generator)
    mixing = torch.sin(torch.from_numpy(rows)[:, None].float() * torch.arange(1, 65) * 0.37)
    return torch.nn.functional.normalize(mixing @ base, dim=1)


def ours(_: Path, dim: int, queries: int) -> Choose:
    """Our partial miner; `described` takes the place of the network."""
    from vgbench.data import neighbours_within
    from vgbench.runtime import RuntimeOptions, resolve_runtime
    from vgbench.training.mining import Task
    from vgbench.training.mining.partial import PartialMiner

    resolve_runtime(RuntimeOptions())
    places = positions(queries)
    tables = [_table(utm) for utm in places]
    task = Task(
        tables[0],
        tables[1],
        neighbours_within(places[1], places[0], 10.0),
        neighbours_within(places[1], places[0], 25.0),
    )
    miner = PartialMiner(task, NEGATIVES, SAMPLES, seed=0)
    offset = {id(tables[0]): 0, id(tables[1]): len(places[0])}
    known = described(np.arange(sum(map(len, places))), dim)

    def describe(table: ImageTable, rows: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(rows), 16):
            batch = torch.from_numpy(rows[start : start + 16])
            yield batch, known[batch + offset[id(table)]]

    def choose() -> list[list[int]]:
        found = miner.round(describe, 0, 0, queries).triplets
        return [
            [int(q), int(p), *map(int, n)] for q, p, n in zip(found.query, found.positive, found.negatives, strict=True)
        ]

    return choose


def _table(utm: NDArray[np.float64]) -> ImageTable:
    builder = TableBuilder()
    for row, (east, north) in enumerate(utm):
        builder.add(f"{row}.jpg", east, north)
    return builder.build(Path("street"))


def theirs(checkout: Path, dim: int, queries: int) -> Choose:
    """The checkout's partial miner; a matrix of descriptors takes the place of its cache."""
    sys.path.insert(0, str(checkout))
    module = importlib.import_module("datasets_ws")
    places = positions(queries)
    dataset = object.__new__(module.TripletsDataset)
    dataset.mining, dataset.neg_samples_num, dataset.negs_num_per_query = "partial", SAMPLES, NEGATIVES
    dataset.database_num, dataset.queries_num = len(places[0]), len(places[1])
    dataset.images_paths = [""] * (len(places[0]) + len(places[1]))
    dataset.queries_paths = [""] * len(places[1])
    dataset.hard_positives_per_query = _within(places, 10.0)
    dataset.soft_positives_per_query = _within(places, 25.0)
    cache = module.RAMEfficient2DMatrix((len(dataset.images_paths), dim))
    rows = np.arange(len(dataset.images_paths))
    cache[rows] = described(rows, dim).numpy()
    module.TripletsDataset.compute_cache = staticmethod(lambda *_, **__: cache)
    arguments = SimpleNamespace(cache_refresh_rate=queries, features_dim=dim)

    def choose() -> list[list[int]]:
        dataset.is_inference = True
        np.random.seed(0)  # noqa: NPY002  (it draws from numpy's global generator)
        dataset.compute_triplets_partial(arguments, None)
        found: list[list[int]] = dataset.triplets_global_indexes.tolist()
        return found

    return choose


def _within(places: tuple[NDArray[np.float64], NDArray[np.float64]], radius: float) -> list[NDArray[np.int64]]:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(radius=radius).fit(places[0])
    return list(search.radius_neighbors(places[1], return_distance=False))


def wrong_choices(chosen: list[list[int]], queries: int, dim: int) -> int:
    """Count the triplets with a positive farther than 10 m, a negative nearer than 25 m, or negatives out of order."""
    database, asked = positions(queries)
    wrong = 0
    for query, positive, *negatives in chosen:
        far = np.linalg.norm(database[negatives] - asked[query], axis=1)
        near = np.linalg.norm(database[positive] - asked[query])
        own = described(np.array([len(database) + query]), dim)
        distances = torch.linalg.norm(described(np.array(negatives), dim) - own, dim=1).diff()
        wrong += bool(near > 10 or (far <= 25).any() or (distances < -1e-3).any())
    return wrong


def main() -> None:
    """One side: a warm-up, then one round that is timed."""
    side, checkout, dim = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    queries = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
    choose = {"ours": ours, "reference": theirs}[side](checkout, dim, queries)
    choose()
    begin, processor = now()
    chosen = choose()
    end, processor_end = now()
    wrong = wrong_choices(chosen[:50], queries, dim)
    print(json.dumps({"selection": [[begin, end, processor, processor_end]], "triplets": len(chosen), "wrong": wrong}))


if __name__ == "__main__":
    main()
