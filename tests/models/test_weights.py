"""Checkpoints of every published style, and what is said about the others."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import build_network, load_state_dict, load_weights
from vgbench.models.network import Network


def _network(**options: object) -> Network:
    return build_network("efficientnet_lite0_s16", "gem", "none", **options)  # type: ignore[arg-type]


def _same(first: Network, second: Network) -> bool:
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


STYLES = {
    "bare": lambda sd: sd,
    "module prefix": lambda sd: {f"module.{key}": value for key, value in sd.items()},
    "checkpoint": lambda sd: {"epoch_num": 3, "model_state_dict": sd, "best_r5": 71.2, "recalls": [1.0, 2.0]},
    "wrapped checkpoint": lambda sd: {"model_state_dict": {f"module.{key}": value for key, value in sd.items()}},
    "state_dict": lambda sd: {"state_dict": sd, "other": None},
    "no counters": lambda sd: {key: value for key, value in sd.items() if "num_batches_tracked" not in key},
}


@pytest.mark.parametrize("style", STYLES)
def test_published_styles(style: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = _network()
    torch.manual_seed(2)
    direct, from_file = _network(), _network()
    torch.nn.init.normal_(direct.aggregation[1].p)
    checkpoint = STYLES[style](source.state_dict())
    torch.save(checkpoint, tmp_path / "weights.pth")
    load_state_dict(direct, checkpoint)
    load_weights(from_file, tmp_path / "weights.pth")
    assert _same(direct, source) and _same(from_file, source)


def test_another_networks_weights_change_nothing() -> None:
    network = _network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    weights = {**_network().state_dict(), "aggregation.9.weight": torch.zeros(1)}
    weights["aggregation.1.p"] = torch.zeros(2)
    del weights["backbone._conv_stem.weight"]
    with pytest.raises(UserError) as error:
        load_state_dict(network, weights)
    for part in (
        "1 missing (backbone._conv_stem.weight)",
        "1 not known (aggregation.9.weight)",
        "(2,) instead of (1,)",
    ):
        assert part in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Payload:
    """What a malicious checkpoint would hold."""


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    network = _network()
    path = tmp_path / "weights.pth"

    def message() -> str:
        with pytest.raises(UserError) as error:
            load_weights(network, path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    assert "no such file" in message()
    path.write_bytes(b"not a checkpoint")
    assert "Expected" in message()
    torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    assert "damaged" in message()
    path.write_bytes(pickle.dumps(Payload(), protocol=2))
    assert "holds more than tensors" in message()
    torch.save([1, 2], path)
    assert "holds a list" in message()
    torch.save({"epoch_num": 3}, path)
    assert "no state dict" in message()
    torch.save({}, path)
    assert "missing" in message()
    torch.save(_network(fc_output_dim=4).state_dict(), path)
    assert "of another network" in message()
