"""`vgbench export`: files that compute what the network computes, for any number of images, and say so."""

from __future__ import annotations

import copy
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from calls import complaint
from PIL import Image
from torch import nn

from vgbench.api.network import load_network
from vgbench.cli.exits import ended
from vgbench.cli.export import main
from vgbench.data.decode import decode_image
from vgbench.errors import UserError
from vgbench.export import FORMATS, Deployable, export_network
from vgbench.export.formats import TOLERANCE
from vgbench.models import Network, build_network
from vgbench.models.hashing import attach_hashing
from vgbench.training.checkpoint import save_checkpoint

SIZE = (64, 96)


def save(path: Path, network: Network, resize: tuple[int, int] = SIZE) -> Path:
    content = {"model_state_dict": network.state_dict(), "network_config": network.config}
    save_checkpoint(path, {**content, "options": {"resize": list(resize)}})
    return path


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build_network("efficientnet_lite0", "gem", cut=3, fc_output_dim=16).eval()


def images(count: int, height: int = SIZE[0], width: int = SIZE[1]) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def test_onnx_runtime_gives_the_networks_descriptors(network: Network, tmp_path: Path) -> None:
    import onnxruntime

    output = tmp_path / "deployed" / "network.onnx"
    assert ended(lambda: main(["--resume", str(save(tmp_path / "a.pth", network)), "--output", str(output)])) == 0
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    [inlet], [outlet] = session.get_inputs(), session.get_outputs()
    assert (inlet.name, inlet.type, inlet.shape[1:]) == ("images", "tensor(uint8)", [3, 64, 96])
    assert (outlet.name, outlet.shape[1]) == ("descriptors", 16)
    for count in (1, 4, 7):
        batch = images(count)
        with torch.inference_mode():
            expected = network(batch).numpy()
        found = session.run(None, {"images": batch.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    facts = json.loads((tmp_path / "deployed" / "network.onnx.json").read_text())
    assert facts["network"] == "efficientnet_lite0 + gem" and facts["largest_difference"] <= 1e-4
    assert facts["input"]["height"] == 64 and facts["output"]["dimensions"] == 16 and facts["unit_length"] is False
    assert sorted(path.name for path in (tmp_path / "deployed").iterdir()) == ["network.onnx", "network.onnx.json"]


@pytest.mark.parametrize("suffix", [".ts", ".pt2"])
def test_the_formats_of_torch(suffix: str, network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = tmp_path / f"network{suffix}"
    if suffix == ".ts":
        network = copy.deepcopy(network)
        attach_hashing(network, 12)
    arguments = ["--resume", str(save(tmp_path / "a.pth", network)), "--output", str(output), "--unit"]
    with caplog.at_level(logging.INFO, "vgbench"):
        assert ended(lambda: main(arguments)) == 0
    assert ("descriptors alone, float32; the network's codes of 12 bits" in caplog.text) == (suffix == ".ts")
    loaded = torch.jit.load(str(output)) if suffix == ".ts" else torch.export.load(str(output)).module()
    for count in (1, 5):
        batch = images(count)
        with torch.inference_mode():
            expected = nn.functional.normalize(network(batch), dim=1)
        with torch.no_grad():
            torch.testing.assert_close(loaded(batch), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_images_of_any_size_are_resized_as_files_are(network: Network, tmp_path: Path) -> None:
    import onnxruntime

    output = tmp_path / "network.onnx"
    arguments = ["--resume", str(save(tmp_path / "a.pth", network)), "--output", str(output), "--any_size"]
    assert ended(lambda: main(arguments)) == 0
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    stream = np.random.default_rng(0)
    for height, width in ((200, 300), (90, 70)):
        small = Image.fromarray(stream.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(tmp_path / "image.png")
        pixels = decode_image(tmp_path / "image.png", None)[None]
        with torch.inference_mode():
            expected = network(decode_image(tmp_path / "image.png", SIZE)[None]).numpy()
        np.testing.assert_allclose(session.run(None, {"images": pixels.numpy()})[0], expected, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", sorted(FORMATS))
@pytest.mark.parametrize(
    ("backbone", "aggregation", "size"),
    [
        ("resnet18conv4", "netvlad", (96, 128)),
        ("resnet18conv4", "boq", (96, 128)),
        ("resnet18conv4", "mixvpr", (96, 128)),
        ("resnet18conv4", "crn", (96, 128)),
        ("vit", "cls", (224, 224)),
        ("dinov2_vits14", "salad", (140, 154)),
    ],
)
def test_networks_of_each_kind(
    backbone: str, aggregation: str, size: tuple[int, int], format_name: str, tmp_path: Path
) -> None:
    network = build_network(backbone, aggregation, "none", resize=size).eval()
    path = tmp_path / "network"
    difference = export_network(Deployable(network), size, format_name, path)
    assert difference is not None and difference <= TOLERANCE and path.stat().st_size > 1_000_000


class Forgetful(nn.Module):
    """Computes one thing while it is written and another afterwards."""

    descriptors_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return features.mean(dim=(2, 3))[:, :4] * self.calls


class Unwritable(Forgetful):
    """Decides by what it sees."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        pooled = features.mean(dim=(2, 3))[:, :4]
        return pooled if pooled.sum().item() > 0 else -pooled


@pytest.mark.parametrize(
    ("head", "format_name", "said"),
    [(Forgetful, "torchscript", "differ by"), (Unwritable, "torch_export", "cannot be written as torch_export")],
)
def test_what_does_not_compute_the_same_is_refused_and_not_written(
    head: type[nn.Module], format_name: str, said: str, network: Network, tmp_path: Path
) -> None:
    broken = Network(network.backbone, head(), {**network.config, "aggregation": "own"})
    with pytest.raises(UserError, match=said) as told:
        export_network(Deployable(broken).eval(), SIZE, format_name, tmp_path / "x")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "a.onnx"], "--resume"),
        (["--resume", "no.pth", "--output", "a.onnx"], "no.pth: no such file"),
        (["--resume", "no.pth", "--output", "a.tflite"], ".onnx, .ts, .pt2"),
        (["--resume", "no.pth", "--output", "a.onnx", "--resize", "0", "5"], "--resize 0 5"),
        (["--method", "megalok", "--output", "a.onnx"], "megaloc"),
        (["--method", "megaloc", "--weights", "no.pth", "--output", "a.onnx"], "no.pth: no such file"),
        (["--resume", "no.pth", "--weights", "w.pth", "--output", "a.onnx"], "--weights w.pth: stands beside --resume"),
    ],
)
def test_mistakes(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status = ended(lambda: main(words))
    assert said in complaint((status, "", capsys.readouterr().err))
    assert not list(tmp_path.iterdir())


def test_a_released_network_with_weights_at_hand(network: Network, tmp_path: Path) -> None:
    source = build_network("resnet18conv5", "cosplace", "none", out_dim=32).eval()
    file, output = tmp_path / "mine.pth", tmp_path / "a.ts"
    torch.save(source.state_dict(), file)
    words = ["--method", "cosplace-resnet18-32", "--weights", str(file), "--resize", "64", "96"]
    assert ended(lambda: main([*words, "--output", str(output)])) == 0
    batch = images(2)
    with torch.inference_mode():
        expected = source(batch)
        torch.testing.assert_close(torch.jit.load(str(output))(batch), expected, atol=1e-4, rtol=1e-4)
        loaded = load_network("cosplace-resnet18-32", weights=file, amp="off", device="cpu")
        torch.testing.assert_close(loaded(batch), expected)
    assert loaded.inference.size == (480, 640)
    for other in (file, network):
        with pytest.raises(UserError, match=r"weights .*Expected it beside a released network"):
            load_network(other, weights=file)


def test_the_pages_python_runs(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
    [block] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (200, 100), (120, 90, 60)).save("photo.jpg")
    export_network(Deployable(network), SIZE, "onnx", tmp_path / "network.onnx")
    exec(compile(block, str(page), "exec"), {})
    assert capsys.readouterr().out == "(1, 16) float32\n"
