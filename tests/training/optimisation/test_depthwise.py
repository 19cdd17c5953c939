"""The fast route for depthwise gradients gives the gradients, on the cases it is for, and only there."""

import pytest
import torch
import torch.nn.functional as F

from vgbench.runtime import Runtime
from vgbench.training.optimisation import depthwise
from vgbench.training.optimisation.depthwise import fast_depthwise_gradients

BF16 = Runtime(amp_dtype=torch.bfloat16, channels_last=True)


def gradients(kernel, stride, bias, runtime, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, 13, 17, generator=generator).to(dtype).requires_grad_()
    conv = torch.nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=bias)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    conv.to(dtype)
    with runtime.autocast(), fast_depthwise_gradients(runtime):
        out = conv(x)
    (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [x.grad, *(parameter.grad for parameter in conv.parameters())]


@pytest.mark.parametrize("kernels", ["as here", "none"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (5, 2), (3, 2), (7, 1)])
def test_gradients_are_those_of_float64(kernel, stride, bias, kernels, monkeypatch):
    if kernels == "none":  # a CPU before AVX-512: oneDNN has no bf16
        monkeypatch.setattr(depthwise, "onednn_has_bf16", lambda: False)
    taken = []
    route = depthwise._gradient
    monkeypatch.setattr(depthwise, "_gradient", lambda *a, **k: taken.append(1) or route(*a, **k))
    found = gradients(kernel, stride, bias, BF16)
    assert len(taken) == 2
    expected = gradients(kernel, stride, bias, Runtime(), torch.float64)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() <= 0.01 * other.abs().max()


@pytest.mark.parametrize("runtime", [Runtime(), Runtime(amp_dtype=torch.bfloat16, compile=True)])
def test_other_runtimes_are_left_alone(runtime, monkeypatch):
    taken = []
    route = depthwise._conv2d
    monkeypatch.setattr(depthwise, "_conv2d", lambda *a, **k: taken.append(1) or route(*a, **k))
    gradients(5, 2, False, BF16)
    assert taken  # here it would be noticed
    taken.clear()
    gradients(5, 2, False, runtime)
    assert not taken


def test_other_convolutions_and_inference_are_left_alone(monkeypatch):
    taken = []
    monkeypatch.setattr(depthwise, "_gradient", lambda *a, **k: taken.append(1))
    gradients(3, 1, False, BF16)
    x, w = torch.randn(1, 8, 9, 9, requires_grad=True), torch.randn(8, 2, 5, 5, requires_grad=True)
    with BF16.autocast(), fast_depthwise_gradients(BF16):
        F.conv2d(x, w, padding=2, groups=4).sum().backward()
        with torch.no_grad():
            assert F.conv2d(x, w, padding="same", groups=4).shape == x.shape
    assert not taken
