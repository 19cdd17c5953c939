"""Aggregations and whole networks against what the released implementations compute."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from locations import CONFORMANCE
from numbers_by_rule import images_of, weights_of

import parser
from vgbench.models import AGGREGATIONS, BACKBONES, build_aggregation, build_network, load_state_dict

LAYER_TOLERANCE, NETWORK_TOLERANCE = 1e-5, 1e-4


def _files(pattern: str) -> list[str]:
    return sorted(path.stem for path in CONFORMANCE.glob(pattern))


def _read(name: str) -> dict[str, Any]:
    return torch.load(CONFORMANCE / f"{name}.pt", weights_only=True)


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
    load_state_dict(network, weights_of(shapes))
    with torch.no_grad():
        output = network(images_of(*vectors["config"]["resize"]))
    torch.testing.assert_close(output, vectors["output"], atol=NETWORK_TOLERANCE, rtol=0)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == shapes


def test_every_file_is_covered() -> None:
    methods = {_read(name)["config"]["aggregation"] for name in _files("aggregation_*.pt")}
    trunks = {_read(name)["config"]["backbone"] for name in _files("network_*.pt")}
    assert len(methods) == 14 and len(trunks) >= 5
    assert methods <= set(AGGREGATIONS) and trunks <= set(BACKBONES)
