"""The project's networks through torch.hub, from a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from locations import REPOSITORY

from vgbench.errors import UserError
from vgbench.models import build_network

IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_checkpoint_of_a_run(trained: Path) -> None:
    network = torch.hub.load(str(REPOSITORY), "trained", source="local", checkpoint=str(trained / "best_model.pth"))
    stored = torch.load(trained / "best_model.pth", weights_only=True)["model_state_dict"]
    assert all(torch.equal(value, stored[key]) for key, value in network.state_dict().items())
    assert not network.training
    assert network(IMAGES).shape == (2, network.descriptors_dim)


def test_two_urls_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for dim in (8, 16):
        written = build_network("resnet18conv4", "gem", "none", fc_output_dim=dim)
        content = {"model_state_dict": written.state_dict(), "network_config": written.config}
        (tmp_path / str(dim)).mkdir()
        torch.save(content, tmp_path / str(dim) / "best_model.pth")
    for dim in (8, 16, 8):
        url = (tmp_path / str(dim) / "best_model.pth").as_uri()
        network = torch.hub.load(str(REPOSITORY), "trained", source="local", checkpoint=url)
        assert network.descriptors_dim == dim
    kept = sorted(path.name for path in (tmp_path / "torch" / "hub" / "checkpoints").iterdir())
    assert len(kept) == 2 and all(name.startswith("best_model-") and name.endswith(".pth") for name in kept)


@pytest.mark.parametrize("url", ["file:///nowhere/best_model.pth", "nothing://there/best_model.pth"])
def test_a_url_that_cannot_be_had(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"^{url}: cannot be downloaded .*Expected") as told:
        torch.hub.load(str(REPOSITORY), "trained", source="local", checkpoint=url)
    assert "\n" not in str(told.value)


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
        torch.hub.load(str(REPOSITORY), "trained", source="local", checkpoint=str(tmp_path / "bare.pth"))
    with pytest.raises(UserError, match="salad"):
        torch.hub.load(str(REPOSITORY), "released", source="local", name="nothing")
