"""Model soups: the mean, the greedy recipe, BatchNorm's statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import tiny_network
from torch import nn

from vgbench.combine.soup import Average, greedy_soup, reestimate_batch_norm, uniform_soup
from vgbench.errors import UserError


def states(count):
    found = [tiny_network(seed).state_dict() for seed in range(count)]
    for seed, state in enumerate(found):
        state["norm.running_mean"] += seed
        state["norm.num_batches_tracked"] += 10 * (seed + 1)
    return found


@pytest.mark.parametrize("count", [1, 2, 5])
def test_uniform_is_the_mean_of_everything(count):
    given_states = states(count)
    copies = [{key: value.clone() for key, value in state.items()} for state in given_states]
    soup = uniform_soup(count, given_states.__getitem__)
    for key, value in soup.state.items():
        stacked = np.stack([state[key].double().numpy() for state in given_states])
        expected = stacked[0] if key.endswith("tracked") else stacked.mean(0)
        np.testing.assert_allclose(value.double().numpy(), expected, rtol=1e-6, atol=1e-7)
        assert value.dtype == given_states[0][key].dtype
    assert soup.chosen == tuple(range(count))
    for state, copy in zip(given_states, copies, strict=True):  # left as they were
        assert all(torch.equal(state[key], copy[key]) for key in copy)


def test_equal_networks_average_to_themselves():
    [state] = states(1)
    soup = uniform_soup(7, lambda index: state)
    assert all(torch.equal(soup.state[key], value) for key, value in state.items())


def test_half_precision_is_averaged_in_double():
    parts = [{"w": torch.tensor([value], dtype=torch.float16)} for value in (60000.0, 60000.0, 6.0)]
    assert uniform_soup(3, parts.__getitem__).state["w"].item() == pytest.approx(40002, rel=1e-3)


def test_other_networks_are_refused():
    with pytest.raises(UserError, match="one architecture"):
        uniform_soup(2, [states(1)[0], nn.Linear(2, 2).state_dict()].__getitem__)


def brute_force_greedy(values, score):
    """The paper's recipe, written out for numbers."""
    order = sorted(range(len(values)), key=lambda index: (-score(values[index]), index))
    chosen, best = [], -np.inf
    for index in order:
        found = score(np.mean([values[i] for i in [*chosen, index]]))
        if found >= best:
            chosen, best = [*chosen, index], found
    return chosen, best


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=7))
def test_greedy_is_the_papers_recipe(values):
    def score(value):
        return -round(abs(float(value) - 1.5), 6)

    parts = [{"w": torch.tensor([float(value)], dtype=torch.float64)} for value in values]
    soup = greedy_soup(len(parts), parts.__getitem__, lambda state: score(state["w"]))
    chosen, best = brute_force_greedy([float(value) for value in values], score)
    assert list(soup.chosen) == chosen and soup.score == pytest.approx(best)
    assert soup.scores == tuple(score(value) for value in values)
    assert soup.state["w"].item() == pytest.approx(np.mean([values[index] for index in chosen]))
    assert soup.score >= max(soup.scores)


def test_averages_are_finished_before_they_are_scored_and_single_ones_are_not():
    parts = [{"w": torch.tensor([value])} for value in (1.0, 2.0, 3.0)]
    finished = []

    def finish(state):
        finished.append(state["w"].item())
        return {"w": state["w"] + 100}

    soup = greedy_soup(3, parts.__getitem__, lambda state: float(state["w"]), finish)
    assert finished == [2.5, 2.0] and soup.state["w"].item() == 102.5 and soup.chosen == (2, 1)
    assert uniform_soup(1, parts.__getitem__, finish).state["w"].item() == 1.0
    assert uniform_soup(3, parts.__getitem__, finish).state["w"].item() == 102.0


def test_an_average_stays_as_it_is_when_another_is_tried():
    one = Average().with_one_more({"w": torch.tensor([1.0])})
    one.with_one_more({"w": torch.tensor([9.0])})
    assert one.mean()["w"].item() == 1.0 and one.count == 1


def test_reestimated_statistics_are_those_of_the_images():
    network = tiny_network()
    images = torch.randint(0, 256, (5, 8, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    weights = {key: value.clone() for key, value in network.state_dict().items() if not key.startswith("norm.")}
    assert reestimate_batch_norm(network, images) == 1
    with torch.no_grad():
        maps = [network.conv(batch.float() / 255).double() for batch in images]
    mean = torch.stack([found.mean((0, 2, 3)) for found in maps]).mean(0)
    variance = torch.stack([found.transpose(0, 1).flatten(1).var(1) for found in maps]).mean(0)
    torch.testing.assert_close(network.norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network.norm.running_var.double(), variance, rtol=1e-5, atol=1e-6)
    assert not any(module.training for module in network.modules()) and network.norm.momentum == 0.1
    assert all(torch.equal(network.state_dict()[key], value) for key, value in weights.items())
    assert not torch.is_grad_enabled() or all(parameter.grad is None for parameter in network.parameters())


def test_a_network_without_batch_norm_is_left_alone():
    layer = nn.Linear(2, 2)
    assert reestimate_batch_norm(layer, iter(())) == 0
