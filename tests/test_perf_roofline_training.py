"""The roofline of a training step: the operations it counts, and its table."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from perf.roofline import roofs_of
from perf.roofline_training import StepOperations, reach, table
from perf.training_step import Step
from vgbench.runtime import Runtime


def test_operations_are_those_that_torch_counts_forward_and_backward() -> None:
    # torch counts a grouped convolution's gradients as those of a whole one, so a network without groups.
    step = Step(Runtime(), "resnet18conv4", "gem", (64, 64))
    with StepOperations(step.network) as ours, FlopCounterMode(display=False) as theirs:
        step()
    assert ours.operations == pytest.approx(theirs.get_total_flops(), rel=1e-6)


def test_only_gradients_that_are_computed_count() -> None:
    convolution = nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False)
    once = 2 * 8 * 5 * 5 * 2 * 9
    for weight, image, times in ((False, False, 1), (True, False, 2), (False, True, 2), (True, True, 3)):
        convolution.weight.requires_grad_(weight)
        with StepOperations(convolution) as counted:
            convolution(torch.zeros(1, 4, 5, 5, requires_grad=image))
        assert counted.operations == once * times
    with StepOperations(convolution) as counted, torch.no_grad():
        convolution(torch.zeros(1, 4, 5, 5))
    assert counted.operations == once
    convolution(torch.zeros(1, 4, 5, 5))
    assert counted.operations == once  # the hooks are gone


def test_a_step_is_measured_below_the_roof() -> None:
    torch.set_num_threads(1)
    gflops, rate, peak = reach(
        Runtime(channels_last=True), "efficientnet_lite0_s16", "gem", (32, 32), roofs_of(Runtime(), 64)[0], rounds=1
    )
    assert min(gflops, rate, peak) > 0
    assert "| a         | 8.0             | 0.50             | 16.0      | 80%           | 1.25x" in table(
        {"a": (8.0, 2.0, 20.0)}
    )
