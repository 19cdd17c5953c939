"""LoRA: the paper's formula in float64, merged to the same bits, and where it is put."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_training import TinyMode, TinyNetwork, run_tiny, states_equal
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.export.deployable import Deployable
from vgbench.models import build_network, for_inference, load_state_dict, rebuild_network
from vgbench.models.adapting.lora import add_low_rank, merged
from vgbench.models.backbones import dinov2
from vgbench.models.network import Network
from vgbench.models.options import NetworkOptions
from vgbench.options import check_needs
from vgbench.runtime import Runtime

EXACT = Runtime(torch.device("cpu"), None, torch.contiguous_format)


@pytest.fixture(autouse=True)
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dinov2.SIZES, "vits", dinov2.Size(48, 4, 3))


def drawn(**options: object) -> Network:
    """A network whose updates are not zero."""
    torch.manual_seed(0)
    network = build_network("dinov2_vits14", "gem", "none", **options)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("lora_b", "gamma")):
                parameter.normal_(std=0.3)
    return network.eval()


def images(side: int = 28) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_it_is_the_papers_formula() -> None:
    """h = W x + (alpha / r) B A x, B zero at first."""
    torch.manual_seed(0)
    layer = nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(6, 18)})}).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    qkv: nn.Linear = layer["attn"]["qkv"]  # type: ignore[index]
    before = qkv(x)
    add_low_rank("mine", layer, 2, alpha=3.0, layers="attention")
    assert torch.equal(qkv(x), before)
    down, up = qkv.lora_a, qkv.lora_b
    assert isinstance(down, Tensor) and isinstance(up, Tensor)
    nn.init.normal_(up)
    own = dict(qkv.named_parameters())["weight"]
    expected = F.linear(x, own, qkv.bias) + 3.0 / 2 * (x @ down.T) @ up.T
    assert torch.allclose(qkv(x), expected, rtol=1e-12, atol=1e-12) and not torch.allclose(qkv(x), before)


@pytest.mark.parametrize("layers", ["attention", "all"])
def test_merged_it_computes_the_same_bits(layers: str) -> None:
    network = drawn(lora_rank=4, lora_layers=layers)
    plain = merged(network)
    assert sum("lora" in name for name in network.state_dict()) == 4 * 2 * {"attention": 2, "all": 4}[layers]
    assert not any("lora" in name for name in plain.state_dict())
    with torch.inference_mode():
        expected = network(images())
        assert torch.equal(plain(images()), expected)
        assert torch.equal(Deployable(network)(images()), expected)
    assert torch.equal(for_inference(network, EXACT)(images()), expected)
    untouched = build_network("dinov2_vits14", "gem", "none").eval()
    load_state_dict(untouched, plain.state_dict())  # a plain network's weights, of its own shapes
    assert torch.equal(untouched(images()), expected)
    assert merged(untouched) is untouched


def test_only_the_updates_and_the_aggregation_learn() -> None:
    network = drawn(lora_rank=4).train()
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if "lora_" not in name} == {"aggregation.1.p"}
    assert len(learning) == 1 + 4 * 2 * 2  # four layers, two projections, two matrices
    network(images()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == (name in learning)
    more = build_network("dinov2_vits14", "gem", "none", lora_rank=4, unfreeze_blocks=1)
    assert all(p.requires_grad for name, p in more.named_parameters() if name.startswith("backbone.blocks.3."))
    first = [(name, p) for name, p in more.named_parameters() if name.startswith("backbone.blocks.0.")]
    assert all(p.requires_grad == ("lora" in name) for name, p in first)


def test_a_checkpoint_has_it_and_one_without_it_is_a_start() -> None:
    network = drawn(lora_rank=4, lora_alpha=8.0, lora_layers="all")
    again = rebuild_network(network.config, network.state_dict()).eval()
    assert torch.equal(again(images()), network(images()))
    start = build_network("dinov2_vits14", "gem", "none").eval()
    adapted = rebuild_network({**start.config, "lora_rank": 4}, start.state_dict()).eval()
    assert torch.equal(adapted(images()), start(images()))


CASES: list[tuple[str, dict[str, int], int, int]] = [
    ("cct384", {"trunc_te": 1}, 384, 4),
    ("vit", {"trunc_te": 1}, 32, 4),
    ("timm:vit_tiny_patch16_224", {}, 32, 48),
    ("timm:eva02_tiny_patch14_224", {}, 28, 48),  # reads weights without calling their layers
]


@pytest.mark.parametrize(("backbone", "options", "side", "count"), CASES)
def test_every_update_reaches_the_descriptor(backbone: str, options: dict[str, int], side: int, count: int) -> None:
    torch.manual_seed(0)
    network = build_network(backbone, "gem", "none", lora_rank=2, lora_layers="all", **options).eval()
    found = [(name, p) for name, p in network.named_parameters() if name.endswith("lora_b")]
    assert len(found) == count
    for _, parameter in found:
        nn.init.normal_(parameter, std=0.1)
    described = network(images(side))
    described.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for _, parameter in found)
    with torch.no_grad():
        assert torch.equal(merged(network)(images(side)), network(images(side)))


def test_what_has_no_attention_is_refused() -> None:
    with pytest.raises(UserError, match="--lora_rank 4: resnet18conv4 has no attention"):
        build_network("resnet18conv4", "gem", "none", lora_rank=4)
    with pytest.raises(UserError, match=r"--lora_rank 48: a weight of dinov2_vits14 is 144x48. Expected less than 48"):
        build_network("dinov2_vits14", "gem", "none", lora_rank=48)
    with pytest.raises(UserError, match=r"--lora_alpha 2.0: does nothing with no --lora_rank"):
        check_needs([NetworkOptions(lora_alpha=2.0)], ["lora_alpha"])


class Attending(TinyNetwork):
    """The tiny network, whose positions look at one another."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.layer = nn.ModuleDict({"self_attn": nn.MultiheadAttention(6, 2, dropout=0.2, batch_first=True)})
        add_low_rank("tiny", self, 2, 2.0, "attention")
        own = [p for name, p in self.layer.named_parameters() if "lora" not in name]
        nn.ParameterList(own).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        places = self.conv(images.float() / 255).flatten(2).transpose(1, 2)
        seen: Any = self.layer["self_attn"](places, places, places)[0]
        found: Tensor = self.out(self.drop(seen.flatten(1)))
        return F.normalize(found, dim=1)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    _, whole = run_tiny(tmp_path / "whole", network=Attending(0))
    assert whole.layer["self_attn"].lora_b.abs().sum() > 0  # type: ignore[index, union-attr]

    def ends(epoch: int, index: int, step: int) -> None:
        if (epoch, index, step) == (1, 1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path / "cut", mode=TinyMode(ends), network=Attending(0))
    _, resumed = run_tiny(tmp_path / "cut", network=Attending(7), resume=True)
    assert states_equal(resumed, whole)
