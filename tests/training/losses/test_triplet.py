"""Losses against the released implementations' values and against formulas written out one pair at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import CONFORMANCE

from vgbench.errors import UserError
from vgbench.training.losses import LOSSES, build_loss
from vgbench.training.options import TrainOptions


def naive(name, query, positive, negatives, margin):
    """Sum of a loss over queries and negatives, in Python floats."""
    total = 0.0
    for q, p, ns in zip(query.tolist(), positive.tolist(), negatives.tolist(), strict=True):
        to_p = math.dist(q, p)
        to_ns = [math.dist(q, n) for n in ns]
        if name == "triplet":
            total += sum(max(0.0, to_p - to_n + margin) for to_n in to_ns)
        elif name == "sare_ind":
            total += sum(-math.log(math.exp(-(to_p**2)) / (math.exp(-(to_p**2)) + math.exp(-(t**2)))) for t in to_ns)
        else:
            everything = math.exp(-(to_p**2)) + sum(math.exp(-(t**2)) for t in to_ns)
            total += -math.log(math.exp(-(to_p**2)) / everything)
    return total


@pytest.mark.parametrize(
    ("criterion", "key"), [("triplet", "triplet_margin_0_1"), ("sare_ind", "sare_ind"), ("sare_joint", "sare_joint")]
)
def test_agrees_with_the_released_losses(criterion, key):
    data = torch.load(CONFORMANCE / "losses_triplet_sare.pt", weights_only=True)
    loss = build_loss(TrainOptions(criterion=criterion, margin=0.1))
    value = loss(data["query"], data["positive"], data["negatives"].unsqueeze(0))
    assert value.shape == ()
    assert abs(float(value) - float(data[key])) < 1e-5


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["triplet", "sare_ind", "sare_joint"]),
    batch=st.integers(1, 4),
    count=st.integers(1, 5),
    dim=st.integers(1, 7),
    margin=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_agrees_with_the_formula(name, batch, count, dim, margin, seed):
    generator = torch.Generator().manual_seed(seed)
    query, positive, negatives = (
        torch.nn.functional.normalize(torch.randn(*shape, dim, generator=generator, dtype=torch.float64), dim=-1)
        for shape in ((batch,), (batch,), (batch, count))
    )
    value = build_loss(TrainOptions(criterion=name, margin=margin))(query, positive, negatives)
    assert float(value) == pytest.approx(naive(name, query, positive, negatives, margin), abs=2e-4)


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradient_is_right_and_finite_where_descriptors_coincide(name):
    loss = build_loss(TrainOptions(criterion=name))
    query = torch.ones(1, 4, dtype=torch.float64, requires_grad=True)
    loss(query, query.detach().clone(), query.detach().expand(1, 3, 4)).backward()
    assert torch.isfinite(query.grad).all()
    inputs = [torch.rand(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 5), (2, 5), (2, 3, 5))]
    assert torch.autograd.gradcheck(loss, inputs)


def test_a_loss_of_ones_own_gets_the_options_it_names():
    loss = build_loss(TrainOptions(criterion=f"{own_loss.__module__}:own_loss", margin=0.25))
    assert loss(None, None, None) == 0.25


def own_loss(margin, negs_num_per_query=0):
    assert negs_num_per_query == 10
    return lambda query, positive, negatives: margin


def greedy_loss(colour):
    raise AssertionError("never called")


def test_a_loss_that_asks_for_an_unknown_option_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"asks for 'colour'.*margin"):
        build_loss(TrainOptions(criterion=f"{greedy_loss.__module__}:greedy_loss"))
    with pytest.raises(UserError, match="Did you mean triplet"):
        build_loss(TrainOptions(criterion="triplt"))
