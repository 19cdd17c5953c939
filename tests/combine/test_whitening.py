"""Whitening from pairs: against the formula in float64, its published properties, and places that nuisances hide."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.combine.whitening import LEAST_SHRINKAGE, fit_whitening, principal_components
from vgbench.errors import UserError


def drawn(seed, places=30, dim=12, nuisance=0.5):
    """Return two L2-normalised descriptors of each place [2*places,dim] and the pairs [places,2]."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randn(places, dim, generator=generator)
    both = torch.cat([place + nuisance * torch.randn(places, dim, generator=generator) for _ in range(2)])
    rows = torch.arange(places)
    return F.normalize(both.double() + 0.2, dim=1), torch.stack([rows, rows + places], 1)


def by_formula(descriptors, pairs, shrinkage):
    """Return W(x - mean) of all descriptors, with the root of the whole matrix."""
    x = descriptors.numpy()
    differences = x[pairs[:, 0]] - x[pairs[:, 1]]
    covariance = differences.T @ differences / len(pairs)
    dim = len(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / dim * np.eye(dim)
    values, vectors = np.linalg.eigh(shrunk)
    return (x - x.mean(0)) @ (vectors / np.sqrt(values)) @ vectors.T


def cosines(rows):
    rows = F.normalize(torch.as_tensor(rows, dtype=torch.float64), dim=1)
    return rows @ rows.T


@pytest.mark.parametrize(("places", "dim"), [(40, 12), (6, 12), (12, 12)], ids=["tall", "wide", "square"])
@pytest.mark.parametrize("shrinkage", [0.01, 0.5, 1.0])
def test_the_formula(places, dim, shrinkage):
    descriptors, pairs = drawn(0, places, dim)
    found = fit_whitening(descriptors, pairs, shrinkage)
    expected = by_formula(descriptors, pairs, shrinkage)
    torch.testing.assert_close(cosines(found.apply(descriptors)), cosines(expected), atol=1e-9, rtol=0)
    weight, bias = found.layer()
    assert weight.dtype == bias.dtype == torch.float32
    torch.testing.assert_close(
        F.linear(descriptors.float(), weight, bias).double(), found.apply(descriptors), atol=1e-4, rtol=1e-4
    )


def test_pairs_differ_alike_in_every_direction_afterwards():
    descriptors, pairs = drawn(1, places=400, dim=8)
    white = fit_whitening(descriptors, pairs, 1e-6).apply(descriptors)
    differences = white[pairs[:, 0]] - white[pairs[:, 1]]
    covariance = differences.T @ differences / len(pairs)
    torch.testing.assert_close(covariance / covariance[0, 0], torch.eye(8, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("places", [6, 60], ids=["wide", "tall"])
def test_with_the_least_shrinkage_the_float32_layer_is_still_right(places):
    descriptors, pairs = drawn(6, places)
    weight, bias = fit_whitening(descriptors, pairs, LEAST_SHRINKAGE).layer()
    expected = by_formula(descriptors, pairs, LEAST_SHRINKAGE)
    found = F.linear(descriptors.float(), weight, bias)
    torch.testing.assert_close(cosines(found), cosines(expected), atol=1e-2, rtol=0)


def test_shrunk_to_the_end_only_the_mean_goes():
    descriptors, pairs = drawn(2)
    found = fit_whitening(descriptors, pairs, 1.0).apply(descriptors)
    torch.testing.assert_close(found, descriptors - descriptors.mean(0), atol=1e-12, rtol=0)


@given(seed=st.integers(0, 1000), places=st.integers(3, 30), shrinkage=st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_order_of_pairs_and_rotation_of_space_change_nothing(seed, places, shrinkage):
    descriptors, pairs = drawn(seed, places)
    generator = torch.Generator().manual_seed(seed)
    expected = cosines(fit_whitening(descriptors, pairs, shrinkage).apply(descriptors))
    turned, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=generator))
    shuffled = pairs[torch.randperm(places, generator=generator)].flip(1)
    found = fit_whitening(descriptors @ turned, shuffled, shrinkage).apply(descriptors @ turned)
    torch.testing.assert_close(cosines(found), expected, atol=1e-7, rtol=0)


def test_places_behind_a_nuisance_are_found():
    generator = torch.Generator().manual_seed(3)
    place = torch.randn(400, 32, generator=generator)
    nuisance = torch.randn(6, 32, generator=generator)  # weather, of six kinds, stronger than the places
    views = [F.normalize(place + 2.5 * torch.randn(400, 6, generator=generator) @ nuisance, dim=1) for _ in range(2)]
    train, rows = torch.cat([view[:200] for view in views]), torch.arange(200)
    fitted = fit_whitening(train, torch.stack([rows, rows + 200], 1), 0.01)
    held_out = [view[200:] for view in views]

    def recall(queries, database):
        nearest = (F.normalize(queries, dim=1) @ F.normalize(database, dim=1).T).argmax(1)
        return float((nearest == rows).double().mean())

    before, after = recall(*held_out), recall(*map(fitted.apply, held_out))
    assert before < 0.5 and after > 0.95, (before, after)


@pytest.mark.parametrize("images", [40, 8], ids=["tall", "wide"])
def test_kept_dimensions_are_those_of_the_largest_variance(images):
    descriptors, pairs = drawn(4, images // 2)
    fitted = fit_whitening(descriptors, pairs, 0.3)
    white = fitted.apply(descriptors)
    components = principal_components(white, 5)
    torch.testing.assert_close(components @ components.T, torch.eye(5, dtype=torch.float64), atol=1e-9, rtol=0)
    best = np.linalg.svd(white.numpy(), compute_uv=False)[:5]
    np.testing.assert_allclose(np.linalg.norm(white @ components.T, axis=0), best, rtol=1e-9)
    weight, bias = fitted.layer(components)
    torch.testing.assert_close(
        F.linear(descriptors.float(), weight, bias).double(), white @ components.T, atol=1e-4, rtol=1e-4
    )


def test_what_cannot_be_learned_is_told():
    descriptors, pairs = drawn(5)
    with pytest.raises(UserError, match="--shrinkage 0"):
        fit_whitening(descriptors, pairs, 0)
    with pytest.raises(UserError, match="do not differ"):
        fit_whitening(descriptors, pairs[:, :1].expand(-1, 2), 0.5)
    with pytest.raises(UserError, match="not all finite"):
        fit_whitening(descriptors.index_fill(0, torch.tensor([3]), float("nan")), pairs, 0.5)
    with pytest.raises(UserError, match="--dim 13"):
        principal_components(descriptors, 13)
