"""Schedules: torch's own schedulers as the reference, and what options they refuse."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from vgbench.errors import UserError
from vgbench.training import TrainOptions, build_optimizer
from vgbench.training.optimisation.schedule import ONECYCLE_START, WARMUP_START, Schedule

STEPS = 8  # an epoch
EPOCHS = 12
TOTAL = STEPS * EPOCHS


def rates_of_torch(make, steps=TOTAL):
    """The rate at each step where a scheduler of torch is stepped after each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own SequentialLR about its own use of `epoch`
        scheduler = make(optimizer)
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return found


def rates(steps=TOTAL, **options):
    schedule = Schedule(TrainOptions(epochs_num=EPOCHS, **options), EPOCHS)
    return [schedule.factor(step / STEPS) for step in range(steps)]


SAME = {
    "none": ({}, lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
    "step": (
        {"schedule_step": 3, "schedule_gamma": 0.3},
        lambda optimizer: lr_scheduler.StepLR(optimizer, 3 * STEPS, 0.3),
    ),
    "multistep": (
        {"milestones": (2, 7, 8)},
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2 * STEPS, 7 * STEPS, 8 * STEPS], 0.1),
    ),
    "exponential": (
        {"schedule_gamma": 0.8},
        lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.8 ** (1 / STEPS)),
    ),
    "cosine": (
        {"min_lr_fraction": 0.05},
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, TOTAL, eta_min=0.05),
    ),
    "linear": (
        {"min_lr_fraction": 0.2, "schedule_epochs": 9},
        lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.2, 9 * STEPS),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_same_rates_as_torchs(name):
    options, make = SAME[name]
    assert rates(schedule=name, **options) == pytest.approx(rates_of_torch(make), rel=1e-9)


@pytest.mark.parametrize("name", SAME)
def test_warm_up_then_the_schedule_from_its_start(name):
    options, make = SAME[name]
    warmup = 2.5
    steps = int(warmup * STEPS)
    if name == "cosine":  # the warm-up is a part of its length

        def make(optimizer):
            return lr_scheduler.CosineAnnealingLR(optimizer, TOTAL - steps, eta_min=0.05)

    if name == "linear":

        def make(optimizer):
            return lr_scheduler.LinearLR(optimizer, 1.0, 0.2, 9 * STEPS - steps)

    def both(optimizer):
        rise = lr_scheduler.LinearLR(optimizer, WARMUP_START, 1.0, steps)
        return lr_scheduler.SequentialLR(optimizer, [rise, make(optimizer)], [steps])

    expected = rates_of_torch(both)
    assert rates(schedule=name, warmup_epochs=warmup, **options) == pytest.approx(expected, rel=1e-9)
    assert expected[0] == WARMUP_START and expected[steps] == 1.0


def test_warm_up_then_one_cycle_from_its_start():
    warmup = 2.5
    found = rates(schedule="onecycle", warmup_epochs=warmup)
    steps = int(warmup * STEPS)
    rise = [WARMUP_START + (ONECYCLE_START - WARMUP_START) * step / steps for step in range(steps)]
    cycle = Schedule(TrainOptions(schedule="onecycle", epochs_num=EPOCHS), EPOCHS - warmup)
    assert found == pytest.approx(rise + [cycle.factor(step / STEPS) for step in range(TOTAL - steps)], rel=1e-9)
    assert found[steps] == pytest.approx(ONECYCLE_START) and max(found) == pytest.approx(1.0, abs=1e-2)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])  # one rise, not two


def test_a_plateau_within_the_warm_up_counts():
    schedule = Schedule(TrainOptions(schedule="plateau", schedule_gamma=0.25, warmup_epochs=3.0, patience=9), 9)
    assert schedule.factor(2.999999, 1) == pytest.approx(schedule.factor(3.0, 1), rel=1e-5)


def test_one_cycle_is_torchs():
    """Torch ends a phase a step early, so that its run of N steps is ours of N - 1."""
    rise, low = 0.25, 1e-3
    expected = rates_of_torch(
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=TOTAL, pct_start=rise, cycle_momentum=False,
            div_factor=1 / ONECYCLE_START, final_div_factor=ONECYCLE_START / low,
        ), TOTAL - 1,
    )  # fmt: skip
    ours = TrainOptions(
        epochs_num=EPOCHS,
        schedule="onecycle",
        min_lr_fraction=low,
        onecycle_rise=(rise * TOTAL - 1) / (TOTAL - 1),
    )
    schedule = Schedule(ours, EPOCHS)
    found = [schedule.factor(step / (TOTAL - 1) * EPOCHS) for step in range(TOTAL - 1)]
    assert found == pytest.approx(expected, rel=1e-6)
    assert max(found) == pytest.approx(1.0) and found[0] == pytest.approx(ONECYCLE_START)
    assert schedule.factor(EPOCHS) == schedule.factor(EPOCHS + 5) == pytest.approx(low)


def test_plateau_multiplies_at_each_drop():
    schedule = Schedule(TrainOptions(schedule="plateau", schedule_gamma=0.25, min_lr_fraction=0.01), 9)
    assert [schedule.factor(3.3, drops) for drops in range(5)] == [1.0, 0.25, 0.0625, 0.015625, 0.01]
    assert schedule.factor(7.0, 1) == 0.25


@pytest.mark.parametrize("name", ["step", "multistep", "exponential", "cosine", "onecycle"])
def test_rates_stay_above_their_floor(name):
    options = {"milestones": (1, 2, 3, 4)} if name == "multistep" else {}
    found = rates(8 * TOTAL, schedule=name, min_lr_fraction=0.02, **options)
    assert min(found) == found[-1] == pytest.approx(0.02) and max(found) == pytest.approx(1.0, abs=1e-3)


@given(
    name=st.sampled_from(["none", "step", "cosine", "onecycle", "exponential", "plateau"]),
    warmup=st.floats(0, 3),
    position=st.floats(0, 40),
    drops=st.integers(0, 6),
)
def test_factors_are_between_0_and_1_and_depend_on_nothing_but_the_position(name, warmup, position, drops):
    options = TrainOptions(epochs_num=EPOCHS, schedule=name, warmup_epochs=warmup, patience=9)
    one, other = Schedule(options, EPOCHS), Schedule(options, EPOCHS)
    other.factor(11.0, 1)
    assert one.factor(position, drops) == other.factor(position, drops)
    assert 0 <= one.factor(position, drops) <= 1


@pytest.mark.parametrize("epochs", [1, 1000])
def test_steps_count_instead_of_epochs(epochs):
    """CliqueMining's: from 1 to 0.2 over 4000 steps, whatever an epoch is."""
    schedule = Schedule(TrainOptions(schedule="linear", min_lr_fraction=0.2, schedule_iterations=4000), epochs)
    expected = rates_of_torch(lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.2, 4000), 4100)
    assert [schedule.factor(step / 7, 0, step) for step in range(4100)] == pytest.approx(expected, rel=1e-9)
    cosine = Schedule(TrainOptions(schedule="cosine", schedule_iterations=40), epochs)
    assert cosine.factor(0.1, 0, 20) == pytest.approx(0.5) and cosine.factor(0.1, 0, 41) == 0


def test_schedule_epochs_sets_the_length():
    schedule = Schedule(TrainOptions(schedule="cosine", schedule_epochs=4), 1000)
    assert schedule.factor(2) == pytest.approx(0.5) and schedule.factor(4) == schedule.factor(900) == 0


def test_every_group_follows_from_its_own_base_rate():
    network = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2), "aggregation": torch.nn.Linear(2, 2)})
    optimizer = build_optimizer(network, TrainOptions(lr_backbone=1e-4, lr_head=1e-2))
    foreign = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)  # a mode's, without a base rate
    schedule = Schedule(TrainOptions(schedule="step", schedule_step=1), 9)
    for _ in range(2):  # not a change to a change
        schedule.apply([optimizer, foreign], 2.5)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-6, 1e-4])
        assert foreign.param_groups[0]["lr"] == pytest.approx(0.005)
    schedule.apply([optimizer, foreign], 0.0)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-2]
    assert foreign.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "cosin"}, ["--schedule cosin", "cosine"]),
        ({"schedule": "multistep"}, ["--milestones"]),
        ({"schedule": "multistep", "milestones": (5, 3)}, ["--milestones 5 3"]),
        ({"schedule": "multistep", "milestones": (0, 3)}, ["--milestones 0 3"]),
        ({"schedule": "cosine", "milestones": (3,)}, ["--milestones 3", "multistep"]),
        ({"schedule_gamma": 0.5}, ["--schedule_gamma 0.5", "none"]),
        ({"min_lr_fraction": 0.1}, ["--min_lr_fraction", "none"]),
        ({"schedule": "step", "schedule_epochs": 4}, ["--schedule_epochs 4", "cosine or linear or onecycle"]),
        ({"schedule": "step", "schedule_iterations": 4}, ["--schedule_iterations 4", "cosine or linear or onecycle"]),
        (
            {"schedule": "linear", "schedule_iterations": 40, "warmup_epochs": 0.5},
            ["--schedule_iterations 40", "--warmup_epochs 0.5"],
        ),
        (
            {"schedule": "linear", "schedule_iterations": 40, "schedule_epochs": 2},
            ["--schedule_iterations 40", "--schedule_epochs 2"],
        ),
        ({"schedule": "linear", "epochs_num": 2, "warmup_epochs": 2}, ["--warmup_epochs 2", "--schedule linear"]),
        ({"schedule": "cosine", "schedule_step": 4}, ["--schedule_step 4"]),
        ({"schedule": "step", "schedule_step": 0}, ["--schedule_step 0", "at least 1"]),
        ({"schedule": "step", "schedule_gamma": 1.5}, ["--schedule_gamma 1.5"]),
        ({"schedule": "onecycle", "onecycle_rise": 1.0}, ["--onecycle_rise 1.0"]),
        ({"schedule": "cosine", "min_lr_fraction": -0.1}, ["--min_lr_fraction -0.1"]),
        ({"schedule": "step", "plateau_patience": 1}, ["--plateau_patience 1", "plateau"]),
        ({"schedule": "plateau", "plateau_patience": 3}, ["--plateau_patience 3", "--patience 3"]),
        ({"warmup_epochs": -1.0}, ["--warmup_epochs -1.0"]),
        ({"warmup_epochs": math.inf}, ["--warmup_epochs inf"]),
        ({"schedule": "cosine", "epochs_num": 2, "warmup_epochs": 2.0}, ["--warmup_epochs 2", "cosine"]),
        ({"schedule": "onecycle", "schedule_epochs": 3, "warmup_epochs": 4.5}, ["--warmup_epochs 4.5"]),
    ],
)
def test_what_a_schedule_cannot_use_is_refused_in_one_line(options, words):
    with pytest.raises(UserError) as caught:
        TrainOptions(**options)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
