"""What holds for every aggregation, and what each of them promises beyond the conformance vectors."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_heads import small_options
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import AGGREGATIONS, build_aggregation
from vgbench.models.aggregation.rmac import OVERLAP, regions
from vgbench.models.aggregation.salad import transport

CHANNELS, HEIGHT, WIDTH = 12, 7, 10
# L2-normalised always; the others are where --l2 says so, or not at all.
UNIT = {"netvlad", "crn", "rrm", "convap", "convgem", "cosplace", "mixvpr", "salad", "megaloc", "boq"}


def _layer(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_aggregation(name, CHANNELS, **small_options(name, HEIGHT, WIDTH)).eval()


def _inputs(name: str, batch: int = 3) -> Tensor | tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    features = torch.rand(batch, CHANNELS, HEIGHT, WIDTH)
    kinds = AGGREGATIONS.resolve(name)
    return {
        "map+token": (features, torch.rand(batch, CHANNELS)),
        "tokens": features.flatten(2).transpose(1, 2),
        "vector": features[:, :, 0, 0],
    }.get(getattr(kinds, "takes", "map") if isinstance(getattr(kinds, "takes", "map"), str) else "map", features)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_each_image_is_described_by_itself(name: str) -> None:
    layer, inputs = _layer(name), _inputs(name)
    pick = (lambda i: tuple(t[i : i + 1] for t in inputs)) if isinstance(inputs, tuple) else lambda i: inputs[i : i + 1]
    with torch.no_grad():
        together = layer(inputs)
        alone = torch.cat([layer(pick(i)) for i in range(3)])
    assert together.shape == (3, layer.descriptors_dim)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    if name in UNIT:
        torch.testing.assert_close(together.norm(dim=1), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_every_weight_is_trained_and_autocast_answers_float32(name: str) -> None:
    layer = _layer(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        descriptors = layer(_inputs(name))
    assert descriptors.dtype == torch.float32
    if descriptors.requires_grad:
        (descriptors * torch.randn_like(descriptors)).sum().backward()
    weights = dict(layer.named_parameters())
    frozen = {key for key, weight in weights.items() if not weight.requires_grad}
    assert frozen == ({"crn.acc_w.weight", "crn.acc_w.bias"} if name == "crn" else set())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for key, p in weights.items() if key not in frozen)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_features_that_are_all_zero_give_finite_descriptors_and_gradients(name: str) -> None:
    layer, inputs = _layer(name), _inputs(name)
    zeros = tuple(t.zero_().requires_grad_() for t in inputs) if isinstance(inputs, tuple) else inputs.zero_()
    descriptors = layer(zeros)
    assert torch.isfinite(descriptors).all()
    if descriptors.requires_grad:
        descriptors.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


def test_gem_of_a_grid_is_gem_of_its_cells() -> None:
    features = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    gem, grid = build_aggregation("gem", 3, l2="none"), build_aggregation("gem", 3, l2="none", gem_grid=2)
    cells = [gem(features[:, :, y : y + 2, x : x + 3]) for y in (0, 2) for x in (0, 3)]
    expected = torch.stack(cells, dim=2).flatten(1)  # a channel's cells in a row
    torch.testing.assert_close(grid(features), expected)
    assert grid.descriptors_dim == 12
    with pytest.raises(UserError, match="--gem_grid 2: tokens have no rows"):
        build_aggregation("gem", 3, gem_grid=2, tokens=True)


def test_gem_goes_from_the_mean_to_the_maximum() -> None:
    features = torch.rand(2, 4, 5, 6) + 0.1
    for p, expected in ((1.0, features.mean(dim=(2, 3))), (80.0, features.amax(dim=(2, 3)))):
        pooled = build_aggregation("gem", 4, l2="none", p=p)(features)
        torch.testing.assert_close(pooled, expected, atol=0.06 if p > 1 else 1e-6, rtol=0)


@pytest.mark.parametrize("l2", ["before_pool", "after_pool", "none"])
def test_gem_of_tokens_is_gem_of_the_map(l2: str) -> None:
    features = torch.rand(2, 4, 5, 6)
    of_map = build_aggregation("gem", 4, l2=l2)(features)
    of_tokens = build_aggregation("gem", 4, l2=l2, tokens=True)(features.flatten(2).transpose(1, 2))
    torch.testing.assert_close(of_tokens, of_map)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4))
def test_rmac_regions_lie_in_the_map_and_reach_its_edges(height: int, width: int, scales: int) -> None:
    squares = regions(height, width, scales)
    assert squares == sorted(squares, key=lambda square: -square[2])
    assert sorted(regions(width, height, scales)) == sorted((left, top, side) for top, left, side in squares)
    for top, left, side in squares:
        assert 0 <= top <= height - side and 0 <= left <= width - side and side >= 1
    first = [square for square in squares if square[2] == min(height, width)]
    assert {(top, left) for top, left, _ in first} >= {(0, 0)}
    assert max(top + side for top, _, side in first) == height or len(first) == 1
    assert max(left + side for _, left, side in first) == width or len(first) == 1


def test_rmac_regions_of_a_landscape_overlap_as_published() -> None:
    starts = [left for _, left, side in regions(30, 40, 1)]
    overlap = 1 - (starts[1] - starts[0]) / 30
    assert len(starts) == 2 and abs(overlap - OVERLAP) <= abs(1 - 5 / 30 - OVERLAP)
    assert [len([s for s in regions(30, 40, 3) if s[2] == side]) for side in (30, 20, 15)] == [2, 6, 12]


def test_rmac_is_the_sum_of_its_regions() -> None:
    features = torch.randn(2, 5, 6, 9)
    expected = F.normalize(features.amax(dim=(2, 3)), dim=1)
    for top, left, side in regions(6, 9, 3):
        expected = expected + F.normalize(features[:, :, top : top + side, left : left + side].amax(dim=(2, 3)), dim=1)
    torch.testing.assert_close(build_aggregation("rmac", 5, l2="none")(features), expected, atol=1e-4, rtol=1e-4)


def test_crn_with_equal_weights_everywhere_is_netvlad() -> None:
    crn, netvlad = _layer("crn"), _layer("netvlad")
    netvlad.load_state_dict({key: value for key, value in crn.state_dict().items() if not key.startswith("crn")})
    nn.init.zeros_(crn.crn.acc_w.weight)
    nn.init.ones_(crn.crn.acc_w.bias)
    features = torch.randn(2, CHANNELS, HEIGHT, WIDTH)
    torch.testing.assert_close(crn(features), netvlad(features))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 9), st.floats(-2, 2), st.integers(0, 99))
def test_transport_is_sinkhorns(batch: int, clusters: int, more: int, dust_bin: float, seed: int) -> None:
    torch.manual_seed(seed)
    scores = torch.randn(batch, clusters, clusters + more)
    shares = transport(scores, torch.tensor(dust_bin), 3)
    for image, result in zip(scores.double(), shares.double(), strict=True):
        plan = torch.cat([image, torch.full((1, image.shape[1]), dust_bin, dtype=torch.float64)]).exp()
        masses = torch.tensor([1.0] * clusters + [float(more)], dtype=torch.float64)
        for _ in range(3):
            plan = plan * (masses / plan.sum(dim=1)).unsqueeze(1)
            plan = plan / plan.sum(dim=0)
        torch.testing.assert_close(result, plan[:-1], atol=1e-4, rtol=1e-3)
    settled = transport(scores, torch.tensor(dust_bin), 500)
    torch.testing.assert_close(settled.sum(dim=2), torch.ones(batch, clusters), atol=1e-2, rtol=0)


def test_salad_needs_more_features_than_clusters() -> None:
    layer = build_aggregation("salad", CHANNELS, num_clusters=70)
    with pytest.raises(UserError, match="70 local features for 70 clusters"):
        layer((torch.rand(1, CHANNELS, HEIGHT, WIDTH), torch.rand(1, CHANNELS)))


def test_aggregations_refuse_options_of_others() -> None:
    with pytest.raises(UserError, match=r"aggregation mac: no option 'p'. Expected one of: \(it has none\)"):
        build_aggregation("mac", 4, p=3.0)
    assert math.isclose(build_aggregation("gem", 4, p=2.5)[1].p.item(), 2.5)
