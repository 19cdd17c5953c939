"""A small set of descriptors and coordinates to re-rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from token_networks import Pictures, maker

from vgbench.data import Split
from vgbench.data.table import TableBuilder
from vgbench.retrieval import Descriptors, Predictions, search, write_descriptors
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Inference

MakeContext = Callable[..., RerankContext]


def clustered(rows: int, dim: int, seed: int, places: int = 8) -> torch.Tensor:
    """Unit vectors around a few directions, so that neighbourhoods mean something."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(places, dim, generator=torch.Generator().manual_seed(99))
    which = torch.randint(places, (rows,), generator=generator)
    noise = torch.randn(rows, dim, generator=generator)
    return torch.nn.functional.normalize(centres[which] + 0.8 * noise, dim=1)


def write(path: Path, values: torch.Tensor, name: str) -> Descriptors:
    return write_descriptors(path / f"{name}.h5", values, f"fingerprint of {name}")


def table(root: Path, utm: np.ndarray) -> Any:
    builder = TableBuilder()
    for number, (east, north) in enumerate(utm):
        builder.add(f"{number}.jpg", float(east), float(north))
    return builder.build(root)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Pictures]:
    """Return `token_networks.maker` in a folder of its own."""
    return maker(tmp_path)


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """Return a function (database=, queries=, options...) -> a context with coordinates at random in 200 m."""

    def make(database: torch.Tensor | None = None, queries: torch.Tensor | None = None, **options: Any) -> Any:
        database = clustered(60, 12, 0) if database is None else database
        queries = clustered(9, 12, 1) if queries is None else queries
        generator = np.random.default_rng(5)
        split = Split(
            root=tmp_path / "city",
            name="test",
            database=table(tmp_path / "city" / "database", generator.uniform(0, 200, (len(database), 2))),
            queries=table(tmp_path / "city" / "queries", generator.uniform(0, 200, (len(queries), 2))),
        )
        return RerankContext(
            split=split,
            database=write(tmp_path, database, "database"),
            queries=write(tmp_path, queries, "queries"),
            network=None,
            options=RerankOptions(**options),
            inference=Inference((32, 32)),
            cache=tmp_path / "cache",
        )

    return make


@pytest.fixture
def found() -> Callable[[RerankContext, int], Predictions]:
    """Return a function (context, k) -> the exact search's predictions."""
    return lambda context, k: search(context.database, context.queries, k)


def with_options(context: RerankContext, **options: Any) -> RerankContext:
    return dataclasses.replace(context, options=dataclasses.replace(context.options, **options))
