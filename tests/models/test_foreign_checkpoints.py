"""Checkpoints of GSV-Cities, OpenVPRLab, SALAD and BoQ style load into the same network; their objects do not run."""

import collections
import os

import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.weights import load_weights, read_checkpoint

NAMES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def torchvision_names(key):
    parts = key.split(".")
    return ".".join(["backbone", "model", NAMES[parts[1]], *parts[2:]]) if parts[0] == "backbone" else key


STYLES = {
    "gsv-cities": lambda key: torchvision_names(key).replace("aggregation.", "aggregator."),
    "openvprlab": lambda key: key.replace("backbone.", "backbone.net.").replace("aggregation.", "aggregator."),
    "openvprlab wrapped": lambda key: "model." + key.replace("aggregation.", "aggregator."),
    "deep vg, parallel": lambda key: "module." + key,
    "compiled": lambda key: "_orig_mod." + key,
}


class Callback:
    """Stands for a class of the project that wrote the file, which is not installed here."""

    def __init__(self):
        self.history = [1.0, 2.0]


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmful_ran",)


def networks():
    pair = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        pair.append(build_network("resnet18conv4", "gem", "none", fc_output_dim=32))
    return pair


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("lightning", [False, True])
def test_every_style_fills_the_whole_network(style, lightning, tmp_path):
    source, target = networks()
    tensors = collections.OrderedDict((STYLES[style](key), value) for key, value in source.state_dict().items())
    if lightning:
        tensors["loss_fn.weight"] = torch.ones(3)
        content = {"state_dict": tensors, "callbacks": {"best": Callback()}, "epoch": 3, "hyper": collections.Counter()}
    else:
        content = tensors
    torch.save(content, tmp_path / "last.ckpt")
    load_weights(target, tmp_path / "last.ckpt")
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_objects_in_a_checkpoint_do_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, target = networks()
    torch.save({"state_dict": source.state_dict(), "callbacks": [Harmful(), Callback()]}, "bad.ckpt")
    content = read_checkpoint(tmp_path / "bad.ckpt")
    load_weights(target, tmp_path / "bad.ckpt")
    assert torch.equal(target.state_dict()["backbone.0.weight"], source.state_dict()["backbone.0.weight"])
    assert not (tmp_path / "harmful_ran").exists()
    assert not isinstance(content["callbacks"][1], Callback)


def test_objects_alone_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Harmful(), "alone.ckpt")
    with pytest.raises(UserError, match=r"alone\.ckpt"):
        read_checkpoint(tmp_path / "alone.ckpt")
    assert not (tmp_path / "harmful_ran").exists()


def test_another_network_is_still_refused(tmp_path):
    source, _ = networks()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "gem.ckpt")
    other = build_network("resnet18conv4", "netvlad", "none", netvlad_clusters=4)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(UserError, match="another network"):
        load_weights(other, tmp_path / "gem.ckpt")
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
