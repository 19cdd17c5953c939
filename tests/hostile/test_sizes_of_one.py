"""One database image, one query, one image a batch, more predictions than images: every part of every table of testing.

The cases come from the tables themselves: a part that is added to one is tested here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes import network_of
from tiny_city import write_image
from token_networks import PARTS as TOKENS
from token_networks import size_for, tiny

from vgbench.data import Split
from vgbench.data.protocol import read_split
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.geowarp import attach
from vgbench.models.hashing import attach_hashing
from vgbench.retrieval.adaptive.stage import Reranking
from vgbench.retrieval.evaluation import Evaluation, evaluate
from vgbench.retrieval.options import POOLINGS, EvalOptions
from vgbench.retrieval.query_methods import QUERY_METHODS
from vgbench.retrieval.rerank import RERANKERS
from vgbench.retrieval.rerank.local import EXTRACTORS, MATCHERS
from vgbench.retrieval.rerank.options import DENSE_SCORES, SPATIAL_CLUSTERS, SPATIAL_ORDERS, RerankOptions
from vgbench.retrieval.searching.tables import INDICES, QUANTISERS, SEARCH_BACKENDS
from vgbench.runtime import Inference, Runtime

SIZES = [(1, 1), (2, 3)]  # database images, queries
SIDE = 48
# Why a part may have to refuse: nothing else is taken for a success.
IMPOSSIBLE = (
    "cannot import|was not trained for --local_features|fewer than its .* centroids|have no more than . components"
)


def cases() -> Iterator[Any]:
    """(options of the search, of the re-rankers) of every part."""
    for name in RERANKERS:
        yield pytest.param({}, {"rerank": (name,)}, id=f"rerank {name}")
        yield pytest.param({}, {"rerank": (name, "aqe")}, id=f"rerank {name} aqe")
    for name in SPATIAL_CLUSTERS:
        yield pytest.param({}, {"rerank": ("spatial",), "spatial_cluster": name}, id=f"clusters {name}")
    for name in SPATIAL_ORDERS:
        yield pytest.param({}, {"rerank": ("spatial",), "spatial_order": name}, id=f"order {name}")
    yield pytest.param({}, {"rerank": ("kreciprocal",), "kreciprocal_joint": True}, id="rerank kreciprocal joint")
    for name in DENSE_SCORES:
        yield pytest.param({}, {"rerank": ("dense",), "dense_score": name}, id=f"dense {name}")
    for name in EXTRACTORS:
        yield pytest.param({}, {"rerank": ("local",), "local_features": (name,)}, id=f"local {name}")
    for name in MATCHERS:
        yield pytest.param({}, {"rerank": ("local",), "local_matcher": (name,)}, id=f"matcher {name}")
    for name in INDICES:
        yield pytest.param({"index": name}, {}, id=f"index {name}")
        if name != "exact":
            bits = {"pq_bits": 4} if name == "ivfpq" else {}
            yield pytest.param({"index": name, "refine": 2, **bits}, {}, id=f"index {name} refined")
    for name in QUANTISERS:
        yield pytest.param({"quantise": name}, {}, id=f"codes {name}")
        bits = {"pq_bits": 4} if name == "pq" else {}
        if name != "none":
            yield pytest.param({"quantise": name, "refine": 2, **bits}, {}, id=f"codes {name} refined")
    for name in SEARCH_BACKENDS:
        yield pytest.param({"search_backend": name}, {}, id=f"backend {name}")
    for name in QUERY_METHODS:
        yield pytest.param({"test_method": name}, {}, id=f"method {name}")
        yield pytest.param({"test_method": name, "scales": (0.5, 1.0)}, {}, id=f"method {name} scales")
        yield pytest.param({"test_method": name}, {"rerank": ("aqe", "spatial")}, id=f"method {name} aqe")
    for name in POOLINGS:
        yield pytest.param({"scales": (0.5, 1.0), "scale_pooling": name}, {}, id=f"pooling {name}")
    yield pytest.param({"descriptors_dtype": "float16"}, {}, id="float16")
    yield pytest.param({"pca_dim": 1}, {}, id="pca")


@pytest.fixture(scope="module")
def network() -> Network:
    network: Network = network_of()
    attach(network)
    attach_hashing(network, 16)
    return network.eval()


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of another network."""
    network, path = network_of(7), tmp_path_factory.mktemp("second") / "second.pth"
    torch.save({"network_config": network.config, "model_state_dict": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]} by {size[1]}")
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Split:
    database, queries = request.param
    folder = tmp_path_factory.mktemp("of_one") / "images"
    for part in ("train", "test"):
        for row in range(database):
            write_image(folder / part / "database", row, 0, 1.0)
    for row in range(queries):
        write_image(folder / "test" / "queries", row, 1, 2.0)
    return read_split(folder.parent, "test")


def outcome_of(split: Split, network: Network, folder: Path, options: Any, chain: Any) -> Evaluation:
    name = chain.get("rerank", ("",))[0]
    if name in TOKENS:  # re-rankers of a network of their own
        network = tiny(name)
    inference = Inference(size_for(network) if name in TOKENS else (SIDE, SIDE), 1, 0, Runtime())
    return evaluate(
        network, split, EvalOptions(**options), inference, folder, reranking=Reranking(RerankOptions(**chain))
    )


@pytest.mark.parametrize(("options", "chain"), list(cases()))
def test_every_part_does_with_one(
    split: Split, network: Network, second: Path, tmp_path: Path, options: dict[str, Any], chain: dict[str, Any]
) -> None:
    if "descriptors" in chain.get("rerank", ()):
        chain = {**chain, "rerank_network": str(second)}
    try:
        found = outcome_of(split, network, tmp_path, options, chain)
    except UserError as error:
        # What cannot be done with so few is said before anything is described.
        assert "\n" not in str(error) and "Expected" in str(error)
        assert re.search(IMPOSSIBLE, str(error)), error
        assert not list(tmp_path.glob("*.h5*"))
        return
    indices, distances = found.predictions.indices, found.predictions.distances
    rows = len(split.database)
    assert indices.shape == distances.shape == (len(split.queries), rows)
    assert (np.sort(indices, axis=1) == np.arange(rows)).all()
    assert np.isfinite(distances).all() and (np.diff(distances, axis=1) >= 0).all()
    assert all(0 <= recall <= 100 for table in found.recalls.values() for recall in table.values())
