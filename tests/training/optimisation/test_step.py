"""Steps of the loop: clipping, accumulation, rates, a mode's own optimisers, a dry run; each against a plain loop."""

import dataclasses
import json
import math

import pytest
import torch
from tiny_training import OPTIONS, TinyBatch, TinyMode, run_tiny, tiny_network
from torch import nn
from toy_training import STEPS, ToyMode, error, images_of, toy_network, toy_recall

from vgbench.models import build_network
from vgbench.runtime import Runtime
from vgbench.training import EpochRecalls, TrainOptions, build_own_optimizer
from vgbench.training.optimisation.optim import with_gradient
from vgbench.training.optimisation.step import Stepper, set_training

ONE_ROUND = {"epochs_num": 1, "queries_per_epoch": 1, "cache_refresh_rate": 1}


def toy_run(folder, mode=None, **options):
    network = toy_network()
    result, _ = run_tiny(
        folder, mode=mode or ToyMode(), validate=toy_recall, network=network, options=TrainOptions(**options)
    )
    return result, network


def batches(epoch=0):
    return images_of("toy", epoch, 0, steps=STEPS)


@pytest.mark.parametrize("together", [1, 4, 7, 60, 1000])
def test_accumulated_gradients_are_those_of_the_mean_loss(tmp_path, together):
    result, network = toy_run(tmp_path, optim="sgd", momentum=0.9, lr=0.05, accumulate_steps=together, **ONE_ROUND)
    expected = toy_network()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    groups = batches().split(together)
    for group in groups:
        optimizer.zero_grad()
        torch.stack([error(expected, images) for images in group]).mean().backward()
        optimizer.step()
    assert result.steps == len(groups) == math.ceil(STEPS / together)
    torch.testing.assert_close(network.out.weight, expected.out.weight, rtol=1e-5, atol=1e-6)


def test_reported_losses_are_those_of_batches(tmp_path):
    toy_run(tmp_path, lr=0.0, accumulate_steps=7, **ONE_ROUND)
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert row["loss"] == pytest.approx(
        sum(error(toy_network(), images).item() for images in batches()) / STEPS, rel=1e-5
    )
    assert row["steps"] == math.ceil(STEPS / 7)


def test_rates_at_each_step(tmp_path):
    """A cosine over 2 epochs with warm-up, written out for plain SGD."""
    options = {"optim": "sgd", "momentum": 0.0, "lr": 0.1, "weight_decay": 0.0, "accumulate_steps": 7}
    _, network = toy_run(tmp_path, schedule="cosine", warmup_epochs=0.5, **options, **{**ONE_ROUND, "epochs_num": 2})
    expected = toy_network()
    for epoch in range(2):
        for number, group in enumerate(batches(epoch).split(7)):
            expected.zero_grad()
            torch.stack([error(expected, images) for images in group]).mean().backward()
            position = epoch + 7 * number / STEPS
            warm = 0.01 + 0.99 * position / 0.5
            factor = warm if position < 0.5 else (1 + math.cos(math.pi * (position - 0.5) / 1.5)) / 2
            with torch.no_grad():
                for parameter in expected.parameters():
                    parameter -= 0.1 * factor * parameter.grad
    torch.testing.assert_close(network.out.weight, expected.out.weight, rtol=1e-5, atol=1e-6)


def test_rates_are_in_the_metrics(tmp_path):
    toy_run(tmp_path, lr=0.5, schedule="step", schedule_step=1, **{**ONE_ROUND, "epochs_num": 3})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = [row["lr_network"] for row in rows if "round" in row]
    assert found == pytest.approx([0.5, 0.05, 0.005])


def test_plateau_drops_as_torchs(tmp_path):
    r5 = [10, 10, 10, 30, 30, 20, 30, 30, 40, 1, 2, 3, 4]
    options = TrainOptions(
        schedule="plateau", plateau_patience=2, patience=9, lr=1.0, **{**ONE_ROUND, "epochs_num": len(r5)}
    )
    run_tiny(
        tmp_path, mode=ToyMode(), network=toy_network(), options=options,
        validate=lambda network, epoch: EpochRecalls({1: 0.0, 5: float(r5[epoch])}),
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = [row["lr_network"] for row in rows if "round" in row]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    # Torch waits for one epoch more than it is told to.
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=1, threshold=0)
    expected = []
    for value in r5:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    assert found == expected and expected[-1] < 0.5


@pytest.mark.parametrize("limit", [0.05, 1e6])
def test_gradients_are_clipped_to_a_norm(limit):
    network = toy_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    stepper = Stepper(network, Runtime(), clip_grad_norm=limit)
    mode, [images] = ToyMode(), images_of("clip")
    batch = mode.round(network, 0, 0)[0]
    batch.images = images
    stepper.backward(mode, batch, torch.Generator())
    gradients = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    assert gradients.norm() > 0.06
    stepper.update([optimizer])
    moved = torch.cat([(old - new).flatten() for old, new in zip(before, network.parameters(), strict=True)])
    scale = min(1.0, limit / float(gradients.norm()))
    torch.testing.assert_close(moved, gradients * scale, rtol=1e-4, atol=1e-6)
    assert with_gradient(optimizer) == []  # forgotten


class Scaled(torch.amp.GradScaler):
    """A scaler that scales on a CPU as it would on a GPU."""

    def __init__(self):
        super().__init__("cpu", enabled=True, init_scale=2.0**10)


def test_clipping_sees_unscaled_gradients_of_each_optimiser():
    """Under fp16 gradients are scaled; a classifier's do not use up the network's norm."""
    network, classifier = toy_network(), nn.Linear(4, 4)

    class WithClassifier(ToyMode):
        def loss(self, forward, batch, generator):
            return 10 * classifier(forward(batch.images)).square().mean()

    optimizers = [torch.optim.SGD(part.parameters(), lr=1.0) for part in (network, classifier)]
    before = [[p.detach().clone() for p in part.parameters()] for part in (network, classifier)]
    stepper = Stepper(network, Runtime(), clip_grad_norm=0.25)
    stepper.scaler = Scaled()
    mode = WithClassifier()
    stepper.backward(mode, mode.round(network, 0, 0)[0], torch.Generator())
    stepper.update(optimizers)
    for part, old in zip((network, classifier), before, strict=True):
        moved = torch.cat([(a - b).flatten() for a, b in zip(old, part.parameters(), strict=True)])
        assert moved.norm().item() == pytest.approx(0.25, rel=1e-3)


def test_a_modes_optimisers_follow_the_schedule_and_the_steps(tmp_path):
    weight = nn.Parameter(torch.zeros(2))

    class WithOwn(ToyMode):
        def loss(self, forward, batch, generator):
            return super().loss(forward, batch, generator) + weight.sum()  # a gradient of 1

    options = TrainOptions(
        optim="sgd", momentum=0.0, weight_decay=0.0, lr=0.01, lr_classifier=1.0, schedule="step", schedule_step=1,
        accumulate_steps=20, **{**ONE_ROUND, "epochs_num": 2},
    )  # fmt: skip
    own = build_own_optimizer([weight], options)
    run_tiny(tmp_path, mode=WithOwn((own,)), validate=toy_recall, network=toy_network(), options=options)
    assert weight.tolist() == pytest.approx([-3 * 1.0 - 3 * 0.1] * 2)
    assert own.param_groups[0]["lr"] == pytest.approx(0.1) and own.param_groups[0]["initial_lr"] == 1.0


@pytest.mark.parametrize("together", [1, 3])
def test_a_dry_run_is_one_step_of_everything(tmp_path, together):
    validated = []

    def validate(network, epoch):
        validated.append(epoch)
        return EpochRecalls({1: 0.0, 5: 0.0})

    mode = TinyMode()
    options = dataclasses.replace(OPTIONS, dry_run=True, accumulate_steps=together)
    result, _ = run_tiny(tmp_path, mode=mode, validate=validate, options=options)
    assert mode.rounds == [(0, 0)] and mode.step == together and validated == [0]
    assert (result.steps, result.epochs, result.stopped_early) == (1, 1, False)
    assert {"last_model.pth", "best_model.pth", "metrics.jsonl"} <= {path.name for path in tmp_path.iterdir()}


def test_gradients_from_elsewhere_do_not_count(tmp_path):
    network = tiny_network()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    run_tiny(tmp_path / "dirty", network=network)
    _, clean = run_tiny(tmp_path / "clean")
    assert torch.equal(network.out.weight, clean.out.weight)


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("backbone", ["resnet18conv4", "efficientnet_lite0_s16"])
def test_frozen_layers_run_without_autograd_and_every_gradient_is_channels_last(backbone, amp):
    runtime = Runtime(amp_dtype=amp, channels_last=True)
    network = runtime.prepare(build_network(backbone, "gem", pretrain="none"))
    set_training(network, freeze_bn=False)
    frozen, trained, gradients = [], [], []

    def look(layer, _, found):
        assert found.is_contiguous(memory_format=torch.channels_last)
        (trained if found.requires_grad else frozen).append(layer)
        if found.requires_grad:
            found.register_hook(gradients.append)

    layers = [layer for layer in network.backbone.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    for layer in layers:
        layer.register_forward_hook(look)
    images = torch.randint(0, 256, (4, 3, 96, 96), dtype=torch.uint8)
    stepper = Stepper(network, runtime)
    stepper.backward(ToyLoss(), TinyBatch(images), torch.Generator())
    assert set(frozen) == {layer for layer in layers if not layer.weight.requires_grad} and frozen
    assert len(gradients) == len(trained) > 0
    weights = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    for gradient in (*gradients, *(gradient for gradient in weights if gradient.dim() == 4)):
        assert gradient.is_contiguous(memory_format=torch.channels_last)


class ToyLoss:
    """A loss of descriptors that has a gradient for each of them."""

    def loss(self, forward, batch, generator):
        return forward(batch.images).square().sum(1).sub(2).square().mean()
