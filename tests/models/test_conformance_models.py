"""Aggregations and whole networks against what the released implementations compute."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import parser
from vgbench.models import AGGREGATIONS, BACKBONES, build_aggregation, build_network, load_state_dict

CONFORMANCE = Path(__file__).resolve().parents[2] / ".." / "shared" / "conformance"
LAYER_TOLERANCE, NETWORK_TOLERANCE = 1e-5, 1e-4

pytestmark = pytest.mark.skipif(not CONFORMANCE.is_dir(), reason="the conformance vectors are not here")


def _files(pattern: str) -> list[str]:
    return sorted(path.stem for path in CONFORMANCE.glob(pattern))


def _read(name: str) -> dict[str, Any]:
    return torch.load(CONFORMANCE / f"{name}.pt", weights_only=True)


def fill(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of one key by the conformance rule."""
    z = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(z)
    elif len(shape) >= 2:
        value = z * np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith(".p"):
        value = np.full(shape, 3.0)
    elif key.endswith("weight"):
        value = 1 + 0.1 * z
    else:
        value = 0.05 * z
    return torch.as_tensor(value, dtype=torch.float32)


@pytest.mark.parametrize("name", _files("aggregation_*.pt"))
def test_aggregation(name: str) -> None:
    vectors = _read(name)
    options = {key: value for key, value in vectors["config"].items() if key not in ("source", "input")}
    layer = build_aggregation(options.pop("aggregation"), options.pop("in_channels", None), **options).eval()
    load_state_dict(layer, vectors["state_dict"])
    with torch.no_grad():
        output = layer(vectors["input"])
    assert output.shape[1] == layer.descriptors_dim
    torch.testing.assert_close(output, vectors["output"], atol=LAYER_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", _files("aggregation_*.pt"))
def test_every_option_of_an_aggregation_is_one_of_the_command_line(name: str) -> None:
    config = _read(name)["config"]
    of_the_file = ("source", "input", "in_channels", "num_channels", "tokens")
    given = {key: value for key, value in config.items() if key not in of_the_file}
    argv = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    read = parser.read_command_line(parser.EvalSettings, "test", argv)
    assert read == given
    settings = parser.resolve(parser.EvalSettings, read, {})
    taken = {key: value for key, value in asdict(settings.network).items() if key in given}
    assert taken == given


@pytest.mark.parametrize("name", _files("network_*.pt"))
def test_network(name: str) -> None:
    vectors = _read(name)
    network = build_network(**vectors["config"], pretrain="none").eval()
    shapes = {key: tuple(shape) for key, shape in vectors["state_dict_shapes"].items()}
    load_state_dict(network, {key: fill(key, shape) for key, shape in shapes.items()})
    height, width = vectors["config"]["resize"]
    images = torch.as_tensor(np.random.RandomState(5).rand(2, 3, height, width) * 2 - 1, dtype=torch.float32)
    with torch.no_grad():
        output = network(images)
    torch.testing.assert_close(output, vectors["output"], atol=NETWORK_TOLERANCE, rtol=0)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == shapes


def test_every_file_is_covered() -> None:
    methods = {_read(name)["config"]["aggregation"] for name in _files("aggregation_*.pt")}
    trunks = {_read(name)["config"]["backbone"] for name in _files("network_*.pt")}
    assert methods <= set(AGGREGATIONS) and trunks <= set(BACKBONES)
