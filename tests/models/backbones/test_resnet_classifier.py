"""The ResNets against torchvision's: the same keys, the same random start, the same function."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model, get_model_weights

from vgbench.models.backbones.resnet_classifier import FIRST_WEIGHTS, LAYERS, ResNet, resnet

REPO = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("architecture", LAYERS)
def test_keys_and_shapes_are_torchvisions(architecture: str) -> None:
    with torch.device("meta"):
        ours, theirs = ResNet(architecture), get_model(architecture, weights=None)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    assert [name for name, _ in ours.named_children()] == [name for name, _ in theirs.named_children()]
    assert get_model_weights(architecture)["IMAGENET1K_V1"].url == FIRST_WEIGHTS[architecture]


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_start_and_function_are_torchvisions(architecture: str) -> None:
    torch.manual_seed(3)
    theirs = get_model(architecture, weights=None).eval()
    torch.manual_seed(3)
    ours = resnet(architecture, "none").eval()
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())
    images = torch.randn(2, 3, 65, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_imagenet_weights_are_read_from_torchs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    source = get_model("resnet18", weights=None).state_dict()
    torch.save(source, tmp_path / "checkpoints" / FIRST_WEIGHTS["resnet18"].rsplit("/", 1)[1])
    assert torch.equal(resnet("resnet18", "imagenet").layer4[1].conv2.weight, source["layer4.1.conv2.weight"])


def test_building_one_imports_neither_torchvision_nor_the_compiler() -> None:
    script = """
import sys
from vgbench.models.build import build_network
build_network("resnet18conv4", "netvlad", "none")
print(*[name for name in ("torchvision.ops", "torch._dynamo") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
