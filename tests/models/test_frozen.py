"""A network in two parts gives what the whole gives, and says so where it cannot be parted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.base import Backbone
from vgbench.models.frozen import frozen_part
from vgbench.models.network import Network
from vgbench.models.sequences.network import with_sequences
from vgbench.retrieval.extraction.extract import for_inference
from vgbench.runtime import Runtime

F32, BF16 = Runtime(), Runtime(amp_dtype=torch.bfloat16, channels_last=True)
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("resnet18conv4", 64, {}),
    ("alexnet", 64, {}),
    ("efficientnet_lite0", 64, {}),
    ("regnet_x_400mf", 64, {}),
    ("swin_v2_t", 32, {}),
    ("vit_b_16", 32, {"freeze_te": 9, "trunc_te": 11}),
    ("dinov2_vits14", 28, {"unfreeze_blocks": 1}),
    ("cct384", 384, {"freeze_te": 1, "trunc_te": 3}),
    ("resnet18conv4", 64, {"non_local": True}),
]


def network_of(backbone: str, **options: Any) -> Network:
    torch.manual_seed(0)
    network = build_network(backbone, "gem", pretrain="none", **options)
    with torch.no_grad():  # statistics that are not those of a fresh layer
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
    return network


def pixels(count: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("backbone", "size", "options"), CASES, ids=[f"{c[0]}-{'-'.join(c[2])}" for c in CASES])
def test_the_parts_are_the_whole(backbone: str, size: int, options: dict[str, Any]) -> None:
    network, images = network_of(backbone, **options), pixels(2, size)
    part = frozen_part(network, (size, size), F32)
    first, rest = part.first(network), part.rest(network)
    network.eval()
    with torch.no_grad():
        rows = first(images)
        assert rows.shape == (2, first.descriptors_dim)
        whole = network(images)
        torch.testing.assert_close(rest(part.unrolled(rows)), whole, rtol=0, atol=1e-5 * float(whole.abs().max()))
    # Everything that is trained is in the rest, and nothing before it wants a gradient.
    found = rest(part.unrolled(rows)).square().sum()
    found.backward()
    for name, parameter in network.named_parameters():
        reached = parameter.grad is not None
        assert reached <= parameter.requires_grad, name
    wanted = network(images).square().sum()
    grads = [parameter.grad for parameter in network.parameters()]
    network.zero_grad(set_to_none=True)
    wanted.backward()
    for grad, parameter in zip(grads, network.parameters(), strict=True):
        assert (grad is None) == (parameter.grad is None)
        if grad is not None:
            torch.testing.assert_close(grad, parameter.grad, rtol=0, atol=1e-3 * float(parameter.grad.abs().max()))


@pytest.mark.parametrize("runtime", [F32, BF16], ids=["f32", "bf16"])
@pytest.mark.parametrize("backbone", ["resnet18conv4", "dinov2_vits14"])
def test_the_fast_forms_of_the_parts_are_near(backbone: str, runtime: Runtime) -> None:
    network, images = network_of(backbone), pixels(5, 28)
    runtime.prepare(network)
    part = frozen_part(network, (28, 28), runtime)
    assert part.stored == ("float16" if runtime.amp_dtype and backbone == "resnet18conv4" else "float32")
    rows = for_inference(part.first(network), runtime)(images).to(getattr(torch, part.stored))
    found = for_inference(part.rest(network), runtime)(part.unrolled(rows))
    whole = for_inference(network, runtime)(images)
    tolerance = 2e-2 if runtime.amp_dtype else 1e-5
    torch.testing.assert_close(found, whole, rtol=tolerance, atol=tolerance * float(whole.abs().max()))


def test_features_are_known_by_what_they_depend_on_alone() -> None:
    network = network_of("efficientnet_lite0_s16")
    part = frozen_part(network, (64, 64), F32)
    before = part.weights(network)

    def changed(name: str) -> bool:
        other = copy.deepcopy(network)
        with torch.no_grad():
            dict([*other.named_parameters(), *other.named_buffers()])[name].add_(1)
        return part.weights(other) != before

    assert part.weights(copy.deepcopy(network)) == before
    assert changed("backbone._conv_stem.weight") and changed("backbone._blocks.0._bn1.running_var") and changed("mean")
    trained = next(name for name, value in network.named_parameters() if value.requires_grad)
    assert not changed(trained)
    last = [name for name, _ in network.backbone.named_buffers() if name.endswith("running_var")][-1]
    assert not changed(f"backbone.{last}")


def test_a_network_that_cannot_be_parted_says_so() -> None:
    with pytest.raises(UserError, match="trains its first step"):
        frozen_part(network_of("resnet18conv4", freeze=0), (32, 32), F32)
    with pytest.raises(UserError, match="does not say its steps"):
        frozen_part(build_network("timm:resnet18", "gem", pretrain="none"), (32, 32), F32)
    with pytest.raises(UserError, match="several images together"):
        frozen_part(mixing(network_of("resnet18conv4")), (32, 32), F32)
    with pytest.raises(UserError, match="not with --seq_aggregation"):
        frozen_part(with_sequences(network_of("resnet18conv4"), "mean", 3), (32, 32), F32)


def mixing(network: Network) -> Network:
    network.mixes_batch = True
    return network


class Twice(Backbone):
    """A backbone whose own forward is not what its steps give."""

    out_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3).requires_grad_(False)
        self.two = nn.Conv2d(4, 4, 3)

    def steps(self) -> list[nn.Module]:
        return [self.one, self.two]

    def forward(self, images: Tensor) -> Tensor:
        return self.two(self.one(images)).flip(1)


def test_steps_that_are_not_the_forward_pass_are_found() -> None:
    network = network_of("resnet18conv4")
    with pytest.raises(UserError, match="computes another thing"):
        frozen_part(Network(Twice(), network.aggregation, {"backbone": "Twice"}), (16, 16), F32)


def test_a_backbone_needs_steps_or_a_forward() -> None:
    with pytest.raises(NotImplementedError, match="neither"):
        Backbone()(torch.zeros(1, 3, 8, 8))
