"""Networks in folders as Hugging Face keeps them: what comes back is the network, and no configuration runs code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import vgbench
from vgbench.errors import UserError
from vgbench.models import Network, build_network, rebuild_network
from vgbench.models.base import Aggregation
from vgbench.models.ensemble import build_ensemble
from vgbench.models.pretrained_folder import CONFIG, MODEL, write_folder
from vgbench.models.release_kinds import HubTrunk, WholeDescriptor
from vgbench.models.weights import read_checkpoint
from vgbench.retrieval.extraction.extract import weights_hash

SIZE = (64, 96)


class Mean(Aggregation):
    """Code of a user's own."""

    takes = "map"

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptors_dim = in_channels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))


def small(aggregation: str = "gem", **options: Any) -> Network:
    torch.manual_seed(2)
    network = build_network("resnet18conv4", aggregation, "none", **options).eval()
    with torch.no_grad():  # statistics of a network that was trained
        for name, value in network.state_dict().items():
            if "running" in name:
                value.add_(0.1 * torch.rand_like(value))
    return network


def geowarped() -> Network:
    from vgbench.models.geowarp import attach

    network = small()
    attach(network)
    return network


@pytest.mark.parametrize(
    "make",
    [
        small,
        lambda: small("netvlad", netvlad_clusters=4, fc_output_dim=16),
        lambda: small("mixvpr", resize=SIZE, out_channels=8),
        lambda: small(non_local=True, num_non_local=1, l2="after_pool"),
        lambda: build_ensemble([small(), small("mac")], "concat", [0.25, 0.75]),
        geowarped,
    ],
)
def test_the_network_comes_back_bit_for_bit(make, tmp_path: Path) -> None:
    network = vgbench.load_network(make(), size=SIZE, amp="off", device="cpu")
    network.save_pretrained(tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {CONFIG, MODEL}
    again = vgbench.load_network(tmp_path / "mine", amp="off", device="cpu")
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(again(images), network(images))
    assert again.inference.size == SIZE
    assert weights_hash(again.network) == weights_hash(network.network)
    assert vgbench.LoadedNetwork.from_pretrained(tmp_path / "mine", size=(32, 32)).inference.size == (32, 32)


def test_a_released_network_is_one_by_its_name(tmp_path: Path) -> None:
    network = vgbench.models.releases.release_of("cosplace-resnet18-32").build("cosplace-resnet18-32", trained=False)
    write_folder(network.eval(), SIZE, tmp_path)
    content = read_checkpoint(tmp_path / MODEL)
    assert content["network_config"] == {"method": "cosplace-resnet18-32"} and content["options"] == {
        "resize": [64, 96]
    }
    assert weights_hash(rebuild_network(content["network_config"], content)) == weights_hash(network)


def changed(folder: Path, **values: Any) -> None:
    said = json.loads((folder / CONFIG).read_text())
    said["network_config"] |= values.pop("network", {})
    (folder / CONFIG).write_text(json.dumps(said | values))


@pytest.mark.parametrize(
    "values",
    [
        {"network": {"backbone": "os:system"}},
        {"network": {"aggregation": "subprocess:run"}},
        {"network": {"backbone_args": ["pretrained=os:system"], "aggregation": "builtins:exec"}},
        {"network": {"fc_output_dim": 10**12}},
        {"network": {"netvlad_clusters": math.nan}},
        {"network": {"aggregation": {"name": "gem"}}},
        {"network": {"aggregation": "netvlad"}},
        {"network_config": None},
        {"network_config": ["resnet18conv4"]},
        {"network_config": {"members": [{"backbone": "os:system", "aggregation": "gem"}]}},
        {"resize": "rm -rf"},
        {"resize": [64]},
    ],
)
def test_a_hostile_configuration_is_refused_in_one_line(values: dict[str, Any], tmp_path: Path) -> None:
    write_folder(small(), SIZE, tmp_path)
    changed(tmp_path, **values)
    with pytest.raises(UserError, match="Expected") as told:
        vgbench.load_network(tmp_path)
    assert "\n" not in str(told.value) and str(tmp_path) in str(told.value)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b" " * 2**21])
def test_what_is_no_configuration_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    write_folder(small(), SIZE, tmp_path)
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: .*Expected") as told:
        vgbench.load_network(tmp_path)
    assert "\n" not in str(told.value)


def test_code_of_ones_own_runs_only_where_it_is_named_in_the_call(tmp_path: Path) -> None:
    name = f"{__name__}:Mean"
    write_folder(small(name), SIZE, tmp_path)
    with pytest.raises(UserError, match="--own_code"):
        vgbench.load_network(tmp_path)
    assert vgbench.load_network(tmp_path, own_code=[name]).network.config["aggregation"] == name


def test_a_configuration_of_others_is_none_of_ours(tmp_path: Path) -> None:
    network = small()
    write_folder(network, SIZE, tmp_path)
    (tmp_path / CONFIG).write_text('{"library_name": "transformers", "network_config": {"backbone": "os:system"}}')
    assert read_checkpoint(tmp_path / MODEL).keys() == network.state_dict().keys()


def test_the_code_of_others_cannot_be_kept_so(tmp_path: Path) -> None:
    trunk = HubTrunk(torch.nn.Identity(), 4, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(UserError, match="authors' code"):
        write_folder(Network(trunk, WholeDescriptor(4), {"method": "sfrs"}), SIZE, tmp_path)
    assert not any(tmp_path.iterdir())
