"""descriptors: what one network found, in the order of another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from token_networks import Pictures, of_pictures, tiny

from vgbench.errors import UserError
from vgbench.models import Network, build_network, network_file
from vgbench.retrieval.rerank.descriptors import DescriptorReranker, second_network
from vgbench.retrieval.rerank.options import RerankOptions


def stored(network: Network, path: Path) -> str:
    torch.save({"model_state_dict": network.state_dict(), "network_config": network.config}, path)
    return str(path)


def test_candidates_come_by_the_second_networks_distances(
    pictures: Callable[..., Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny("selavpr_pp")
    monkeypatch.setattr(network_file, "rebuild_network", lambda config, content, own: network)
    path = stored(network, tmp_path / "second.pth")
    context, before = pictures(rerank=("descriptors",), rerank_network=path, rerank_topk=3)
    done = DescriptorReranker()(before, context)
    with torch.inference_mode():
        queries, database = (
            network(of_pictures(table, network)).double().numpy()
            for table in (context.split.queries, context.split.database)
        )
    for query, row in enumerate(before.indices):
        distances = np.linalg.norm(database[row[:3]] - queries[query], axis=1)
        order = np.argsort(distances, kind="stable")
        np.testing.assert_array_equal(done.predictions.indices[query], [*row[:3][order], row[3]])
        np.testing.assert_allclose(done.predictions.distances[query, :3], distances[order], atol=2e-3)
    assert done.bytes_per_image >= 2 * network.descriptors_dim
    folders = {path.parent.name for path in context.cache.rglob("*.h5")}
    assert len(folders) == 2 and all("descriptors-" in name for name in folders)


def test_a_checkpoint_and_a_name(tmp_path: Path) -> None:
    torch.manual_seed(1)
    plain = build_network("resnet18conv4", "gem", "none")
    path = stored(plain, tmp_path / "plain.pth")
    network, size = second_network(RerankOptions(rerank=("descriptors",), rerank_network=path))
    assert size is None and not network.training
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--rerank descriptors: says no second network"),
        ({"rerank_network": "salat"}, "--method salat: not known. Did you mean salad"),
        ({"rerank_network": "HERE", "rerank_weights": "other.pth"}, "--rerank_weights other.pth: .* has its weights"),
        ({"rerank_network": "selavpr-pp-rerank", "rerank_weights": "nowhere.pth"}, "nowhere.pth: no such file"),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = stored(build_network("resnet18conv4", "gem", "none"), tmp_path / "plain.pth")
    options = {key: path if value == "HERE" else value for key, value in options.items()}
    with pytest.raises(UserError, match=message):
        second_network(RerankOptions(rerank=("descriptors",), **options))


def test_networks_that_mix_a_batch_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network("resnet18conv4", "gem", "none")
    network.mixes_batch = True
    monkeypatch.setattr(network_file, "rebuild_network", lambda config, content, own: network)
    path = stored(network, tmp_path / "mixing.pth")
    with pytest.raises(UserError, match="the other images of a batch"):
        second_network(RerankOptions(rerank=("descriptors",), rerank_network=path))
