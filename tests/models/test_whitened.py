"""Whitened networks: the layer against the member's own descriptors, in every form a network is run in."""

import pytest
import torch
import torch.nn.functional as F

from vgbench.models import build_network, rebuild_network
from vgbench.models.ensemble import build_ensemble
from vgbench.models.network import for_inference
from vgbench.models.whitened import build_whitened
from vgbench.runtime import Runtime

IMAGES = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def member():
    torch.manual_seed(0)
    found = build_network("resnet18conv4", "gem", "none").eval()
    found.mean.fill_(0.3)  # it normalises pixels in its own way
    found.std.fill_(0.7)
    return found


def expected(network, member):
    layer = network.backbone.projection
    with torch.no_grad():
        return F.normalize(F.linear(F.normalize(member(IMAGES), dim=1), layer.weight, layer.bias), dim=1)


@pytest.mark.parametrize("dim", [256, 20])
def test_the_layer_stands_behind_normalised_descriptors(member, dim):
    network = build_whitened(member, dim).eval()
    with torch.no_grad():
        found = network(IMAGES)
    assert found.shape == (3, dim) and network.descriptors_dim == dim
    torch.testing.assert_close(found, expected(network, member), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(for_inference(network, Runtime())(IMAGES), found, atol=1e-5, rtol=1e-4)


def test_its_configuration_rebuilds_it(member, tmp_path):
    network = build_whitened(member, 20).eval()
    torch.save({"state": network.state_dict(), "config": network.config}, tmp_path / "w.pth")
    stored = torch.load(tmp_path / "w.pth", weights_only=True)
    again = rebuild_network(stored["config"], stored["state"]).eval()
    for name in ("mean", "std"):  # a fixture's own values, which no configuration has
        getattr(again.backbone.members[0], name).copy_(getattr(member, name))
    with torch.no_grad():
        assert torch.equal(again(IMAGES), network(IMAGES))
    assert again.config == network.config and again.name == "whitened + gem"


def test_it_goes_into_an_ensemble_and_an_ensemble_into_it(member):
    other = build_network("alexnet", "mac", "none").eval()
    white = build_whitened(member, 20).eval()
    both = build_whitened(build_ensemble([white, other]).eval(), 30).eval()
    again = rebuild_network(both.config, both.state_dict()).eval()
    for name in ("mean", "std"):
        getattr(again.backbone.members[0].backbone.members[0].backbone.members[0], name).copy_(getattr(member, name))
    with torch.no_grad():
        torch.testing.assert_close(again(IMAGES), expected(both, both.backbone.members[0]), atol=1e-5, rtol=1e-4)


def test_all_of_it_is_trained(member):
    network = build_whitened(member, 20).train()
    network(IMAGES).square()[:, :5].sum().backward()
    layer = network.backbone.projection
    parts = [layer.weight, layer.bias, *(part for part in member.backbone.parameters() if part.requires_grad)]
    assert len(parts) > 2 and all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts)
