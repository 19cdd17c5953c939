"""NetVLAD against the published formula, cluster by cluster, in float64; and its initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import build_network, initialise_netvlad
from vgbench.models.aggregation.netvlad import NetVLAD
from vgbench.models.aggregation.netvlad_init import kmeans
from vgbench.models.network import Network


def naive(layer: NetVLAD, features: Tensor) -> Tensor:
    """The definition, with loops over images, clusters and positions."""
    centroids = layer.centroids.detach().double()
    weights = layer.conv.weight.detach().double().flatten(1)
    descriptors = []
    for image in features.double().flatten(2):
        rows = torch.zeros_like(centroids)
        for x in image.T:
            x = x / x.norm().clamp(min=1e-12)
            responses = (weights @ x).exp()
            for k in range(len(centroids)):
                rows[k] += responses[k] / responses.sum() * (x - centroids[k])
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
        descriptors.append(rows.flatten() / rows.norm())
    return torch.stack(descriptors)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99)
)
def test_formula(batch: int, channels: int, clusters: int, height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = NetVLAD(channels, netvlad_clusters=clusters)
    features = torch.randn(batch, channels, height, width)
    torch.testing.assert_close(layer(features).double(), naive(layer, features), atol=2e-5, rtol=0)


def test_residuals_keep_their_precision_under_autocast() -> None:
    torch.manual_seed(0)
    layer = NetVLAD(32, netvlad_clusters=4)
    # All features lie near one centre, so that residuals are small differences of large sums.
    layer.centroids.data[:] = nn.functional.normalize(torch.randn(1, 32), dim=1)
    features = (layer.centroids[0] + 1e-3 * torch.randn(1, 400, 32)).transpose(1, 2).reshape(1, 32, 20, 20).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        descriptors = layer(features)
    assert descriptors.dtype == torch.float32
    torch.testing.assert_close(descriptors.double(), naive(layer, features), atol=1e-3, rtol=0)


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(1)
    layer = NetVLAD(3, netvlad_clusters=2)
    layer(torch.randn(2, 3, 4, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_initial_assignment_is_as_sharp_as_published() -> None:
    torch.manual_seed(2)
    samples = nn.functional.normalize(torch.randn(500, 8), dim=1)
    layer = NetVLAD(8, netvlad_clusters=5)
    layer.set_clusters(kmeans(samples, 5, torch.Generator().manual_seed(0)), samples)
    scores = (samples @ layer.conv.weight.flatten(1).T).topk(2, dim=1).values
    assert (scores[:, 0] - scores[:, 1]).mean().item() == pytest.approx(-math.log(0.01), rel=1e-4)
    directions = nn.functional.normalize(layer.centroids, dim=1)
    torch.testing.assert_close(nn.functional.normalize(layer.conv.weight.flatten(1), dim=1), directions)


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_centres_are_the_means_of_their_points(seed: int) -> None:
    points = torch.randn(300, 3, generator=torch.Generator().manual_seed(3))
    centres = kmeans(points, 7, torch.Generator().manual_seed(seed))
    nearest = torch.cdist(points, centres).argmin(dim=1)
    for k in range(7):
        torch.testing.assert_close(centres[k], points[nearest == k].mean(dim=0), atol=1e-4, rtol=0)


def test_kmeans_refills_empty_clusters() -> None:
    # Nearly every start is the same point, so that all but one of the clusters are empty after the first step.
    truth = torch.eye(4) * 10
    centres = kmeans(torch.cat([truth[:1].repeat(3000, 1), truth[1:]]), 4, torch.Generator().manual_seed(0))
    # scikit-learn centres the points first, which rounds.
    torch.testing.assert_close(centres[centres.argmax(dim=1).argsort()], truth, atol=1e-4, rtol=0)


def test_kmeans_of_as_many_points_as_clusters_is_the_points() -> None:
    points = torch.arange(6.0).view(3, 2)
    centres = kmeans(points, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(centres[centres[:, 0].argsort()], points, atol=1e-5, rtol=0)


class RawTrunk(nn.Identity):
    out_channels = 3

    def __init__(self) -> None:
        super().__init__()


def _raw_network(clusters: int) -> Network:
    return Network(RawTrunk(), NetVLAD(3, netvlad_clusters=clusters), {"aggregation": "netvlad"})


def test_initialisation_is_reproducible_stops_at_500_images_and_keeps_the_mode() -> None:
    def batches() -> object:
        generator = torch.Generator().manual_seed(4)
        for _ in range(32):
            yield torch.randint(0, 256, (16, 3, 12, 12), dtype=torch.uint8, generator=generator)
        raise AssertionError("asked for more than the first 500 images")

    networks = [_raw_network(4).train() for _ in range(2)]
    for network in networks:
        initialise_netvlad(network, batches(), seed=7)
        assert network.training
    first, second = (network.aggregation for network in networks)
    assert torch.equal(first.centroids, second.centroids) and torch.equal(first.conv.weight, second.conv.weight)
    assert first.centroids.requires_grad and first.centroids.norm(dim=1).max() <= 1 + 1e-5
    # After initialisation the layer still trains: nothing in it is an inference tensor.
    networks[0](torch.randn(1, 3, 4, 4)).sum().backward()


def test_initialisation_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="--netvlad_clusters 4: the images give only 0 local features"):
        initialise_netvlad(_raw_network(4), [], seed=0)
    with pytest.raises(UserError, match="--aggregation gem: has no NetVLAD"):
        initialise_netvlad(build_network("efficientnet_lite0_s16", "gem", "none"), [], seed=0)
