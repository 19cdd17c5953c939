"""Averaged weights: the recurrence, BatchNorm's statistics, what is validated and kept, bit-exact resuming."""

import copy
import dataclasses

import pytest
import torch
from tiny_training import OPTIONS, TinyMode, run_tiny, states_equal, tiny_network, weight_recall

from vgbench.models.weights import read_checkpoint
from vgbench.training.optimisation.ema import Ema

AVERAGED = dataclasses.replace(OPTIONS, ema_decay=0.8)


def move(network, step):
    """Change every weight and running statistic, as a training step does."""
    generator = torch.Generator().manual_seed(step)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.randn(value.shape, generator=generator))
        else:
            value.add_(3)


def test_the_recurrence_in_float64():
    network = tiny_network()
    expected = {key: value.double().clone() for key, value in network.state_dict().items()}
    ema = Ema(network, 0.7)
    for step in range(1, 41):
        move(network, step)
        ema.update()
        decay = min(0.7, (1 + step) / (10 + step))
        for key, value in network.state_dict().items():
            floats = value.is_floating_point()
            expected[key] = decay * expected[key] + (1 - decay) * value.double() if floats else value.double()
    for key, value in ema.network.state_dict().items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-5, atol=1e-5)
    assert ema.updates == 40
    assert not torch.equal(ema.network.norm.running_mean, network.norm.running_mean)
    assert torch.equal(ema.network.norm.num_batches_tracked, network.norm.num_batches_tracked)


def test_an_average_of_equal_weights_is_these_weights():
    """Those of BatchNorm's statistics and of constants too, bit for bit."""
    network = tiny_network()
    ema = Ema(network, 0.999)
    for _ in range(30):
        ema.update()
    assert states_equal(ema.network, network)


def test_it_is_another_network_without_gradients():
    network = tiny_network()
    before = copy.deepcopy(network.state_dict())
    ema = Ema(network, 0.9)
    move(ema.network, 1)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert network.training and not ema.network.training
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_it_follows_weights_that_were_moved_in_memory():
    network = tiny_network()
    ema = Ema(network, 0.5)
    network.to(memory_format=torch.channels_last)
    ema.network.to(memory_format=torch.channels_last)
    move(network, 1)
    ema.restart()
    assert states_equal(ema.network, network)


def test_validated_and_kept_as_best_are_the_averaged_weights(tmp_path):
    seen = []

    def validate(network, epoch):
        seen.append(copy.deepcopy(network.state_dict()))
        return weight_recall(network, epoch)

    result, network = run_tiny(tmp_path, options=AVERAGED, validate=validate)
    best, last = read_checkpoint(tmp_path / "best_model.pth"), read_checkpoint(tmp_path / "last_model.pth")
    assert result.best_epoch == 2
    for key, value in network.state_dict().items():
        assert torch.equal(best["model_state_dict"][key], seen[2][key])
        assert torch.equal(last["model_state_dict"][key], value)  # training goes on with these
        assert torch.equal(last["ema"]["averaged"][key], seen[2][key])
        assert torch.equal(last["ema"]["trained"][key], value)
    assert not torch.equal(best["model_state_dict"]["out.weight"], network.out.weight)
    assert last["ema"]["updates"] == result.steps


def test_training_itself_is_as_without_an_average(tmp_path):
    _, plain = run_tiny(tmp_path / "plain", validate=lambda network, epoch: weight_recall(tiny_network(), epoch))
    _, averaged = run_tiny(
        tmp_path / "averaged", options=AVERAGED, validate=lambda network, epoch: weight_recall(tiny_network(), epoch)
    )
    assert states_equal(plain, averaged)
    assert "ema" not in read_checkpoint(tmp_path / "plain" / "last_model.pth")


def test_a_file_holds_each_tensor_once(tmp_path):
    """Weights that are in a checkpoint under two names take their bytes once."""
    run_tiny(tmp_path / "plain")
    run_tiny(tmp_path / "averaged", options=AVERAGED)
    plain, averaged = ((tmp_path / name / "best_model.pth").stat().st_size for name in ("plain", "averaged"))
    network = sum(value.numel() * value.element_size() for value in tiny_network().state_dict().values())
    names = 12_000  # what torch.save adds for so small tensors
    assert averaged < plain + 1.1 * network + names


def test_switched_on_in_a_resumed_run_it_starts_from_the_weights(tmp_path):
    run_tiny(tmp_path, options=dataclasses.replace(OPTIONS, epochs_num=1))
    stored = read_checkpoint(tmp_path / "last_model.pth")["model_state_dict"]
    seen = []

    class Looking(TinyMode):
        def round(self, network, epoch, index):
            seen.append(copy.deepcopy(network.state_dict()))
            return super().round(network, epoch, index)

    run_tiny(tmp_path, mode=Looking(), options=AVERAGED, resume=True)
    assert all(torch.equal(seen[0][key], value) for key, value in stored.items())
    assert read_checkpoint(tmp_path / "last_model.pth")["ema"]["updates"] == 2 * 3 * TinyMode.steps


@pytest.mark.parametrize("name", ["best_model.pth", "last_model.pth"])
def test_switched_off_in_a_resumed_run_the_trained_weights_go_on(tmp_path, name):
    _result, _network = run_tiny(tmp_path, options=dataclasses.replace(AVERAGED, epochs_num=2))
    trained = read_checkpoint(tmp_path / name)["ema"]["trained"]
    seen = []

    class Looking(TinyMode):
        def round(self, network, epoch, index):
            seen.append(copy.deepcopy(network.state_dict()))
            return super().round(network, epoch, index)

    if name == "best_model.pth":
        (tmp_path / name).replace(tmp_path / "last_model.pth")
    run_tiny(tmp_path, mode=Looking(), options=OPTIONS, resume=True)
    assert all(torch.equal(seen[0][key], value) for key, value in trained.items())
