"""The project's networks through torch.hub, from a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import build_network

REPOSITORY = str(Path(__file__).resolve().parents[1])
IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_checkpoint_of_a_run(trained: Path) -> None:
    network = torch.hub.load(REPOSITORY, "trained", source="local", checkpoint=str(trained / "best_model.pth"))
    stored = torch.load(trained / "best_model.pth", weights_only=True)["model_state_dict"]
    assert all(torch.equal(value, stored[key]) for key, value in network.state_dict().items())
    assert not network.training
    assert network(IMAGES).shape == (2, network.descriptors_dim)


def test_a_network_by_its_parts() -> None:
    network = torch.hub.load(
        REPOSITORY, "network", source="local", backbone="efficientnet_lite0", aggregation="gem", fc_output_dim=32
    )
    expected = build_network("efficientnet_lite0", "gem", fc_output_dim=32).eval()
    expected.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(network(IMAGES), expected(IMAGES))


def test_mistakes_are_named(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "bare.pth")
    with pytest.raises(UserError, match=r"bare\.pth"):
        torch.hub.load(REPOSITORY, "trained", source="local", checkpoint=str(tmp_path / "bare.pth"))
    with pytest.raises(UserError, match="salad"):
        torch.hub.load(REPOSITORY, "released", source="local", name="nothing")
