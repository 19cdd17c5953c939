"""A soup: one checkpoint of the averaged weights of several."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vgbench.combine.files import read_network_file
from vgbench.data import DataOptions, dataset_root, image_loader, read_split
from vgbench.errors import UserError
from vgbench.models import Network, load_state_dict, rebuild_network
from vgbench.randomness import numpy_stream
from vgbench.retrieval import EvalOptions, evaluate
from vgbench.runtime import Runtime
from vgbench.training.soup import Soup, State, as_it_is, greedy_soup, reestimate_batch_norm, uniform_soup

LOG = logging.getLogger("vgbench")

SOUPS = ("uniform", "greedy")
BATCH_NORMS = ("average", "reestimate")
# Options that say how a network was trained and not what it is.
_OF_TRAINING = ("pretrain", "freeze", "freeze_te", "unfreeze_blocks")
BN_IMAGES, _BN_BATCH = 1024, 16


@dataclass(frozen=True)
class SoupOptions:
    """What a soup is made of."""

    checkpoints: tuple[Path, ...]
    soup: str = "uniform"
    recall: int = 1
    batch_norm: str = "average"
    infer_batch_size: int = 16


def soup(options: SoupOptions, data: DataOptions, runtime: Runtime) -> dict[str, Any]:
    """Return the content of a soup's checkpoint.

    Raises:
        UserError: a file is missing or of another architecture; greedy, and there is no val split.
    """
    config = _common_config(options.checkpoints)
    network = rebuild_network(config)
    runtime.place(network)

    def load(index: int) -> State:
        path = options.checkpoints[index]
        try:
            load_state_dict(network, read_network_file(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
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
    settings = EvalOptions(infer_batch_size=options.infer_batch_size, recall_values=(options.recall,))

    def score(state: State) -> float:
        network.load_state_dict(state)
        with tempfile.TemporaryDirectory() as folder:
            found = evaluate(
                network, val, settings, size=data.resize, num_workers=data.num_workers, runtime=runtime,
                folder=Path(folder), thresholds=(near,),
            )  # fmt: skip
        return found.recalls[near][options.recall]

    return score


def _reestimation(network: Network, data: DataOptions, runtime: Runtime) -> Callable[[State], State]:
    """Return state dict -> the same with BatchNorm's statistics of images of the train split."""
    database = read_split(dataset_root(data), "train").database
    rows = numpy_stream(0, "soup").permutation(len(database))[:BN_IMAGES].astype(np.int64)

    def images() -> Iterator[Tensor]:
        loader = image_loader(database, rows, size=data.resize, batch_size=_BN_BATCH, num_workers=data.num_workers)
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


def _common_config(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the one configuration of all checkpoints, but for how they were trained; raises UserError."""
    configs = [dict(read_network_file(path)["network_config"]) for path in paths]
    first = configs[0]
    for path, config in zip(paths[1:], configs[1:], strict=True):
        for name in sorted({*first, *config} - {*_OF_TRAINING}):
            if first.get(name) != config.get(name):
                raise UserError(
                    f"{path}: has --{name} {config.get(name)}, {paths[0]} {first.get(name)}. Expected checkpoints of "
                    "one architecture; use `combine ensemble` for several"
                )
    return first
