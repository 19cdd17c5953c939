"""The loop: what it trains, when it stops, what it leaves behind."""

import contextlib
import dataclasses
import json
import math

import pytest
import torch
from tiny_training import OPTIONS, TinyMode, run_tiny, states_equal, tiny_network, weight_recall
from torch import nn

from vgbench.errors import UserError
from vgbench.models.weights import read_checkpoint
from vgbench.runtime import Runtime
from vgbench.training import Checkpoints, EpochRecalls, TrainOptions, build_optimizer
from vgbench.training.optimisation.step import set_training


def recalls_of(*r5):
    """A validation whose R@5 follows a script."""
    return lambda network, epoch: EpochRecalls({1: 0.0, 5: r5[epoch]})


def test_r1_decides_between_equal_r5(tmp_path):
    found = [{1: 40.0, 5: 90.0}, {1: 50.0, 5: 90.0}, {1: 60.0, 5: 80.0}, {1: 50.0, 5: 90.0}, {1: 99.0, 5: 89.0}]
    options = dataclasses.replace(OPTIONS, epochs_num=9, patience=3)
    result, _ = run_tiny(tmp_path, validate=lambda network, epoch: EpochRecalls(found[epoch]), options=options)
    assert (result.best_epoch, result.best_r5, result.epochs) == (1, 90.0, 5)


@pytest.mark.parametrize(
    ("r5", "patience", "epochs", "best", "early"),
    [
        ([10, 20, 30, 40], 2, 4, 3, False),
        ([50, 40, 40, 60], 2, 3, 0, True),
        ([50, 50, 50, 60], 2, 3, 0, True),  # an equal R@5 is no improvement
        ([50, 40, 60, 50, 50, 99], 2, 5, 2, True),  # an improvement starts the count again
        ([0, 0, 0, 0], 3, 4, 0, True),
        ([50, 40], 1, 2, 0, True),
    ],
)
def test_early_stopping(tmp_path, r5, patience, epochs, best, early):
    options = TrainOptions(epochs_num=len(r5) + (r5 == [0, 0, 0, 0]), patience=patience)
    scripted = recalls_of(*r5, 0)
    result, _ = run_tiny(tmp_path, options=options, validate=scripted)
    assert (result.epochs, result.best_epoch, result.best_r5) == (epochs, best, r5[best])
    assert result.stopped_early is (early and epochs < options.epochs_num)
    stored = read_checkpoint(tmp_path / "best_model.pth")
    assert stored["epoch_num"] == best and stored["recalls"][5] == r5[best] == stored["best_r5"]


def test_a_run_without_epochs_keeps_the_network_as_it_begins(tmp_path):
    options = dataclasses.replace(OPTIONS, epochs_num=0)
    first = tiny_network()
    result, network = run_tiny(tmp_path, options=options, validate=recalls_of(40.0))
    assert (result.epochs, result.steps, result.best_epoch, result.best_r5) == (
        0,
        0,
        0,
        40.0,
    ) and not result.stopped_early
    assert states_equal(first, network)
    stored = read_checkpoint(tmp_path / "best_model.pth")
    assert stored["recalls"] == {1: 0.0, 5: 40.0}
    for key, value in first.state_dict().items():
        assert torch.equal(stored["model_state_dict"][key], value)
    again, _ = run_tiny(tmp_path, options=options, validate=recalls_of(40.0), resume=True)
    assert again.epochs == 0 and again.best_r5 == 40.0


def test_the_best_checkpoint_has_the_best_epochs_weights(tmp_path):
    seen = []

    def validate(network, epoch):
        seen.append({key: value.clone() for key, value in network.state_dict().items()})
        return EpochRecalls({5: [10.0, 30.0, 20.0][epoch]})

    _, network = run_tiny(tmp_path, validate=validate)
    best = read_checkpoint(tmp_path / "best_model.pth")["model_state_dict"]
    assert all(torch.equal(best[key], seen[1][key]) for key in best)
    last = tiny_network(5)
    last.load_state_dict(read_checkpoint(tmp_path / "last_model.pth")["model_state_dict"])
    assert states_equal(last, network) and not torch.equal(seen[2]["out.weight"], seen[1]["out.weight"])


def test_metrics_tell_rounds_and_epochs(tmp_path):
    result, _ = run_tiny(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row.get("round")) for row in rows] == [(e, r) for e in range(3) for r in (0, 1, 2, None)]
    assert result.steps == rows[-1]["steps"] == 3 * 3 * TinyMode.steps
    for epoch in range(3):
        *rounds, summary = rows[4 * epoch : 4 * epoch + 4]
        assert summary["loss"] == pytest.approx(sum(row["loss"] for row in rounds) / 3)


def test_steps_are_those_of_a_plain_loop(tmp_path):
    """Adam on the mode's losses, written out; dropout off, since its draws belong to the loop's own streams."""
    options = dataclasses.replace(OPTIONS, epochs_num=1)
    network = tiny_network()
    network.drop.p = 0.0
    run_tiny(tmp_path, options=options, network=network)

    plain, mode = tiny_network(), TinyMode()
    plain.drop.p = 0.0
    optimizer = torch.optim.Adam(plain.parameters(), lr=options.lr)
    from vgbench.randomness import torch_stream

    for index in range(3):
        batches = mode.round(plain, 0, index)
        plain.train()
        for step, batch in enumerate(batches):
            loss = mode.loss(plain, batch, torch_stream(0, "step", 0, index, step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert states_equal(network, plain)


@pytest.mark.parametrize("fault", [math.nan, math.inf])
@pytest.mark.parametrize("at", [(0, 0, 0), (1, 1, 3)])
def test_a_loss_that_is_not_finite_stops_in_one_line_and_keeps_the_last_good_checkpoint(tmp_path, fault, at):
    mode = TinyMode(lambda *place: fault if place == at else None)
    with pytest.raises(UserError) as caught:
        run_tiny(tmp_path, mode=mode)
    message = str(caught.value)
    assert f"epoch {at[0]}, round {at[1]}, step {at[2]}" in message and "\n" not in message
    assert str(tmp_path / "last_model.pth") in message and "--lr" in message
    stored = read_checkpoint(tmp_path / "last_model.pth")
    assert (stored["progress"]["epoch"], stored["progress"]["round"]) == at[:2]
    assert all(torch.isfinite(value).all() for value in stored["model_state_dict"].values())
    _, resumed = run_tiny(tmp_path, resume=True)
    _, whole = run_tiny(tmp_path / "whole")
    assert states_equal(resumed, whole)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    mode = TinyMode()
    mode.steps = 1

    def poison(gradient):
        return gradient * math.nan if mode.at == (0, 1) else gradient

    network = tiny_network()
    network.out.weight.register_hook(poison)  # the loss of the round's only step is still finite
    with pytest.raises(UserError, match=r"weights: no longer finite after epoch 0, round 1"):
        run_tiny(tmp_path, mode=mode, network=network)
    stored = read_checkpoint(tmp_path / "last_model.pth")
    assert stored["progress"]["round"] == 1
    assert all(torch.isfinite(value).all() for value in stored["model_state_dict"].values())


def test_freeze_bn_keeps_running_statistics_and_dropout_stays_on(tmp_path):
    for freeze in (False, True):
        network, folder = tiny_network(), tmp_path / str(freeze)
        before = network.norm.running_mean.clone()
        run_tiny(folder, network=network, options=dataclasses.replace(OPTIONS, freeze_bn=freeze, epochs_num=1))
        assert torch.equal(network.norm.running_mean, before) is freeze
    set_training(network, freeze_bn=True)
    assert network.drop.training and not network.norm.training and network.norm.weight.requires_grad


def test_forward_runs_in_autocast_and_the_loss_in_float32(tmp_path):
    seen = set()

    class Spy(TinyMode):
        def loss(self, forward, batch, generator):
            def watched(images):
                descriptors = forward(images)
                seen.add(("descriptors", descriptors.dtype))
                seen.add(("outside", torch.is_autocast_enabled("cpu")))
                return descriptors

            return super().loss(watched, batch, generator)

    network = tiny_network()
    network.out.register_forward_hook(lambda module, inputs, output: seen.add(("inside", output.dtype)))
    runtime = Runtime(amp_dtype=torch.bfloat16, channels_last=True)
    mode = Spy()
    mode.round = lambda *place: Spy.round(mode, tiny_network(), *place[1:])  # mining has its own precision
    run_tiny(tmp_path, mode=mode, network=network, runtime=runtime)
    assert seen == {("descriptors", torch.float32), ("outside", False), ("inside", torch.bfloat16)}
    assert network.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_compile_covers_the_training_forward_and_leaves_checkpoints_as_they_are(tmp_path, monkeypatch):
    calls = []

    def compile_(network, dynamic):
        calls.append(dynamic)

        def compiled(images):
            calls.append(len(images))
            return network(images)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_)
    _, network = run_tiny(tmp_path / "compiled", runtime=Runtime(compile=True))
    assert calls == [True] + [6] * 36
    _, plain = run_tiny(tmp_path / "plain")
    assert states_equal(network, plain)
    assert (
        read_checkpoint(tmp_path / "compiled" / "last_model.pth")["model_state_dict"].keys()
        == plain.state_dict().keys()
    )


def test_a_modes_own_optimisers_are_stepped(tmp_path):
    class WithClassifier(TinyMode):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.own = torch.optim.SGD([self.scale], lr=0.1)

        def loss(self, forward, batch, generator):
            return super().loss(forward, batch, generator) + (self.scale - 3) ** 2

        def optimizers(self, epoch):
            return (self.own,)

    mode = WithClassifier()
    run_tiny(tmp_path, mode=mode)
    assert abs(mode.scale.item() - 3) < 0.01


def test_resume_from_weights_only_starts_a_new_run(tmp_path):
    (tmp_path / "run").mkdir()
    source = tiny_network(7)
    torch.save({"model_state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "w.pth")
    first = {}

    class Look(TinyMode):
        def round(self, network, epoch, index):
            first.setdefault("weights", {k: v.clone() for k, v in network.state_dict().items()})
            return super().round(network, epoch, index)

    class Elsewhere(Checkpoints):
        last = tmp_path / "w.pth"

    mode = Look()
    with contextlib.suppress(UserError):
        run_tiny(tmp_path / "run", mode=mode, resume=True, checkpoints=Elsewhere(tmp_path / "run", {}, {}))
    assert mode.rounds[0] == (0, 0) and len(mode.rounds) == 9
    assert all(torch.equal(first["weights"][key], value) for key, value in source.state_dict().items())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save({"model_state_dict": {"w": torch.zeros(1)}}, tmp_path / "last_model.pth")
    with pytest.raises(UserError, match=r"last_model.pth: .*another network"):
        run_tiny(tmp_path, resume=True)


def test_a_round_without_batches_is_refused(tmp_path):
    mode = TinyMode()
    mode.round = lambda *_: []
    with pytest.raises(UserError, match="no batch"):
        run_tiny(tmp_path, mode=mode)


def test_validation_without_r5_is_refused(tmp_path):
    with pytest.raises(UserError, match="--recall_values 1: "):
        run_tiny(tmp_path, validate=lambda network, epoch: EpochRecalls({1: 3.0}))


def test_options_that_changed_are_told(tmp_path, caplog):
    run_tiny(tmp_path)
    run_tiny(tmp_path, resume=True, options=dataclasses.replace(OPTIONS, lr=0.5))
    assert "--lr is 0.5, the interrupted run had 0.01" in caplog.text


def test_optimisers():
    network = tiny_network()
    network.conv.weight.requires_grad_(False)
    adam = build_optimizer(network, TrainOptions(lr=0.5))
    assert isinstance(adam, torch.optim.Adam) and adam.defaults["lr"] == 0.5 and adam.defaults["weight_decay"] == 0
    assert sum(len(group["params"]) for group in adam.param_groups) == len(list(network.parameters())) - 1
    sgd = build_optimizer(network, TrainOptions(optim="sgd"))
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.9, 1e-3)
    assert build_optimizer(network, TrainOptions(optim="sgd", weight_decay=0.0)).defaults["weight_decay"] == 0
    assert build_optimizer(network, TrainOptions(weight_decay=0.1)).defaults["weight_decay"] == 0.1
    with pytest.raises(UserError, match="frozen"):
        build_optimizer(network.requires_grad_(False), TrainOptions())


@pytest.mark.parametrize(
    "bad",
    [
        {"train_batch_size": 0}, {"patience": 0}, {"lr": -1.0}, {"lr": math.nan}, {"optim": "lion"},
        {"negs_num_per_query": 0}, {"weight_decay": -1.0}, {"margin": math.inf},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(bad):
    [name] = bad
    with pytest.raises(UserError, match=f"--{name} "):
        TrainOptions(**bad)


def test_an_epoch_has_exactly_its_queries():
    options = TrainOptions(queries_per_epoch=5000, cache_refresh_rate=1200)
    assert options.rounds_per_epoch == 5
    assert [options.queries_in_round(index) for index in range(5)] == [1200, 1200, 1200, 1200, 200]
    assert weight_recall(tiny_network(), 0).r5 >= 0
