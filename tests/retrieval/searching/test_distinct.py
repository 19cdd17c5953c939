"""Equal rows are found as NumPy finds them."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.retrieval.searching import distinct
from vgbench.retrieval.searching.distinct import distinct_rows


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 3))
def test_sets_of_equal_rows_and_their_first(seed, rows, dim):
    values = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (rows, dim)).astype(np.float32))
    first, which = distinct_rows(values)
    wanted, start, of = np.unique(values.numpy(), axis=0, return_index=True, return_inverse=True)
    assert len(first) == len(wanted) and sorted(first.tolist()) == sorted(start.tolist())
    assert torch.equal(values[first[which]], values)
    assert len(set(zip(which.tolist(), of.reshape(-1).tolist(), strict=True))) == len(wanted)


def test_rows_that_share_a_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(distinct, "_hashes", lambda bits: torch.zeros(len(bits), dtype=torch.int64))
    first, which = distinct_rows(torch.tensor([[1.0], [2.0], [1.0]]))
    assert len(first) == 2 and which[0] == which[2] != which[1]
