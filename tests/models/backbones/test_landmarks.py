"""Weights of Places, Google Landmarks and image retrieval: from files under the names and keys of their authors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from vgbench.errors import UserError
from vgbench.models import NetworkOptions, build_network, network_from_options
from vgbench.models.releases import OFF_THE_SHELF, RELEASES


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(("pretrain", "classes"), [("places", 365), ("gldv2", 512)])
def test_a_trunk_takes_the_classifiers_weights(pretrain: str, classes: int, checkpoints: Path) -> None:
    source = get_model("resnet18", weights=None, num_classes=classes)
    torch.save(source.state_dict(), checkpoints / f"resnet18_{pretrain}.pth")
    network = build_network("resnet18conv4", "gem", pretrain)
    assert torch.equal(network.backbone[0].weight, source.conv1.weight)
    assert torch.equal(network.backbone[6][1].conv2.weight, source.layer3[1].conv2.weight)
    assert network.config["pretrain"] == pretrain


def test_what_is_missing_is_named(checkpoints: Path) -> None:
    with pytest.raises(UserError, match=r"vgg16_gldv2\.pth.*10Ov9JdO7gbyz6mB5x0v_VSAUMj91Ta4o"):
        build_network("vgg16", "gem", "gldv2")
    with pytest.raises(UserError, match="resnet18, resnet50, resnet101, vgg16"):
        build_network("resnet34conv4", "gem", "places")
    with pytest.raises(UserError, match=r"naver_resnet50conv5\.pt"):
        network_from_options(NetworkOptions(backbone="resnet50conv5", off_the_shelf="naver"))
    message = (
        "^--off_the_shelf naver: was not released with --backbone vgg16. "
        "Expected --backbone resnet50conv5 or resnet101conv5$"
    )
    with pytest.raises(UserError, match=message):
        network_from_options(NetworkOptions(backbone="vgg16", off_the_shelf="naver"))


def radenovic_keys(key: str) -> str:
    return (
        key.replace("backbone.", "features.").replace("aggregation.0.0.p", "pool.p").replace("aggregation.1", "whiten")
    )


def naver_keys(key: str) -> str:
    for place, name in {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}.items():
        key = key.replace(f"backbone.{place}.", f"module.{name}.") if key.startswith(f"backbone.{place}.") else key
    return key.replace("aggregation.0.0.p", "module.adpool.p").replace("aggregation.1", "module.fc")


@pytest.mark.parametrize("shelf", OFF_THE_SHELF)
def test_networks_off_the_shelf(shelf: str, checkpoints: Path) -> None:
    release = RELEASES[f"{shelf}-resnet50conv5"]
    torch.manual_seed(1)
    source = build_network(**release.parts, pretrain="none").eval()
    rename = naver_keys if shelf == "naver" else radenovic_keys
    weights = {rename(key): value for key, value in source.state_dict().items() if "num_batches" not in key}
    torch.save({"state_dict": weights, "meta": {"pooling": "gem"}}, checkpoints / release.file.name)
    network = network_from_options(NetworkOptions(backbone="resnet50conv5", off_the_shelf=shelf)).eval()
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), source(images))
    assert network.descriptors_dim == 2048


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "mac"}, "naver: its network has --aggregation gem, not mac"),
        ({"fc_output_dim": 512}, "naver: its network has --fc_output_dim 2048, not 512"),
        ({"l2": "after_pool"}, "naver: its network has --l2 none, not after_pool"),
        ({"cut": 3}, "naver: its network has no --cut, not 3"),
        ({"non_local": True}, "naver: its network has no --non_local"),
        ({"pretrain": "places"}, "--pretrain places: --off_the_shelf naver is a whole network"),
    ],
)
def test_what_contradicts_a_network_off_the_shelf_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        network_from_options(NetworkOptions(backbone="resnet50conv5", off_the_shelf="naver", **options))
    assert "\n" not in str(told.value)


def test_what_agrees_with_a_network_off_the_shelf_may_stand_beside_it() -> None:
    agreed = {"aggregation": "gem", "fc_output_dim": 2048, "l2": "none", "pretrain": "none"}
    with torch.device("meta"):
        network = network_from_options(NetworkOptions(backbone="resnet50conv5", off_the_shelf="naver", **agreed))
    assert network.config == {"method": "naver-resnet50conv5"}
