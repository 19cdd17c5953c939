"""Parts outside the repository, each one file, with keywords of their own, from the command line to their use."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from vgbench.cli.parser import TrainSettings, read_command_line, resolve
from vgbench.errors import UserError
from vgbench.models import network_from_options, rebuild_network
from vgbench.runs.parts import check_parts

HEAD = """
from torch import nn
class PowerMean(nn.Module):
    def __init__(self, in_channels: int, power: float = 3.0) -> None:
        super().__init__()
        self.power, self.descriptors_dim = power, in_channels
    def forward(self, features):
        return nn.functional.normalize(features.clamp(min=1e-6).pow(self.power).mean((2, 3)).pow(1 / self.power), dim=1)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "my_own_head.py").write_text(HEAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("my_own_head")
    sys.modules.pop("my_own_head", None)


def settings_of(*words: str) -> TrainSettings:
    given = read_command_line(TrainSettings, "", ["--pretrain=none", "--aggregation=my_own_head:PowerMean", *words])
    settings = resolve(TrainSettings, given, {})
    check_parts(settings)
    return settings


@pytest.mark.usefixtures("own_module")
def test_a_float_option_of_ones_own_aggregation_reaches_it_and_its_checkpoint() -> None:
    network = network_from_options(settings_of("--aggregation_args", "power=4.5").network)
    assert network.config["aggregation_args"] == ["power=4.5"]
    again = rebuild_network(network.config, network.state_dict(), ("my_own_head:PowerMean",))
    for one in (network, again):
        assert [m.power for m in one.modules() if hasattr(m, "power")] == [4.5]


@pytest.mark.usefixtures("own_module")
def test_it_is_checked_before_hours_are_spent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--aggregation_args powr=2: .*Did you mean power\?"):
        settings_of("--aggregation_args", "powr=2")
    config = tmp_path / "c.yaml"
    config.write_text("aggregation_args: {power: high}\n")
    with pytest.raises(UserError, match=r"--aggregation_args power=high: .*Expected a number"):
        settings_of("--config", str(config))


@pytest.mark.usefixtures("own_module")
def test_keywords_are_a_mapping_in_a_file_and_in_python(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("aggregation_args: {power: 4.5}\nloss_args: {}\n")
    found = settings_of("--config", str(config))
    assert (found.network.aggregation_args, found.places.loss_args) == (("power=4.5",), None)
    given = {"pretrain": "none", "aggregation": "my_own_head:PowerMean", "aggregation_args": {"power": 4.5}}
    assert resolve(TrainSettings, given, {}).network.aggregation_args == ("power=4.5",)
    with pytest.raises(UserError, match=r"--resize .*Expected a list of whole numbers"):
        resolve(TrainSettings, {"resize": {"height": 3}}, {})
