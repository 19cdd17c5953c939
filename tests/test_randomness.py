"""Streams of random numbers: by where in the run they are used, and by nothing else."""

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vgbench.randomness import numpy_stream, seed_everything, stream_seed, torch_stream

PATH = st.lists(st.one_of(st.integers(0, 1000), st.sampled_from(["mining", "views", "step"])), max_size=3)


@given(st.integers(0, 2**31), PATH, PATH)
def test_a_stream_is_named_by_its_path(seed, one, other):
    same = "/".join(map(str, one)) == "/".join(map(str, other))
    assert (stream_seed(seed, *one) == stream_seed(seed, *other)) == same
    assert 0 <= stream_seed(seed, *one) < 2**63


def test_what_was_drawn_before_does_not_matter():
    first = numpy_stream(3, "mining", 1).random(5), torch.rand(5, generator=torch_stream(3, "mining", 1))
    numpy_stream(3, "mining", 0).random(100)
    seed_everything(9)
    again = numpy_stream(3, "mining", 1).random(5), torch.rand(5, generator=torch_stream(3, "mining", 1))
    assert np.array_equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_everything_is_seeded():
    drawn = []
    for _ in range(2):
        seed_everything(4, "epoch", 2)
        drawn.append((random.random(), float(np.random.random()), float(torch.rand(()))))  # noqa: NPY002
    assert drawn[0] == drawn[1]
