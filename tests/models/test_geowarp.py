"""The geometry of GeoWarp against plain references, its answers, and how a network carries it."""

import cv2
import numpy as np
import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import build_network, rebuild_network
from vgbench.models.geowarp import (
    WHOLE,
    GeoWarp,
    attach,
    correlation,
    difference,
    geowarp_of,
    mirrored,
    project,
    projection,
    random_views,
    warp,
)  # fmt: skip
from vgbench.retrieval.extraction.extract import weights_hash
from vgbench.runtime import Runtime

CORNERS = torch.tensor(WHOLE)


def random_quads(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return CORNERS * (0.4 + 0.5 * torch.rand(count, 4, 2, generator=generator))


def test_a_projection_takes_the_corners_to_the_corners():
    quads = random_quads(50)
    assert torch.allclose(project(projection(quads), CORNERS.expand(50, 4, 2)), quads, atol=1e-5)


def test_projections_are_those_of_opencv():
    for quad in random_quads(5):
        expected = cv2.getPerspectiveTransform(CORNERS.numpy(), quad.numpy())
        found = projection(quad[None])[0].double().numpy()
        np.testing.assert_allclose(found / found[2, 2], expected / expected[2, 2], atol=1e-4)


def test_warp_is_that_of_opencv():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.uniform(0, 1, (40, 60)).astype(np.float32), (0, 0), 2)
    quad = random_quads(1)[0]
    found = warp(torch.from_numpy(image)[None, None], quad[None], (30, 50))[0, 0].numpy()
    # The same in pixels: -1 and 1 are outer edges, pixel 0 has its centre half a pixel inside.
    pixels = (quad.numpy() + 1) / 2 * [60, 40] - 0.5
    target = np.array([[-0.5, -0.5], [49.5, -0.5], [49.5, 29.5], [-0.5, 29.5]])
    matrix = cv2.getPerspectiveTransform(pixels.astype(np.float32), target.astype(np.float32))
    expected = cv2.warpPerspective(image, matrix, (50, 30), flags=cv2.INTER_LINEAR)
    assert np.abs(found - expected)[2:-2, 2:-2].max() < 0.01


def test_the_whole_image_is_left_as_it_is():
    images = torch.rand(2, 3, 12, 20)
    assert torch.allclose(warp(images, CORNERS.expand(2, 4, 2)), images, atol=1e-5)


def test_collapsed_quadrilaterals_stay_finite_and_have_gradients():
    quads = torch.zeros(2, 4, 2)
    quads[1] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])  # crosses itself
    quads.requires_grad_()
    out = warp(torch.rand(2, 3, 8, 8), quads)
    out.sum().backward()
    assert out.isfinite().all() and quads.grad.isfinite().all()


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.9])
def test_two_views_cut_as_answered_show_the_same(cut):
    generator = torch.Generator().manual_seed(1)
    views, right = random_views(30, cut, generator)
    assert views.shape == right.shape == (30, 2, 4, 2)
    assert (views.abs() <= 1 + 1e-6).all() and (right.abs() <= 1 + 1e-4).all()
    # A smooth picture, whose value is known everywhere: x and y themselves.
    y, x = torch.meshgrid(*[(torch.arange(64) * 2 + 1) / 64 - 1] * 2, indexing="ij")
    picture = torch.stack([x, y])[None].expand(30, -1, -1, -1)
    seen = [warp(warp(picture, views[:, side], (96, 96)), right[:, side], (16, 16)) for side in range(2)]
    assert (seen[0] - seen[1])[..., 2:-2, 2:-2].abs().max() < 0.03
    # They share no less than they could: a side of either view's is a side of the shared part.
    for axis, sides in ((0, ((0, 3), (1, 2))), (1, ((0, 1), (2, 3)))):
        for corners in sides:
            at_edge = (right[:, :, corners, axis].abs() > 1 - 1e-4).flatten(1).any(1)
            assert at_edge.all()


def test_views_of_a_seed_are_the_same_and_those_of_no_cut_are_the_image():
    one, other = (random_views(3, 0.5, torch.Generator().manual_seed(7))[1] for _ in range(2))
    assert torch.equal(one, other)
    views, right = random_views(3, 0.0, torch.Generator())
    assert torch.allclose(views, CORNERS.expand(3, 2, 4, 2)) and torch.allclose(right, views, atol=1e-6)


def test_mirrored_answers():
    views, right = random_views(4, 0.6, torch.Generator().manual_seed(3))
    y, x = torch.meshgrid(*[(torch.arange(64) * 2 + 1) / 64 - 1] * 2, indexing="ij")
    picture = torch.stack([x, y])[None].expand(4, -1, -1, -1)
    plain = warp(warp(picture, views[:, 0]), right[:, 0], (16, 16))
    again = warp(warp(picture, views[:, 0]).flip(-1), mirrored(right)[:, 0], (16, 16))
    assert (plain.flip(-1) - again).abs().max() < 0.01
    assert torch.equal(mirrored(mirrored(right)), right)


def test_correlation_by_brute_force():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 8, 15, 15, generator=generator), torch.randn(2, 8, 15, 15, generator=generator)
    found = correlation(one, other)
    for row, column in ((0, 0), (3, 11), (14, 7)):
        cell = one[1, :, row, column] / one[1, :, row, column].norm()
        wanted = torch.stack([cell @ (vector / vector.norm()) for vector in other[1].flatten(1).T]).clamp_min(0)
        assert torch.allclose(found[1, :, row, column], wanted / wanted.norm(), atol=1e-5)
    assert correlation(torch.rand(1, 4, 7, 9), torch.rand(1, 4, 31, 20)).shape == (1, 225, 15, 15)


def test_difference_by_brute_force():
    one, other = torch.randn(2, 6, 3, 4), torch.randn(2, 6, 3, 4)
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=1)
    assert torch.allclose(difference(one, other), (2 - 2 * cosine).mean((1, 2)), atol=1e-5)


def test_an_untrained_one_answers_with_the_whole_images_both_ways():
    geowarp = GeoWarp().eval()
    maps = torch.rand(3, 16, 14, 14), torch.rand(3, 16, 14, 14)
    assert torch.equal(geowarp(*maps), CORNERS.expand(3, 2, 4, 2))
    torch.nn.init.normal_(geowarp.corners.weight)
    there, back = geowarp.both_ways(*maps), geowarp.both_ways(*maps[::-1])
    assert torch.allclose(there, back.flip(1), atol=1e-6) and not torch.allclose(there, CORNERS.expand(3, 2, 4, 2))


def test_a_network_carries_it():
    network = build_network("resnet18conv4", "gem", pretrain="none").eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        before, hashed = network(images), weights_hash(network)
        geowarp = attach(network)
        assert attach(network) is geowarp
        torch.nn.init.normal_(geowarp.corners.weight)
        assert torch.equal(network(images), before) and weights_hash(network) == hashed
        again = rebuild_network(network.config, {"model_state_dict": network.state_dict()}).eval()
        assert torch.equal(again(images), before)
    assert torch.equal(geowarp_of(again).corners.weight, geowarp.corners.weight)
    assert again.config == network.config and Runtime().prepare(again) is again


def test_a_backbone_without_a_map_is_refused():
    network = build_network("cct384", "seqpool", pretrain="none", trunc_te=2)
    with pytest.raises(UserError, match="no map of local features"):
        attach(network)
