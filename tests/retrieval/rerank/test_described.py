"""The mean of a descriptor with its neighbours, against a loop over its definition."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.retrieval.rerank.described import weighted_mean


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 3.0]))
def test_neighbours_count_by_their_cosine_to_the_power_of_alpha(seed, alpha):
    generator = torch.Generator().manual_seed(seed)
    own, others = torch.randn(3, 5, generator=generator).double(), torch.randn(3, 4, 5, generator=generator).double()
    found = weighted_mean(own, others, alpha)
    for row in range(3):
        total = own[row].clone()
        for other in others[row]:
            cosine = float(own[row] @ other / (own[row].norm() * other.norm()))
            total += max(cosine, 0.0) ** alpha * other
        torch.testing.assert_close(found[row], total / total.norm() * own[row].norm())
