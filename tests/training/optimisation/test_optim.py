"""Optimisers: which parameters at which rates, what is refused, and that each of them learns."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import run_tiny
from torch import nn
from toy_training import ToyMode, toy_network, toy_recall

from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.weights import load_weights
from vgbench.training import TrainOptions, build_optimizer, build_own_optimizer, load_optimizer

REPO = Path(__file__).resolve().parents[3]
CLASSES = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "asgd": torch.optim.ASGD,
    "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad,
}  # fmt: skip


def rates(optimizer):
    return {group["part"]: group["lr"] for group in optimizer.param_groups}


def parameters(optimizer):
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def network_of(aggregation="gem", **options):
    return build_network(backbone="resnet18conv4", aggregation=aggregation, pretrain="none", **options)


def test_each_part_has_its_rate():
    network = network_of()
    assert rates(build_optimizer(network, TrainOptions(lr=0.3))) == {"backbone": 0.3, "head": 0.3}
    options = TrainOptions(lr=0.3, lr_backbone=0.1)
    assert rates(build_optimizer(network, options)) == {"backbone": 0.1, "head": 0.3}
    options = TrainOptions(lr=0.3, lr_head=0.0)
    optimizer = build_optimizer(network, options)
    assert rates(optimizer) == {"backbone": 0.3, "head": 0.0}
    heads = {id(parameter) for parameter in network.aggregation.parameters()}
    assert {id(parameter) for parameter in optimizer.param_groups[1]["params"]} == heads


@pytest.mark.parametrize("fc_output_dim", [None, 8])
def test_crn_trains_with_its_own_rates(fc_output_dim):
    network = network_of("crn", netvlad_clusters=4, fc_output_dim=fc_output_dim)
    optimizer = build_optimizer(network, TrainOptions(optim="sgd"))
    assert rates(optimizer) == {"crn": 5e-3, "backbone": 5e-4, "head": 5e-4}
    # The sum over its filters has fixed weights, in the reference too.
    layer = {name for name, _ in network.named_parameters() if ".crn." in name and ".acc_w." not in name}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert layer and {names[id(parameter)] for parameter in optimizer.param_groups[0]["params"]} == layer
    options = TrainOptions(optim="sgd", lr_crn_layer=0.2, lr_crn_net=0.1, lr_head=0.05)
    assert rates(build_optimizer(network, options)) == {"crn": 0.2, "backbone": 0.1, "head": 0.05}


@pytest.mark.parametrize("name", ["lr_crn_layer", "lr_crn_net"])
def test_rates_of_a_layer_that_is_not_there_are_refused(name):
    with pytest.raises(UserError, match=f"--{name} 0.25: .*no CRN"):
        build_optimizer(network_of(), TrainOptions(**{name: 0.25}))


@pytest.mark.parametrize("aggregation", ["gem", "crn"])
def test_every_trainable_parameter_once_and_no_frozen_one(aggregation):
    network = network_of(aggregation)
    found = parameters(build_optimizer(network, TrainOptions()))
    expected = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert len(found) == len(expected) and {id(parameter) for parameter in found} == expected
    assert any(not parameter.requires_grad for parameter in network.parameters())


def test_the_order_is_the_networks():
    """An optimiser's state goes back by position."""
    one, other = (parameters(build_optimizer(network_of("crn"), TrainOptions())) for _ in range(2))
    assert [parameter.shape for parameter in one] == [parameter.shape for parameter in other]
    parts = [group["part"] for group in build_optimizer(network_of("crn"), TrainOptions()).param_groups]
    assert parts == ["crn", "backbone", "head"]


@pytest.mark.parametrize("name", CLASSES)
def test_kinds_and_their_defaults(name):
    optimizer = build_optimizer(nn.Linear(2, 2), TrainOptions(optim=name))
    assert isinstance(optimizer, CLASSES[name])
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == {"sgd": 1e-3, "adamw": 1e-2}.get(name, 0.0)
    assert group.get("momentum") == {"sgd": 0.9, "rmsprop": 0.0}.get(name)
    assert group["part"] == "network" and group["lr"] == group["initial_lr"] == 1e-5


def test_momentum_nesterov_and_decay_arrive():
    options = TrainOptions(optim="sgd", momentum=0.5, nesterov=True, weight_decay=0.2)
    group = build_optimizer(nn.Linear(2, 2), options).param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, True, 0.2)
    group = build_optimizer(nn.Linear(2, 2), TrainOptions(optim="rmsprop", momentum=0.5)).param_groups[0]
    assert group["momentum"] == 0.5
    group = build_optimizer(nn.Linear(2, 2), TrainOptions(optim="sgd", momentum=0.0)).param_groups[0]
    assert group["momentum"] == 0


def test_a_modes_own_parameters():
    layer = nn.Linear(3, 3)
    options = TrainOptions(optim="adamw", lr=1e-5)
    assert rates(build_own_optimizer(layer.parameters(), options)) == {"classifier": 0.01}
    classifier = TrainOptions(optim="adamw", lr_classifier=0.5)
    optimizer = build_own_optimizer(layer.parameters(), classifier)
    assert rates(optimizer) == {"classifier": 0.5} and isinstance(optimizer, torch.optim.AdamW)
    assert rates(build_own_optimizer(layer.parameters(), classifier, lr=0.25)) == {"classifier": 0.25}
    assert {id(p) for p in parameters(optimizer)} == {id(p) for p in layer.parameters()}


def stepped(optimizer, network):
    for _ in range(3):
        network(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [value.detach().clone() for value in network.parameters()]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_on_a_gpu_one_kernel_changes_all_weights(name, monkeypatch):
    def made(**options):
        torch.manual_seed(0)
        network = nn.Linear(4, 3)
        return build_own_optimizer(network.parameters(), TrainOptions(optim=name, momentum=None, **options)), network

    plain, network = made()
    assert not plain.defaults["fused"]
    expected = stepped(plain, network)
    monkeypatch.setattr("vgbench.training.optimisation.optim._FUSED_ON", ("cpu",))  # which has such kernels as well
    fused, network = made()
    assert fused.defaults["fused"] and all(group["fused"] for group in fused.param_groups)
    for found, wanted in zip(stepped(fused, network), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not made(optim_args=("foreach=True",))[0].defaults["fused"]
    assert not made(optim_args=("fused=False",))[0].defaults["fused"]
    # A checkpoint of one kind goes on by the other.
    for mine, theirs in ((fused, plain), (plain, fused)):
        own = mine.param_groups[0]["fused"]
        load_optimizer(mine, theirs.state_dict())
        assert mine.param_groups[0]["fused"] == own


@pytest.mark.parametrize("name", ["asgd", "rmsprop", "adagrad"])
def test_optimisers_without_such_a_kernel_are_left_alone(name, monkeypatch):
    monkeypatch.setattr("vgbench.training.optimisation.optim._FUSED_ON", ("cpu",))
    assert not build_own_optimizer(nn.Linear(2, 2).parameters(), TrainOptions(optim=name)).defaults.get("fused")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_checkpoint_of_a_cpu_goes_on_by_the_gpus_kernels(name):
    torch.manual_seed(0)
    here = nn.Linear(4, 3)
    there = nn.Linear(4, 3).cuda()
    there.load_state_dict(here.state_dict())
    own = build_own_optimizer(here.parameters(), TrainOptions(optim=name))
    stepped(own, here)
    there.load_state_dict(here.state_dict())
    other = build_own_optimizer(there.parameters(), TrainOptions(optim=name))
    assert other.param_groups[0]["fused"]
    load_optimizer(other, own.state_dict())
    assert other.param_groups[0]["fused"]
    for network, optimizer in ((here, own), (there, other)):
        network(torch.ones(2, 4, device=next(network.parameters()).device)).square().sum().backward()
        optimizer.step()
    for one, two in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(two.cpu(), one, rtol=1e-4, atol=1e-6)


def test_a_resumed_optimiser_keeps_its_moments_and_takes_this_runs_rates():
    layer = nn.Linear(3, 3)
    before = build_optimizer(layer, TrainOptions(optim="sgd", lr=1.0, momentum=0.9))
    layer(torch.ones(1, 3)).sum().backward()
    before.step()
    before.param_groups[0]["lr"] = 1e-9  # a schedule's
    after = build_optimizer(layer, TrainOptions(optim="sgd", lr=0.5, momentum=0.8, weight_decay=0.0))
    load_optimizer(after, before.state_dict())
    group = after.param_groups[0]
    assert (group["lr"], group["initial_lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.5, 0.8, 0.0)
    for parameter in layer.parameters():
        assert torch.equal(after.state[parameter]["momentum_buffer"], before.state[parameter]["momentum_buffer"])
    with pytest.raises(ValueError, match="another kind"):
        load_optimizer(build_optimizer(layer, TrainOptions()), before.state_dict())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optim": "lion"}, ["--optim lion", "adagrad"]),
        ({"optim": "adam", "momentum": 0.9}, ["--momentum 0.9", "adam"]),
        ({"optim": "adagrad", "nesterov": True}, ["--nesterov", "adagrad", "sgd"]),
        ({"optim": "rmsprop", "nesterov": True}, ["--nesterov", "rmsprop"]),
        ({"optim": "sgd", "nesterov": True, "momentum": 0.0}, ["--nesterov", "--momentum"]),
        ({"optim": "sgd", "momentum": 1.0}, ["--momentum 1.0"]),
        ({"lr_head": -1.0}, ["--lr_head -1.0"]),
        ({"lr_backbone": float("inf")}, ["--lr_backbone inf"]),
        ({"lr_classifier": float("nan")}, ["--lr_classifier nan"]),
        ({"weight_decay": -0.1}, ["--weight_decay -0.1"]),
        ({"clip_grad_norm": 0.0}, ["--clip_grad_norm 0.0"]),
        ({"accumulate_steps": 0}, ["--accumulate_steps 0"]),
        ({"ema_decay": 1.0}, ["--ema_decay 1.0"]),
        ({"ema_decay": 0.0}, ["--ema_decay 0.0"]),
    ],
)
def test_what_an_optimiser_cannot_use_is_refused_in_one_line(options, words):
    with pytest.raises(UserError) as caught:
        TrainOptions(**options)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


# -- each of them learns ----------------------------------------------------------------------------------------------

LEARNS = {
    "adam": {"lr": 0.02},
    "adamw": {"lr": 0.02},
    "sgd": {"lr": 0.05},
    "sgd, nesterov": {"optim": "sgd", "lr": 0.05, "nesterov": True, "weight_decay": 0.0},
    "asgd": {"lr": 0.5},
    "rmsprop": {"lr": 0.01},
    "rmsprop, momentum": {"optim": "rmsprop", "lr": 0.002, "momentum": 0.9},
    "adagrad": {"lr": 0.2},
    "clipped": {"optim": "sgd", "lr": 0.05, "clip_grad_norm": 0.5},
    "accumulated": {"optim": "adam", "lr": 0.03, "accumulate_steps": 3},
    "averaged": {"optim": "adam", "lr": 0.02, "ema_decay": 0.9},
}
SCHEDULES = {
    "none": {},
    "step": {"schedule_step": 2, "schedule_gamma": 0.5},
    "multistep": {"milestones": (3, 4)},
    "cosine": {"min_lr_fraction": 0.01},
    "plateau": {"plateau_patience": 1},
    "onecycle": {},
    "exponential": {"schedule_gamma": 0.7},
}


def start_and_end(folder, **options):
    """The toy's loss on unseen images before training and after; the network that is tested is the best one."""
    settings = TrainOptions(epochs_num=5, queries_per_epoch=1, cache_refresh_rate=1, patience=5, **options)
    network = toy_network()
    start = -toy_recall(network, 0).r1
    result, _ = run_tiny(folder, mode=ToyMode(), validate=toy_recall, options=settings, network=network)
    load_weights(network, result.best)
    return start, -toy_recall(network, 0).r1


@pytest.mark.parametrize("name", LEARNS)
def test_each_optimiser_learns(tmp_path, name):
    start, end = start_and_end(tmp_path, **{"optim": name, **LEARNS[name]})
    assert end < 0.1 * start


@pytest.mark.parametrize("warmup", [0.0, 0.5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_learns(tmp_path, name, warmup):
    start, end = start_and_end(tmp_path, optim="sgd", lr=0.05, schedule=name, warmup_epochs=warmup, **SCHEDULES[name])
    assert end < 0.1 * start


def test_the_toy_is_not_learnt_by_standing_still(tmp_path):
    """The tests above can fail."""
    start, end = start_and_end(tmp_path, optim="sgd", lr=0.0)
    assert end == start


def test_an_optimiser_steps_without_importing_the_compiler() -> None:
    script = """
import sys, torch
from vgbench.training.optimisation.optim import build_own_optimizer
from vgbench.training.options import TrainOptions
weight = torch.nn.Parameter(torch.ones(3))
for name in ("adam", "sgd"):
    optimizer = build_own_optimizer([weight], TrainOptions(optim=name), 0.1)
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print(weight.detach().tolist() != [1, 1, 1], "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"
