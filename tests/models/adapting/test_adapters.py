"""Adapters: the papers' formulas, computed again layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models import build_network, for_inference, rebuild_network
from vgbench.models.backbones import dinov2
from vgbench.models.network import Network
from vgbench.runtime import Runtime

EXACT = Runtime(torch.device("cpu"), None, torch.contiguous_format)


@pytest.fixture(autouse=True)
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dinov2.SIZES, "vits", dinov2.Size(48, 4, 3))
    monkeypatch.setitem(dinov2.SIZES, "vitl", dinov2.Size(48, 15, 3))


def built(adapter: str, backbone: str = "dinov2_vits14", **options: Any) -> Network:
    torch.manual_seed(0)
    network = build_network(backbone, "gem", "none", adapter=adapter, **options)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".up." in name or name.endswith("gamma"):
                parameter.normal_(std=0.3)
    return network.eval()


def images(height: int = 28, width: int = 42) -> Tensor:
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def tokens_before(trunk: Any, pixels: Tensor) -> Tensor:
    """What goes into the first layer."""
    seen = []
    handle = trunk.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    trunk(pixels)
    handle.remove()
    found: Tensor = seen[0]
    return found


def bottleneck(adapter: Any, x: Tensor) -> Tensor:
    return F.linear(F.relu(F.linear(x, adapter.down.weight, adapter.down.bias)), adapter.up.weight, adapter.up.bias)


@pytest.mark.parametrize("kind", ["serial", "parallel", "serial_parallel"])
@torch.no_grad()
def test_each_layer_is_the_papers(kind: str) -> None:
    """z' = z + LS(A1(MSA(LN z))), z = z' + LS(MLP(LN z') + s A2(LN z')), A1 with a shortcut (Lu et al., 2024)."""
    network = built(kind, adapter_ratio=0.25, **({} if kind == "serial" else {"adapter_scale": 0.7}))
    trunk: Any = network.backbone
    pixels = network.normalise(images())
    x = tokens_before(trunk, pixels)
    found = trunk.encode(x, 2, 3)
    for block in trunk.blocks:
        mixed = dinov2.Attention.forward(block.attn, block.norm1(x))
        if "serial" in kind:
            assert block.attn.adapter.down.out_features == 12
            mixed = mixed + bottleneck(block.attn.adapter, mixed)
        x = x + block.ls1(mixed)
        normed = block.norm2(x)
        changed = dinov2.MLP.forward(block.mlp, normed)
        if "parallel" in kind:
            changed = changed + 0.7 * bottleneck(block.mlp.adapter, normed)
        x = x + block.ls2(changed)
    assert torch.allclose(found, x, atol=1e-5)


@torch.no_grad()
def test_the_side_branch_is_the_papers() -> None:
    """y = y + A(y + x) after each of the last layers, x the frozen layer's tokens (Lu et al., 2025)."""
    network = built("multiconv", "dinov2_vitl14_reg")
    trunk: Any = network.backbone
    x = tokens_before(trunk, network.normalise(images()))
    found = trunk.encode(x, 2, 3)
    assert len(trunk.side) == 10
    for block in trunk.blocks[:5]:
        x = block(x)
    y = x
    for block, adapter in zip(trunk.blocks[5:], trunk.side, strict=True):
        x = block(x)
        inner = F.relu(adapter.down(y + x))
        first, patches = inner[:, :5], inner[:, 5:]
        grid = patches.permute(0, 2, 1).reshape(2, 24, 2, 3)
        parts = []
        for layers in ([adapter.one], [*adapter.three], [*adapter.five]):
            part = grid
            for conv, norm, _ in layers:
                part = F.conv2d(part, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2)
                part = F.relu(F.batch_norm(part, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3))
            parts.append(part)
        seen = torch.cat([first, torch.cat(parts, 1).flatten(2).permute(0, 2, 1)], 1)
        y = y + adapter.up(inner + seen)
    assert torch.allclose(found, y, atol=1e-5)


@torch.no_grad()
def test_the_low_rank_branch_is_the_papers() -> None:
    """z = y + x, y = z + s U gelu(D z) after each layer, from y = x before the first (Jin et al., 2025)."""
    for options, hidden, scale in (({}, 4, 0.5), ({"adapter_ratio": 0.25, "adapter_scale": 0.9}, 12, 0.9)):
        network = built("lopa", "dinov2_vitl14_reg", **options)
        trunk: Any = network.backbone
        x = y = tokens_before(trunk, network.normalise(images()))
        found = trunk.encode(x, 2, 3)
        for block, adapter in zip(trunk.blocks, trunk.side, strict=True):
            assert adapter.down.out_features == hidden
            x = block(x)
            z = (y + x).double()
            inner = z @ adapter.down.weight.double().T + adapter.down.bias
            inner = 0.5 * inner * (1 + torch.erf(inner / 2**0.5))
            y = (z + scale * (inner @ adapter.up.weight.double().T + adapter.up.bias)).float()
        assert torch.allclose(found, y, atol=1e-5)


@torch.no_grad()
def test_convolutions_in_each_layer_are_the_papers() -> None:
    """x' = x + LS(MSA(LN x)), x = x' + LS(MLP(LN x') + s A(LN x')), A the convolutions (Lu et al., 2024)."""
    network = built("parallel_multiconv", adapter_scale=0.7)
    trunk: Any = network.backbone
    x = tokens_before(trunk, network.normalise(images()))
    found = trunk.encode(x, 2, 3)
    for block, adapter in zip(trunk.blocks, trunk.side, strict=True):
        x = x + block.ls1(block.attn(block.norm1(x)))
        normed = block.norm2(x)
        inner = F.relu(F.linear(normed, adapter.down.weight, adapter.down.bias))
        grid = inner[:, 1:].permute(0, 2, 1).reshape(2, 24, 2, 3)
        seen = torch.cat([adapter.one(grid), adapter.three(grid), adapter.five(grid)], 1).flatten(2).permute(0, 2, 1)
        changed = adapter.up(inner + torch.cat([inner[:, :1], seen], 1))
        x = x + block.ls2(block.mlp(normed) + 0.7 * changed)
    assert torch.allclose(found, x, atol=1e-5)


@pytest.mark.parametrize("kind", ["serial", "parallel", "serial_parallel", "multiconv", "lopa", "parallel_multiconv"])
def test_what_learns_and_how_it_is_stored(kind: str) -> None:
    network = built(kind).train()
    network(images()).square().sum().backward()
    for name, parameter in network.named_parameters():
        added = ".adapter." in name or ".side." in name or name == "aggregation.1.p"
        assert parameter.requires_grad == added, name
        if added:
            assert parameter.grad is not None, name
            # BatchNorm takes a convolution's bias out again.
            assert parameter.grad.abs().sum() > 0 or name.endswith("0.bias"), name
    network.eval()
    again = rebuild_network(network.config, network.state_dict()).eval()
    assert torch.equal(again(images()), network(images()))
    assert torch.allclose(for_inference(network, EXACT)(images()), network(images()), atol=1e-6)


def test_a_network_without_them_is_a_start() -> None:
    start = build_network("dinov2_vits14", "gem", "none").eval()
    for kind in ("serial", "serial_parallel", "parallel_multiconv"):
        adapted = rebuild_network({**start.config, "adapter": kind}, start.state_dict()).eval()
        assert torch.equal(adapted(images()), start(images()))
    with pytest.raises(UserError, match=r"missing \(backbone\.side"):  # the branch starts from something else
        rebuild_network({**start.config, "adapter": "multiconv"}, start.state_dict())


def test_transformers_of_timm_have_them_too() -> None:
    network = build_network("timm:vit_tiny_patch16_224", "gem", "none", adapter="serial_parallel")
    learning = [name for name, p in network.named_parameters() if p.requires_grad and "adapter" in name]
    assert len(learning) == 12 * 2 * 4


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        ("resnet18conv4", "serial"),
        ("cct384", "parallel"),
        ("timm:vit_tiny_patch16_224", "multiconv"),
        ("timm:vit_tiny_patch16_224", "lopa"),
        ("resnet18conv4", "parallel_multiconv"),
    ],
)
def test_other_backbones_are_refused(backbone: str, kind: str) -> None:
    with pytest.raises(UserError, match=f"--adapter {kind}: .*Expected"):
        build_network(backbone, "gem", "none", adapter=kind)


@pytest.mark.parametrize("kind", ["multiconv", "lopa"])
def test_no_updates_beside_the_branch(kind: str) -> None:
    with pytest.raises(UserError, match=f"--lora_rank 4: no gradient reaches .* --adapter {kind}"):
        build_network("dinov2_vits14", "gem", "none", adapter=kind, lora_rank=4)
