"""Every aggregation and a network of every backbone family, in the forms that users run them in.

A batch of one, odd and non-square sizes, bfloat16 with channels_last, torch.compile and torch.export; each beside the
plain float32 call.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_heads import small_options
from torch import Tensor, nn

from vgbench.models import AGGREGATIONS, build_aggregation, build_network
from vgbench.models.backbones.deit import EARLIER

CHANNELS = 12
# Those whose weights are made for one size of map.
FIXED = {"mixvpr"}
MAPS = [(7, 10), (9, 5), (8, 8)]
# One of each family, with an aggregation of each kind of input: backbone, aggregation, options, image.
NETWORKS: list[tuple[str, str, dict[str, Any], tuple[int, int]]] = [
    ("resnet18conv4", "netvlad", {"netvlad_clusters": 4}, (65, 97)),
    ("resnet18conv5", "gem", {"fc_output_dim": 8}, (65, 97)),
    ("vgg16", "spoc", {}, (65, 97)),
    ("alexnet", "mac", {}, (97, 71)),
    ("efficientnet_lite0", "rmac", {}, (97, 71)),
    ("efficientnet_b0", "cosplace", {"out_dim": 8}, (65, 97)),
    ("mobilenet_v3_small", "convap", {"out_channels": 4}, (97, 71)),
    ("regnet_y_400mf", "rrm", {}, (65, 97)),
    ("convnext_tiny", "gem", {}, (65, 97)),
    ("cct384", "seqpool", {"trunc_te": 2}, (384, 384)),
    ("dinov2_vits14", "salad", {"num_clusters": 4, "cluster_dim": 3, "token_dim": 5}, (42, 70)),
    ("dinov2_vits14_reg", "cls", {}, (42, 70)),
]


@pytest.fixture(autouse=True)
def forget_compilations() -> None:
    """The compiler counts how often it met `forward` of one class, and gives up at eight."""
    torch.compiler.reset()


def _aggregation(name: str, height: int, width: int) -> nn.Module:
    torch.manual_seed(0)
    return build_aggregation(name, CHANNELS, **small_options(name, height, width)).eval()


def _features(name: str, batch: int, height: int, width: int) -> Any:
    torch.manual_seed(1)
    features = torch.rand(batch, CHANNELS, height, width)
    takes = getattr(AGGREGATIONS.resolve(name), "takes", "map")
    if takes in ("map+token", "map+token+attention"):
        attention = torch.rand(batch, height * width) / (height * width)
        return (features, torch.rand(batch, CHANNELS), attention)[: takes.count("+") + 1]
    if takes == EARLIER:
        return features, torch.rand(batch, 2, CHANNELS), torch.rand(batch, height * width)
    if takes == "tokens":
        return features.flatten(2).transpose(1, 2)
    return features[:, :, 0, 0] if takes == "vector" else features


def _channels_last(features: Any) -> Any:
    if isinstance(features, tuple):
        return tuple(_channels_last(part) for part in features)
    return features.contiguous(memory_format=torch.channels_last) if features.ndim == 4 else features


def _close(ours: Tensor, expected: Tensor, least: float = 0.9995) -> None:
    """The same direction and length, as far as bfloat16 can tell."""
    assert ours.shape == expected.shape and torch.isfinite(ours).all()
    assert F.cosine_similarity(ours.float(), expected.float()).min() > least
    torch.testing.assert_close(ours.float().norm(dim=1), expected.float().norm(dim=1), rtol=0.02, atol=0)


@pytest.mark.parametrize("size", MAPS, ids=str)
@pytest.mark.parametrize("name", list(AGGREGATIONS))
@torch.no_grad()
def test_any_map_and_a_batch_of_one(name: str, size: tuple[int, int]) -> None:
    layer = _aggregation(name, *size)
    features = _features(name, 2, *size)
    one = tuple(part[:1] for part in features) if isinstance(features, tuple) else features[:1]
    both = layer(features)
    assert both.shape == (2, layer.descriptors_dim)
    if layer.mixes_batch:
        assert torch.isfinite(layer(one)).all()
    else:
        torch.testing.assert_close(layer(one), both[:1], atol=1e-5, rtol=1e-4)
    if name not in FIXED:  # the same weights take another size
        assert layer(_features(name, 1, size[1] + 3, size[0] + 2)).shape == (1, layer.descriptors_dim)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
@torch.no_grad()
def test_aggregation_in_bfloat16_and_channels_last(name: str) -> None:
    layer, features = _aggregation(name, 9, 6), _features(name, 3, 9, 6)
    expected = layer(features)
    torch.testing.assert_close(layer(_channels_last(features)), expected, atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = layer(_channels_last(features))
    assert ours.dtype == torch.float32
    _close(ours, expected, 0.999)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_aggregation_compiles_whole_with_its_gradients(name: str) -> None:
    layer, features = _aggregation(name, 9, 6), _features(name, 3, 9, 6)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")

    def run(module: Any) -> tuple[Tensor, list[Tensor | None]]:
        layer.zero_grad(set_to_none=True)
        descriptors = module(features)
        if descriptors.requires_grad:
            (descriptors * torch.arange(1.0, descriptors.shape[1] + 1)).sum().backward()
        return descriptors.detach(), [parameter.grad for parameter in layer.parameters()]

    (expected, gradients), (ours, own) = run(layer), run(compiled)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    assert len(own) == len(gradients)
    for one, other in zip(own, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
@torch.no_grad()
def test_aggregation_exports_for_any_batch(name: str) -> None:
    layer, features = _aggregation(name, 9, 6), _features(name, 3, 9, 6)
    batch = torch.export.Dim("batch", min=2, max=64)
    dynamic = (tuple({0: batch} for _ in features),) if isinstance(features, tuple) else ({0: batch},)
    program = torch.export.export(layer, (features,), dynamic_shapes=dynamic)
    for count in (3, 5):
        other = _features(name, count, 9, 6)
        torch.testing.assert_close(program.module()(other), layer(other), atol=1e-5, rtol=1e-4)


IDS = [f"{backbone}-{aggregation}" for backbone, aggregation, *_ in NETWORKS]
# Tracing a network of many layers takes tens of seconds; these are one of each kind that is traced quickly.
QUICK = {"resnet18conv4", "alexnet", "cct384", "dinov2_vits14"}
TRACED = [
    pytest.param(*row, id=name, marks=[] if row[0] in QUICK else pytest.mark.slow)
    for row, name in zip(NETWORKS, IDS, strict=True)
]
PARAMETERS = ("backbone", "aggregation", "options", "size")


def _network(
    backbone: str, aggregation: str, options: dict[str, Any], size: tuple[int, int]
) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    network = build_network(backbone, aggregation, "none", **options).eval()
    return network, torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)


@pytest.mark.parametrize(PARAMETERS, NETWORKS, ids=IDS)
@torch.no_grad()
def test_network_on_odd_images_alone_and_in_bfloat16(
    backbone: str, aggregation: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    network, images = _network(backbone, aggregation, options, size)
    expected = network(images)
    assert expected.shape == (2, network.descriptors_dim)
    torch.testing.assert_close(network(images[:1]), expected[:1], atol=1e-4, rtol=1e-3)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images), expected, atol=1e-4, rtol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _close(network(images), expected, 0.98)


@pytest.mark.parametrize(PARAMETERS, TRACED)
@torch.no_grad()
def test_network_is_exported_and_compiled_whole(
    backbone: str, aggregation: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    network, images = _network(backbone, aggregation, options, size)
    expected = network(images)
    program = torch.export.export(network, (images,))
    torch.testing.assert_close(program.module()(images), expected, atol=1e-4, rtol=1e-3)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.slow  # the C++ compiler runs for minutes
@pytest.mark.parametrize(PARAMETERS, NETWORKS, ids=IDS)
@torch.no_grad()
def test_network_compiled_by_the_default_backend(
    backbone: str, aggregation: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    network, images = _network(backbone, aggregation, options, size)
    torch.testing.assert_close(torch.compile(network)(images), network(images), atol=1e-4, rtol=1e-3)
