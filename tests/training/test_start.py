"""Options of the network beside --start_from and eval.py's --resume: heeded, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import parser
from vgbench.errors import UserError
from vgbench.models import Network, build_network
from vgbench.models.ensemble import build_ensemble
from vgbench.models.weights import read_checkpoint
from vgbench.models.whitened import build_whitened
from vgbench.runs.networks import network_to_test, network_to_train, options_to_test
from vgbench.training.start import start_options


def saved(folder: Path, network: Network, config: dict[str, Any] | None = None) -> Path:
    content = {"model_state_dict": network.state_dict(), "network_config": config or network.config}
    torch.save(content | {"options": {"resize": [64, 64]}}, folder / "best.pth")
    return folder / "best.pth"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return saved(tmp_path, build_network("resnet18conv4", "gem", "none", l2="after_pool"))


def started(path: Path, *flags: str) -> Network:
    argv = [f"--start_from={path}", *flags]
    given = parser.read_command_line(parser.TrainSettings, "test", argv)
    return network_to_train(parser.resolve(parser.TrainSettings, given, start_options(given)))


def evaluated(path: Path, *flags: str) -> Network:
    given = parser.read_command_line(parser.EvalSettings, "test", [f"--resume={path}", *flags])
    content = read_checkpoint(path)
    settings = parser.resolve(parser.EvalSettings, given, options_to_test(content, given))
    return network_to_test(content, path, settings, given)


OTHER = [
    ("--cut=3", "without --cut 3"),
    ("--non_local", "without --non_local True"),
    ("--method=salad", "without --method salad"),
    ("--off_the_shelf=naver", "without --off_the_shelf naver"),
    ("--fc_output_dim=64", "with --fc_output_dim None, not 64"),
    ("--backbone=vgg16", "with --backbone resnet18conv4, not vgg16"),
    ("--l2=none", "with --l2 after_pool, not none"),
    ("--pretrain=imagenet", "with --pretrain none, not imagenet"),
    ("--no-norm_layer", "without --norm_layer False"),
]


@pytest.mark.parametrize(("flag", "message"), OTHER)
@pytest.mark.parametrize(("call", "option"), [(started, "start_from"), (evaluated, "resume")])
def test_another_network_is_refused(call: Any, option: str, flag: str, message: str, checkpoint: Path) -> None:
    with pytest.raises(UserError) as told:
        call(checkpoint, flag)
    said = str(told.value)
    assert said.startswith(f"{checkpoint}: holds a network {message}. Expected no network options beside --{option}")
    assert "\n" not in said


@pytest.mark.parametrize("call", [started, evaluated])
def test_the_same_network_may_be_said_again(call: Any, checkpoint: Path) -> None:
    network = call(checkpoint, "--backbone=resnet18conv4", "--aggregation=gem", "--pretrain=none", "--l2=after_pool")
    assert network.config == build_network("resnet18conv4", "gem", "none", l2="after_pool").config
    # Judged by the checkpoint's aggregation, not by the default one.
    assert call(checkpoint, "--l2=after_pool").config == network.config


def test_an_option_of_another_aggregation_does_nothing(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="--out_dim 64: does nothing with --aggregation gem"):
        evaluated(checkpoint, "--out_dim=64")


def test_what_is_trained_is_the_new_runs_choice(checkpoint: Path) -> None:
    before = read_checkpoint(checkpoint)["model_state_dict"]
    network = started(checkpoint, "--freeze=0")
    assert network.config["freeze"] == 0 and all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    again = saved(checkpoint.parent, network)
    assert all(parameter.requires_grad for parameter in started(again).parameters())
    assert not started(again, "--freeze=2").backbone[5][0].conv1.weight.requires_grad
    with pytest.raises(UserError, match="with --freeze 0, not 2"):
        evaluated(checkpoint, "--freeze=2")
    with pytest.raises(UserError, match="no option 'unfreeze_blocks'"):
        started(checkpoint, "--unfreeze_blocks=2")


def test_whole_networks_and_ensembles_load_without_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_network("resnet18conv4", "gem", "none")
    monkeypatch.setattr("vgbench.models.rebuild.load_release", lambda name, trained: build_network(
        "resnet18conv4", "gem", "none"
    ))  # fmt: skip
    path = saved(tmp_path, whole, {"method": "salad"})
    for call in (started, evaluated):
        assert call(path).config == {"method": "salad"}
        assert call(path, "--method=salad", "--pretrain=none", "--aggregation=netvlad").config == {"method": "salad"}
        for flag, message in (("--backbone=vgg16", "without --backbone vgg16"), ("--freeze=1", "without --freeze 1")):
            with pytest.raises(UserError, match=message):
                call(path, flag)
    shelf = saved(tmp_path, whole, {"method": "naver-resnet50conv5"})
    assert evaluated(shelf, "--off_the_shelf=naver", "--backbone=resnet50conv5", "--aggregation=gem").config
    both = build_ensemble([whole, build_network("resnet18conv4", "gem", "none")])
    for composite, name in ((both, "ensemble"), (build_whitened(whole, 8), "whitened")):
        path = saved(tmp_path, composite)
        for call in (started, evaluated):
            assert call(path).config["backbone"] == name
            with pytest.raises(UserError, match="without --cut 3"):
                call(path, "--cut=3")
