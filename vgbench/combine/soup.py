"""Model soups: one checkpoint of the averaged weights of several (Wortsman et al., 2022)."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vgbench.combine.options import BN_IMAGES, SoupOptions
from vgbench.data import DataOptions, dataset_root, image_loader, read_split
from vgbench.errors import UserError, about
from vgbench.models import Network, load_state_dict, rebuild_network
from vgbench.models.network_file import read_network_file
from vgbench.randomness import numpy_stream
from vgbench.retrieval import EvalOptions, evaluate
from vgbench.runtime import Inference, Runtime

LOG = logging.getLogger(__name__)

# Options that say how a network was trained and not what it is.
_OF_TRAINING = ("pretrain", "freeze", "freeze_te", "unfreeze_blocks")
_BN_BATCH = 16


def soup(options: SoupOptions, data: DataOptions, runtime: Runtime, own: Collection[str] = ()) -> dict[str, Any]:
    """Return the content of a soup's checkpoint.

    Args:
        own: code outside this project that the checkpoints may name, since the user typed it.

    Raises:
        UserError: a file is missing or of another architecture; greedy, and there is no val split.
    """
    config = _common_config(options.checkpoints, own)
    network = rebuild_network(config, own=own)
    runtime.prepare(network)

    def load(index: int) -> State:
        path = options.checkpoints[index]
        with about(path):
            load_state_dict(network, read_network_file(path, own).content)
        # Under the network's own names, whatever the file's are.
        return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}

    finish = _reestimation(network, data, runtime) if options.batch_norm == "reestimate" else as_it_is
    count = len(options.checkpoints)
    made = (
        uniform_soup(count, load, finish)
        if options.soup == "uniform"
        else greedy_soup(count, load, _val_recall(network, options, data, runtime), finish)
    )
    _tell(made, options)
    return {
        "model_state_dict": made.state,
        "network_config": config,
        "soup": {
            "kind": options.soup,
            "batch_norm": options.batch_norm,
            "checkpoints": [str(options.checkpoints[index]) for index in made.chosen],
            "val_recall": made.score,
        },
    }


def _val_recall(
    network: Network, options: SoupOptions, data: DataOptions, runtime: Runtime
) -> Callable[[State], float]:
    """Return state dict -> R@N on val, percent."""
    val = read_split(dataset_root(data), "val")
    near = float(data.val_positive_dist_threshold)
    settings = EvalOptions(recall_values=(options.recall,))
    inference = Inference(data.resize, options.infer_batch_size, data.workers, runtime)

    def score(state: State) -> float:
        network.load_state_dict(state)
        with tempfile.TemporaryDirectory() as folder:
            found = evaluate(network, val, settings, inference, Path(folder), thresholds=(near,))
        return found.recalls[near][options.recall]

    return score


def _reestimation(network: Network, data: DataOptions, runtime: Runtime) -> Callable[[State], State]:
    """Return state dict -> the same with BatchNorm's statistics of images of the train split."""
    database = read_split(dataset_root(data), "train").database
    rows = numpy_stream(0, "soup").permutation(len(database))[:BN_IMAGES].astype(np.int64)

    def images() -> Iterator[Tensor]:
        loader = image_loader(database, rows, size=data.resize, batch_size=_BN_BATCH, num_workers=data.workers)
        return (runtime.to_device(batch) for batch, _ in loader)

    def finish(state: State) -> State:
        network.load_state_dict(state)
        if reestimate_batch_norm(network, images()) == 0:
            raise UserError("--batch_norm reestimate: this network has no BatchNorm layers. Expected average")
        return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}

    return finish


def _tell(made: Soup, options: SoupOptions) -> None:
    for index, score in enumerate(made.scores):
        kept = "in the soup" if index in made.chosen else "left out"
        LOG.info("%s: R@%d %.2f, %s", options.checkpoints[index], options.recall, score, kept)
    if made.score is not None:
        LOG.info("soup of %d: val R@%d %.2f", len(made.chosen), options.recall, made.score)


def _common_config(paths: Sequence[Path], own: Collection[str]) -> dict[str, Any]:
    """Return the one configuration of all checkpoints, but for how they were trained; raises UserError."""
    configs = [dict(read_network_file(path, own).config) for path in paths]
    first = configs[0]
    for path, config in zip(paths[1:], configs[1:], strict=True):
        for name in sorted({*first, *config} - {*_OF_TRAINING}):
            if first.get(name) != config.get(name):
                raise UserError(
                    f"{path}: has --{name} {config.get(name)}, {paths[0]} {first.get(name)}. Expected checkpoints of "
                    "one architecture; use `combine ensemble` for several"
                )
    return first


State = dict[str, Tensor]


class Average:
    """The mean of state dicts, taken in float64; one in memory whatever their number.

    What is not floating point, as the counters of BatchNorm are, comes from the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: State = {}
        self._first: State = {}

    def with_one_more(self, state: Mapping[str, Tensor]) -> Average:
        """Return the average over this one's states and another; this one stays as it is.

        Raises:
            UserError: the state is of another network.
        """
        more = Average()
        more.count = self.count + 1
        more._first = self._first or {key: value.clone() for key, value in state.items()}
        if {key: value.shape for key, value in more._first.items()} != {k: v.shape for k, v in state.items()}:
            raise UserError("state dict: of another network. Expected checkpoints of one architecture")
        floats = {key: value.double() for key, value in state.items() if value.is_floating_point()}
        more._sums = {key: self._sums[key] + value if self._sums else value for key, value in floats.items()}
        return more

    def mean(self) -> State:
        """Return the averaged state dict, in the first one's types."""
        return {
            key: (self._sums[key] / self.count).to(value.dtype) if key in self._sums else value.clone()
            for key, value in self._first.items()
        }


@dataclass(frozen=True)
class Soup:
    """An averaged network.

    Attributes:
        state: its state dict.
        chosen: which of the checkpoints are in it, best first where they were ranked.
        scores: of each checkpoint alone; empty where nobody asked.
        score: of the soup, None where nobody asked.
    """

    state: State
    chosen: tuple[int, ...]
    scores: tuple[float, ...] = ()
    score: float | None = None


def as_it_is(state: State) -> State:
    """Return the state: what a soup is made into where nothing is to be done."""
    return state


def uniform_soup(count: int, load: Callable[[int], State], finish: Callable[[State], State] = as_it_is) -> Soup:
    """Return the average of all checkpoints.

    Args:
        count: how many there are, at least 1.
        load: index -> state dict.
        finish: average of several -> state dict to use, such as one with other running statistics.
    """
    average = Average()
    for index in range(count):
        average = average.with_one_more(load(index))
    return Soup(finish(average.mean()) if count > 1 else average.mean(), tuple(range(count)))


def greedy_soup(
    count: int,
    load: Callable[[int], State],
    score: Callable[[State], float],
    finish: Callable[[State], State] = as_it_is,
) -> Soup:
    """Return the average of the checkpoints that do it good, tried best first (the paper's recipe 1).

    Args:
        count: how many there are, at least 1.
        load: index -> state dict.
        score: state dict -> what is to be large, on data that nothing was trained or is tested on.
        finish: average of several -> state dict to use, before it is scored.
    """
    scores = tuple(score(load(index)) for index in range(count))
    order = sorted(range(count), key=lambda index: (-scores[index], index))
    average = Average().with_one_more(load(order[0]))
    state, chosen, best = average.mean(), [order[0]], scores[order[0]]
    for index in order[1:]:
        tried = average.with_one_more(load(index))
        mixed = finish(tried.mean())
        found = score(mixed)
        kept = found >= best
        LOG.info("soup of %d: %.2f, with number %d %.2f: %s",
                 average.count, best, index + 1, found, "kept" if kept else "left out")  # fmt: skip
        if kept:
            average, state, best = tried, mixed, found
            chosen.append(index)
    return Soup(state, tuple(chosen), scores, best)


@torch.no_grad()
def reestimate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics of BatchNorm layers by those of images; returns how many layers there are.

    The mean of networks' statistics is not that of the mean network's activations, whose variance is smaller (Jordan
    et al., 2023: "variance collapse"), the more so the further apart the networks are. All but these layers stay in
    eval mode.

    Args:
        network: on the device of the images; left in eval mode.
        batches: what it is to be used on, uint8 [B,3,H,W].
    """
    network.eval()
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    for images in batches:
        network(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return len(layers)
