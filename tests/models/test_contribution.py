"""Heat maps: contributions that add up to the similarity, and that lie where two images agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vgbench.models import build_aggregation, build_network
from vgbench.models.contribution import local_contributions, pair_contributions
from vgbench.runtime import Runtime

CLOSED = [
    ("gem", {"l2": "before_pool"}, False), ("gem", {"l2": "after_pool"}, False), ("gem", {"l2": "none"}, True),
    ("spoc", {"l2": "before_pool"}, False), ("mac", {"l2": "none"}, False),
    ("netvlad", {"netvlad_clusters": 5}, False), ("netvlad", {"netvlad_clusters": 5, "tokens": True}, True),
]  # fmt: skip


def features_of(tokens: bool) -> torch.Tensor:
    shape = (3, 20, 8) if tokens else (3, 8, 4, 5)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.01


@pytest.mark.parametrize(("name", "options", "tokens"), CLOSED)
def test_contributions_add_up_to_the_similarity_up_to_each_images_own_factor(name, options, tokens):
    """Before its last normalisation a descriptor is a sum over positions, and so is its product with another."""
    torch.manual_seed(1)
    options = options | ({"tokens": True} if tokens else {})
    head = build_aggregation(name, 8, **options)
    features = features_of(tokens)
    target = torch.randn(3, head.descriptors_dim)
    scores = local_contributions(head, features, target)
    assert scores.shape == (features.shape[:2] if tokens else (3, 4, 5))
    similarity = (head(features) * target).sum(1)
    ratio = scores.flatten(1).sum(1) / similarity
    assert (ratio > 0).all()
    # The factor is the image's, whatever it is compared with.
    other = torch.randn(3, head.descriptors_dim)
    again = local_contributions(head, features, other).flatten(1).sum(1) / (head(features) * other).sum(1)
    torch.testing.assert_close(ratio, again, rtol=1e-3, atol=1e-4)


def test_a_linear_layer_behind_is_seen_through():
    torch.manual_seed(2)
    head = build_aggregation("gem", 8, fc_output_dim=6)
    head[1].bias.data.zero_()
    features, target = features_of(False), torch.randn(3, 6)
    ratio = local_contributions(head, features, target).flatten(1).sum(1) / (head(features) * target).sum(1)
    again = local_contributions(head, features, -2 * target).flatten(1).sum(1) / (head(features) * -2 * target).sum(1)
    torch.testing.assert_close(ratio, again, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mixvpr", {"in_h": 4, "in_w": 5, "out_channels": 8}),
        ("boq", {"proj_channels": 64}),
        ("gem", {"gem_grid": 2}),
    ],
)
def test_other_heads_give_the_slope(name, options):
    """The gradient times the feature is how the similarity answers to a little more of one place."""
    torch.manual_seed(3)
    head = build_aggregation(name, 64, **options).eval()
    features = torch.rand(2, 64, 4, 5)
    target = F.normalize(torch.randn(2, head.descriptors_dim), dim=1)
    scores = local_contributions(head, features, target)
    nudged = features.clone()
    nudged[:, :, 2, 3] *= 1.001
    with torch.no_grad():
        change = ((head(nudged) - head(features)) * target).sum(1) / 0.001
    torch.testing.assert_close(scores[:, 2, 3], change, rtol=0.05, atol=2e-4)


PAIRS = [
    ("resnet18conv4", "gem", {}), ("resnet18conv4", "netvlad", {"netvlad_clusters": 4}),
    ("resnet18conv4", "cosplace", {}), ("resnet18conv4", "convap", {"out_channels": 8}),
    ("dinov2_vits14", "cls", {}), ("dinov2_vits14", "salad", {"num_clusters": 4, "cluster_dim": 8, "token_dim": 8}),
]  # fmt: skip


@pytest.mark.parametrize(("backbone", "aggregation", "options"), PAIRS)
def test_every_kind_of_network_has_a_map(backbone, aggregation, options):
    size = (70, 98) if backbone.startswith("dino") else (64, 96)
    network = build_network(backbone, aggregation, "none", **options).eval()
    images = torch.randint(0, 255, (2, 2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maps = pair_contributions(network, images[0], images[1], Runtime())
    for one in maps:
        assert one.dim() == 3 and len(one) == 2 and one.shape[1] > 1 and one.shape[2] > 1
        assert (one >= 0).all() and (one.flatten(1).amax(1) > 0).all() and one.isfinite().all()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_map_is_bright_where_two_images_show_the_same():
    """Half of the image is shared; a network without any training sees most of the similarity there."""
    network = build_network("resnet18conv4", "gem", "none").eval()
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 255, (16, 16, 3)).repeat(8, 0).repeat(8, 1)
    pair = []
    for grey in (30, 220):
        image = np.full((128, 256, 3), grey)
        image[:, :128] = shared
        pair.append(torch.from_numpy(image.astype(np.uint8)).permute(2, 0, 1)[None])
    for one in pair_contributions(network, *pair, Runtime()):
        half = one.shape[2] // 2
        assert one[0, :, : half - 1].mean() > one[0, :, half + 1 :].mean()
