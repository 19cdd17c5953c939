"""The part of a round that was trained when a run was told to save or to end: kept after its step, taken up there.

A round's batches follow from the weights and the mode's memory as they were when it began. They are kept beside those
of the step, and a resumed run prepares the round with the former and goes on with the latter.
"""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vgbench import parallel
from vgbench.models import load_state_dict
from vgbench.models.weights import read_checkpoint
from vgbench.training.checkpoint import PART
from vgbench.training.fitting import fitting
from vgbench.training.modes.base import TrainingMode

LOG = logging.getLogger(__name__)

_EXPECTED = "a checkpoint as train.py wrote it"


@dataclass(frozen=True)
class PartRound:
    """What of a round is done.

    Attributes:
        path: the checkpoint.
        losses: of the batches so far.
        images: that went forward so far.
        network, mode: their states when the round began.
        generators: the states of each rank's global random generators after the last step.
    """

    path: Path
    losses: tuple[float, ...]
    images: int
    network: Mapping[str, Tensor]
    mode: Mapping[str, Any]
    generators: tuple[Mapping[str, Any], ...]

    @contextmanager
    def as_it_began(self, network: nn.Module, mode: TrainingMode[Any]) -> Iterator[None]:
        """Give network and mode their states of the round's beginning for the body, and then those of now again."""
        now = copy.deepcopy((network.state_dict(), mode.state_dict()))
        with fitting(self.path, "what its round began with", _EXPECTED):
            load_state_dict(network, dict(self.network))
            mode.load_state_dict(self.mode)
        yield
        network.load_state_dict(now[0])
        mode.load_state_dict(now[1])

    def restore_generators(self) -> None:
        """Let the global random generators go on where they stood; says so where there are more or fewer ranks now."""
        if len(self.generators) != parallel.world():
            LOG.warning(
                "%s: its round was begun by %d processes and goes on with %d: it will not end as it would have",
                self.path, len(self.generators), parallel.world(),
            )  # fmt: skip
        with fitting(self.path, "its state of random numbers", _EXPECTED):
            _restore(self.generators[parallel.rank() % len(self.generators)])


def part_of(path: Path, content: Mapping[str, Any]) -> PartRound | None:
    """Return what a checkpoint says of a round that had begun; None where it was written between rounds."""
    if PART not in content:
        return None
    with fitting(path, "its part of a round", _EXPECTED):
        kept, start = content[PART], content[PART]["start"]
        losses = tuple(float(loss) for loss in kept["losses"])
        if not losses or not np.isfinite(losses).all():
            raise ValueError("losses")
        generators = tuple(dict(states) for states in kept["generators"])
        return PartRound(path, losses, int(kept["images"]), start["network"], start["mode"], generators)


def part_content(before: Path, losses: list[float], images: int, generators: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a checkpoint keeps of a round that has begun.

    Args:
        before: the run's last checkpoint, of when the round began or of an earlier step of it.
        losses: of the batches so far.
        images: that went forward so far.
        generators: of `every_generators`.

    Raises:
        UserError: `before` cannot be read.
    """
    content = read_checkpoint(before)
    if PART in content:
        start = content[PART]["start"]
    else:
        weights = content["ema"]["trained"] if "ema" in content else content["model_state_dict"]
        start = {"network": weights, "mode": content["mode_state"]}
    return {"losses": losses, "images": images, "generators": generators, "start": start}


def every_generators() -> list[dict[str, Any]]:
    """Return the states of each rank's global random generators; all ranks must call this."""
    return parallel.all_gather_objects(_generators())


def _generators() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators, in plain values and tensors."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 (others draw from it)
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys, np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore(stored: Mapping[str, Any]) -> None:
    version, numbers, gauss = stored["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = stored["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(stored["torch"])
    if torch.cuda.is_available() and len(stored["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(stored["cuda"])
