"""The fast form against the network itself."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models import build_network, for_inference
from vgbench.models.backends import eager
from vgbench.models.base import as_backbone
from vgbench.models.fold_batch_norm import FusedConv2d, fuse
from vgbench.models.layers import SameConv2d
from vgbench.models.network import Network
from vgbench.runtime import Runtime


def _settle(network: Network) -> Network:
    """Give every BatchNorm its own statistics and affine, so that folding them wrongly shows."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network


def _pixels(height: int, width: int, batch: int = 5) -> Tensor:
    return torch.randint(
        0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


# Even, odd and mixed sizes take different paths through TensorFlow-style padding.
@pytest.mark.parametrize("size", [(64, 32), (65, 33), (66, 35)])
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18conv4"])
def test_float32_is_the_same_function(backbone: str, size: tuple[int, int]) -> None:
    network = _settle(build_network(backbone, "gem", "none"))
    images = _pixels(*size)
    before = copy.deepcopy(network.state_dict())
    describe = for_inference(network, Runtime(channels_last=True))
    with torch.no_grad():
        expected = network.eval()(images)
    torch.testing.assert_close(describe(images), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(describe(network.normalise(images)), expected, atol=2e-5, rtol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("kernels", ["as here", "none"])
@pytest.mark.parametrize("aggregation", ["gem", "netvlad"])
def test_bf16_stays_close_and_answers_float32(aggregation: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels == "none":  # a CPU before AVX-512: oneDNN refuses bf16, torch itself computes it
        monkeypatch.setattr(eager, "onednn_has_bf16", lambda: False)
    network = build_network("efficientnet_lite0_s16", aggregation).eval()
    images = _pixels(96, 96)
    fast = for_inference(network, Runtime(amp_dtype=torch.bfloat16, channels_last=True))(images)
    with torch.no_grad():
        exact = network(images)
    assert fast.dtype == torch.float32
    assert F.cosine_similarity(fast, exact).min() > 0.98


def test_training_mode_and_trainability_are_left_alone() -> None:
    network = build_network("resnet18conv4", "gem", "none").train()
    trainable = [p.requires_grad for p in network.parameters()]
    describe = for_inference(network, Runtime())
    first = describe(_pixels(64, 64))
    assert network.training and [p.requires_grad for p in network.parameters()] == trainable
    with torch.no_grad():
        network.backbone[0].weight.zero_()
    assert torch.equal(describe(_pixels(64, 64)), first), "the form shares weights with the network"


def test_everything_that_can_be_folded_is() -> None:
    trunk = build_network("efficientnet_lite0", "gem", "none").backbone
    fused = fuse(trunk, pointwise=True)
    kinds = {type(module) for module in fused.modules()}
    assert not kinds & {nn.BatchNorm2d, SameConv2d, nn.ReLU6} and FusedConv2d in kinds
    assert {node.op for node in fused.graph.nodes} == {"placeholder", "call_module", "output"}


class Awkward(nn.Module):
    """What must not be folded: a shared convolution, an intermediate used twice, a broadcast sum, ReLU6 of a sum."""

    kind = "map"
    out_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.seen = nn.Conv2d(4, 4, 1)
        self.reflected = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.named = nn.Conv2d(4, 4, 3, padding="same")
        self.scale = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.first(images))
        x = self.norm(self.shared(x)) + self.shared(x)
        y = self.seen(x)
        x = F.relu(y) + y
        x = F.relu6(self.reflected(x) + x)
        return F.relu6(self.named(x) + self.scale(x.mean(dim=(2, 3), keepdim=True)))


class Broadcast(nn.Module):
    kind = "map"
    out_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.conv(images))
        return F.relu(self.last(x) + x.mean(dim=(2, 3), keepdim=True))


class DataDependent(Broadcast):
    def forward(self, images: Tensor) -> Tensor:
        x = super().forward(images)
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize("trunk", [Awkward, Broadcast, DataDependent])
def test_odd_trunks_stay_right(trunk: type[nn.Module]) -> None:
    torch.manual_seed(0)
    backbone = as_backbone("odd", trunk().eval())
    images = torch.randn(2, 3, 9, 11)
    with torch.no_grad():
        torch.testing.assert_close(fuse(backbone, pointwise=True)(images), backbone(images), atol=1e-5, rtol=1e-5)
