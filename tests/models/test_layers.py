"""Small layers against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.models.layers import L2Norm, SameConv2d, full_precision, l2_normalise, same_padding


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 4))
def test_same_padding_gives_a_map_of_ceil_of_size_by_stride(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    assert 0 <= before <= after <= before + 1
    wanted = -(-size // stride)
    assert (size + before + after - kernel) // stride + 1 == wanted or before + after == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 12), st.integers(5, 12), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]))
def test_a_same_convolution_is_a_padded_plain_one(height, width, kernel, stride):
    layer = SameConv2d(2, 3, kernel, stride)
    images = torch.randn(1, 2, height, width)
    top, bottom = same_padding(height, kernel, stride)
    left, right = same_padding(width, kernel, stride)
    wanted = F.conv2d(F.pad(images, (left, right, top, bottom)), layer.weight, stride=stride)
    torch.testing.assert_close(layer(images), wanted)
    assert layer(images).shape[2:] == (-(-height // stride), -(-width // stride))


@pytest.mark.parametrize("dim", [1, 2])
def test_lengths_are_one_in_float32(dim):
    found = L2Norm(dim)(torch.randn(2, 3, 4, dtype=torch.float16))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=dim), torch.ones(found.norm(dim=dim).shape))
    assert torch.equal(l2_normalise(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_autocast_is_off_inside():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a = torch.randn(4, 4)
        assert (a @ a).dtype == torch.bfloat16
        with full_precision(a):
            assert (a @ a).dtype == torch.float32
