"""Checkpoints that say which network they hold: what is read of them, and what the others are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import network_of

from vgbench.errors import UserError
from vgbench.models.network_file import read_network_file


@pytest.fixture
def content() -> dict[str, Any]:
    network = network_of()
    return {"network_config": network.config, "model_state_dict": network.state_dict(), "options": {"lr": 1.0}}


def saved(content: dict[str, Any], folder: Path) -> Path:
    torch.save(content, folder / "a.pth")
    return folder / "a.pth"


def test_the_network_of_a_file_has_its_weights_and_what_is_changed(content: dict[str, Any], tmp_path: Path) -> None:
    file = read_network_file(saved(content, tmp_path))
    assert file.config == content["network_config"] and file.content["options"] == {"lr": 1.0}
    network = file.network()
    assert all(torch.equal(value, content["model_state_dict"][key]) for key, value in network.state_dict().items())
    assert not all(parameter.requires_grad for parameter in network.backbone.parameters())
    assert all(parameter.requires_grad for parameter in file.network(freeze=0).backbone.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network_config": None}, "does not say which network it holds. Expected a checkpoint .* wrote; or that$"),
        ({"network_config": {"backbone": "gone:Mine", "aggregation": "gem"}}, "--own_code gone:Mine"),
        ({"model_state_dict": {"a": "b"}}, "holds no state dict"),
    ],
)
def test_complaints_name_the_option_and_the_file(
    content: dict[str, Any], changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = saved({**content, **changes}, tmp_path)
    with pytest.raises(UserError, match=rf"^--start_from {path}: .*{said}"):
        read_network_file(path, name=f"--start_from {path}", otherwise="or that")


def test_weights_of_another_network_are_found_when_it_is_built(content: dict[str, Any], tmp_path: Path) -> None:
    content["model_state_dict"].popitem()
    file = read_network_file(saved(content, tmp_path))
    with pytest.raises(UserError, match=rf"^{file.name}: "):
        file.network()
