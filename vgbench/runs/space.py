"""What a training will write, against what its disk has left: said before the first image is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vgbench.data import Split
from vgbench.files import check_space
from vgbench.models import Network
from vgbench.retrieval.extraction.store import DTYPES
from vgbench.runs.settings import TrainSettings
from vgbench.training.checkpoint import BEST, LAST
from vgbench.training.modes.base import TrainingMode
from vgbench.training.optimisation.optim import build_optimizer
from vgbench.training.options import TrainOptions


def check_space_of_training(
    settings: TrainSettings, network: Network, mode: TrainingMode[Any], splits: Iterable[Split], folder: Path
) -> None:
    """Raise UserError where a training's checkpoints, and the descriptors of its tests, will not fit on the disk.

    Args:
        splits: that are described, one at a time, beside the checkpoints.
        folder: of the run; what an interrupted run has left there is written over.
    """
    each = checkpoint_bytes(network, mode, settings.training)
    described = max(_described(network, split, settings.evaluation.descriptors_dtype) for split in splits)
    # Two checkpoints, and for a moment what takes the place of one of them.
    need = max(0, 2 * each - sum(_size(folder / name) for name in (LAST, BEST))) + max(each, described)
    check_space(folder, need, "name another disk with --save_dir")


def checkpoint_bytes(network: nn.Module, mode: TrainingMode[Any], options: TrainOptions) -> int:
    """Return about how much a checkpoint takes: weights, their average, the optimiser's and the mode's states."""
    weights = sum(map(_bytes, network.state_dict().values()))
    trained = sum(_bytes(parameter) for parameter in network.parameters() if parameter.requires_grad)
    averages = 0 if options.ema_decay is None else weights
    own = sum(map(_bytes, _tensors(mode.state_dict())))
    return round(weights + averages + trained * _states_a_weight(network, options) + own)


def _states_a_weight(network: nn.Module, options: TrainOptions) -> float:
    """How many numbers the optimiser keeps of each weight: what it keeps of a few after a step with them."""
    optimizer = build_optimizer(network, options)
    few = nn.Parameter(torch.zeros(64))
    few.grad = torch.zeros_like(few)
    values = {name: value for name, value in optimizer.param_groups[0].items() if name in optimizer.defaults}
    try:
        kind: Any = type(optimizer)
        probe = kind([{**values, "params": [few]}])
        probe.step()
    except (TypeError, ValueError, RuntimeError):  # one's own, which wants more than that; most keep two
        return 2
    return sum(map(_bytes, _tensors(probe.state[few]))) // _bytes(few)


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from _tensors(value)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _described(network: Network, split: Split, dtype: str) -> int:
    return (len(split.database) + len(split.queries)) * int(network.descriptors_dim) * DTYPES[dtype].itemsize


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
