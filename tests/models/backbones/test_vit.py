"""ViT-B/16 against torchvision's, at its own image size and at others, and the forms in which it hands tokens on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import get_model

from vgbench.errors import UserError
from vgbench.models import build_network, for_inference
from vgbench.models.backbones.tokens import resized_positions
from vgbench.models.backbones.vit import ViT
from vgbench.runtime import Runtime


@pytest.fixture(scope="module")
def trunk() -> ViT:
    torch.manual_seed(0)
    return ViT("none", trunc_te=2).eval()


def test_it_is_torchvisions_at_its_own_size() -> None:
    torch.manual_seed(0)
    model = get_model("vit_b_16", weights=None).eval()
    model.heads = torch.nn.Identity()
    torch.manual_seed(0)
    trunk = ViT("none").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tokens = trunk(images)
        torch.testing.assert_close(tokens[:, 0], model(images), atol=1e-5, rtol=1e-4)
    assert tokens.shape == (1, 197, 768) and trunk.out_channels == 768


@pytest.mark.parametrize("size", [(48, 80), (16, 16), (32, 240)])
def test_any_multiple_of_the_patch(trunk: ViT, size: tuple[int, int]) -> None:
    trunk.kind = "tokens"
    images = torch.randn(1, 3, *size)
    rows, columns = size[0] // 16, size[1] // 16
    with torch.no_grad():
        tokens = trunk(images)
        trunk.kind = "map"
        features = trunk(images)
        trunk.kind = "map+token"
        both = trunk(images)
    assert tokens.shape == (1, 1 + rows * columns, 768)
    assert torch.equal(features.flatten(2).transpose(1, 2), tokens[:, 1:])
    assert torch.equal(both[0], features) and torch.equal(both[1], tokens[:, 0])


def test_positions_of_another_grid() -> None:
    positions = torch.randn(1, 14 * 14, 8)
    assert resized_positions(positions, 14, 14, antialias=True) is positions
    resized = resized_positions(positions, 9, 20, antialias=False)
    by_hand = F.interpolate(positions.reshape(1, 14, 14, 8).permute(0, 3, 1, 2), size=(9, 20), mode="bicubic")
    torch.testing.assert_close(resized.reshape(9, 20, 8).permute(2, 0, 1), by_hand[0])
    # Positions that grow along the height must still do so, and not along the width.
    rows = torch.arange(14.0).view(14, 1).expand(14, 14).reshape(1, 196, 1)
    grown = resized_positions(rows, 28, 7, antialias=True).view(28, 7)
    assert (grown.diff(dim=0)[2:-2] > 0).all() and grown.std(dim=1).max() < 1e-4


@pytest.mark.parametrize(("freeze", "trained"), [(-1, {"0", "1"}), (0, {"1"}), (1, set())])
def test_freezing(freeze: int, trained: set[str]) -> None:
    with torch.device("meta"):
        trunk = ViT("none", trunc_te=2, freeze_te=freeze)
        free = ViT("none", trunc_te=1)
    names = [name for name, p in trunk.named_parameters() if p.requires_grad]
    assert {name.split(".")[1] for name in names} == trained and all(name.startswith("layers.") for name in names)
    assert all(p.requires_grad for p in free.parameters())


def test_gradients() -> None:
    trunk = ViT("none", trunc_te=2, freeze_te=0)
    trunk(torch.randn(1, 3, 32, 48)).square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in trunk.parameters())


@pytest.mark.parametrize(
    ("aggregation", "kind"), [("gem", "map"), ("netvlad", "map"), ("cls", "tokens"), ("salad", "map+token")]
)
def test_the_aggregation_chooses_the_form(aggregation: str, kind: str) -> None:
    torch.manual_seed(0)
    options = {"salad": {"num_clusters": 4, "cluster_dim": 8, "token_dim": 8}, "netvlad": {"netvlad_clusters": 4}}
    network = build_network("vit_b_16", aggregation, "none", trunc_te=1, **options.get(aggregation, {})).eval()
    assert network.backbone.kind == kind
    images = torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    assert expected.shape == (2, network.descriptors_dim)
    torch.testing.assert_close(for_inference(network, Runtime())(images), expected, atol=1e-5, rtol=1e-4)
    half = for_inference(network, Runtime(amp_dtype=torch.bfloat16))(images)
    assert F.cosine_similarity(half, expected).min() > 0.98


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trunc_te": 13}, "--trunc_te 13: vit_b_16 has no such layer. Expected a number from 1 to 12"),
        ({"trunc_te": 2, "freeze_te": 2}, "--freeze_te 2: vit_b_16 has no such layer. Expected a number from -1 to 1"),
        ({"cut": 2}, "vit_b_16 with gem: no option 'cut'"),
        ({"aggregation": "seqpool"}, "takes pool_sequence of a sequence, but .* gives map.token or map or tokens"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message), torch.device("meta"):
        build_network(**{"backbone": "vit_b_16", "aggregation": "gem", "pretrain": "none", **options})


def test_images_of_another_size_are_refused() -> None:
    message = r"--backbone vit_b_16: the images are 100x70. Expected sides that are multiples of 16 .*--resize 96 64$"
    with pytest.raises(UserError, match=message), torch.device("meta"):
        ViT("none", trunc_te=1)(torch.empty(1, 3, 100, 70))
