"""The training loop: rounds, validation, early stopping, checkpoints; the same for every way to train."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vgbench.errors import UserError
from vgbench.models import Network, load_state_dict
from vgbench.models.weights import read_checkpoint
from vgbench.randomness import seed_everything, torch_stream
from vgbench.runtime import Runtime
from vgbench.training.checkpoint import Checkpoints, Progress, is_resumable
from vgbench.training.mode import BatchT, Round, TrainingMode
from vgbench.training.optim import build_optimizer
from vgbench.training.options import TrainOptions
from vgbench.training.step import Stepper, set_training
from vgbench.training.watch import Watch

LOG = logging.getLogger(__name__)

# Losses are read back from the device this often: reading each would make the host wait for every step.
_STEPS_BETWEEN_CHECKS = 10


@dataclass(frozen=True)
class EpochRecalls:
    """What a validation found: R@N in percent, N -> recall; R@5 must be among them."""

    recalls: dict[int, float]

    @property
    def r5(self) -> float:
        if 5 not in self.recalls:
            raise UserError(f"--recall_values {' '.join(map(str, self.recalls))}: early stopping watches R@5. Add 5")
        return self.recalls[5]

    @property
    def r1(self) -> float:
        return self.recalls.get(1, 0.0)


Validate = Callable[[Network, int], EpochRecalls]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        best: the best checkpoint's file.
        best_epoch: its epoch, from 0.
        best_r5: its R@5 on val, percent.
        epochs: epochs that were trained.
        steps: optimiser steps.
        stopped_early: whether R@5 stopped improving before `epochs_num`.
        seconds: time spent, over all the run's interruptions.
    """

    best: Path
    best_epoch: int
    best_r5: float
    epochs: int
    steps: int
    stopped_early: bool
    seconds: float


def train(
    network: Network,
    mode: TrainingMode[BatchT],
    validate: Validate,
    options: TrainOptions,
    runtime: Runtime,
    checkpoints: Checkpoints,
    watch: Watch,
    seed: int,
    *,
    resume: Path | None = None,
) -> TrainResult:
    """Train until R@5 on val has not improved for `patience` epochs, or for `epochs_num` epochs.

    The run is saved before its first round, after every round and after every validation; resumed from its
    last_model.pth it ends, on a CPU, with bit for bit the weights of an uninterrupted run.

    Args:
        network: trained in place; at the end it has the last weights, not the best.
        mode: dataset, sampler and loss.
        validate: (network, epoch) -> recalls on val.
        options: how long and how fast.
        runtime: where.
        checkpoints: the run folder's checkpoints.
        watch: the run folder's metrics.
        seed: the run's seed.
        resume: last_model.pth of an interrupted run, or a checkpoint with weights only to start from.

    Raises:
        UserError: the loss or the weights are no longer finite (the last good checkpoint stays); the checkpoint is of
            another network or run; nothing to train on; a file cannot be written.
    """
    loop = _Loop(network, mode, validate, options, runtime, checkpoints, seed)
    if resume is not None:
        loop.resume(resume)
    watch.start(loop.progress)
    return loop.run(watch)


class _Loop(Generic[BatchT]):
    def __init__(
        self,
        network: Network,
        mode: TrainingMode[BatchT],
        validate: Validate,
        options: TrainOptions,
        runtime: Runtime,
        checkpoints: Checkpoints,
        seed: int,
    ) -> None:
        runtime.place(network)
        self.network = network
        self.mode, self.validate, self.options = mode, validate, options
        self.runtime, self.checkpoints, self.seed = runtime, checkpoints, seed
        self.optimizer = build_optimizer(network, options)
        self.stepper = Stepper(network, runtime)
        self.progress = Progress()
        self.recalls: Mapping[int, float] = {}

    # -- the story ---------------------------------------------------------------------------------------------------

    def run(self, watch: Watch) -> TrainResult:
        progress = self.progress
        LOG.info("%s", self.mode.describe())
        if progress == Progress():
            self._save(self.checkpoints.last)
        while not self._is_over():
            while progress.round < self.mode.rounds_per_epoch:
                self._round(watch)
            self._validation(watch)
        stopped_early = progress.epoch < self.options.epochs_num
        if stopped_early:
            LOG.info("R@5 did not improve for %d epochs: training stops", progress.not_improved_num)
        return TrainResult(
            self.checkpoints.best,
            progress.best_epoch,
            progress.best_r5,
            progress.epoch,
            progress.steps,
            stopped_early,
            progress.seconds,
        )

    def _is_over(self) -> bool:
        progress = self.progress
        return progress.epoch >= self.options.epochs_num or (
            progress.round == 0 and progress.not_improved_num >= self.options.patience
        )

    def _round(self, watch: Watch) -> None:
        progress, index = self.progress, self.progress.round
        with self._clock() as mining:
            seed_everything(self.seed, "round", progress.epoch, index)
            batches = self.mode.round(self.network, progress.epoch, index)
        with self._clock() as training:
            seed_everything(self.seed, "steps", progress.epoch, index)
            losses = self._steps(batches, index)
        self._check_weights(index)
        progress.epoch_loss += sum(losses)
        progress.epoch_steps += len(losses)
        progress.steps += len(losses)
        progress.round += 1
        loss = sum(losses) / len(losses)
        LOG.info(
            "epoch %d, round %d of %d: loss %.4f, mining %.1f s, %d steps in %.1f s",
            progress.epoch, progress.round, self.mode.rounds_per_epoch, loss, mining.seconds, len(losses),
            training.seconds,
        )  # fmt: skip
        values = {"loss": loss, "seconds_mining": mining.seconds, "seconds_training": training.seconds}
        watch.round(progress, index, values)
        self._save(self.checkpoints.last)

    def _validation(self, watch: Watch) -> None:
        progress = self.progress
        with self._clock() as clock:
            seed_everything(self.seed, "validation", progress.epoch)
            found = self.validate(self.network, progress.epoch)
        # On a small val split many epochs share one R@5; then R@1 decides. An epoch whose own best checkpoint was
        # resumed is validated again, and is still the best.
        improved = progress.best_epoch == progress.epoch or (found.r5, found.r1) > (progress.best_r5, progress.best_r1)
        if improved:
            progress.best_r5, progress.best_r1 = found.r5, found.r1
            progress.best_epoch, progress.not_improved_num = progress.epoch, 0
        else:
            progress.not_improved_num += 1
        self.recalls = found.recalls
        loss = progress.epoch_loss / max(progress.epoch_steps, 1)
        LOG.info(
            "epoch %d: loss %.4f, val %s%s (%.1f s)",
            progress.epoch, loss, ", ".join(f"R@{value} {recall:.1f}" for value, recall in found.recalls.items()),
            ", the best so far" if improved else f", best R@5 {progress.best_r5:.1f} of epoch {progress.best_epoch}",
            clock.seconds,
        )  # fmt: skip
        watch.epoch(progress, loss, found.recalls)
        if improved:
            # Before last_model.pth moves on: an interruption in between only validates this epoch again.
            self._save(self.checkpoints.best)
        progress.epoch, progress.round = progress.epoch + 1, 0
        progress.epoch_loss, progress.epoch_steps = 0.0, 0
        self._save(self.checkpoints.last)

    # -- one step ----------------------------------------------------------------------------------------------------

    def _steps(self, batches: Round[BatchT], index: int) -> list[float]:
        """Train on a round's batches; returns the loss of each step."""
        epoch = self.progress.epoch
        set_training(self.network, self.options.freeze_bn)
        optimizers = [self.optimizer, *self.mode.optimizers(epoch)]
        losses: list[float] = []
        waiting: list[Tensor] = []
        title = f"epoch {epoch}, round {index + 1}/{self.mode.rounds_per_epoch}"
        with tqdm(total=len(batches), desc=title, unit="step", leave=False, disable=None) as bar:
            for step, batch in enumerate(batches):
                generator = torch_stream(self.seed, "step", epoch, index, step)
                waiting.append(self.stepper.step(self.mode, batch, optimizers, generator))
                if len(waiting) == _STEPS_BETWEEN_CHECKS:
                    self._read(waiting, losses, index)
                    bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
                bar.update()
        self._read(waiting, losses, index)
        if not losses:
            raise UserError(
                f"epoch {epoch}, round {index}: no batch to train on. Expected at least one; "
                "lower --train_batch_size or raise --cache_refresh_rate"
            )
        return losses

    def _read(self, waiting: list[Tensor], losses: list[float], index: int) -> None:
        """Move losses from the device to `losses`; raises UserError at the first that is not finite."""
        if not waiting:
            return
        for value in torch.stack(waiting).tolist():
            if not abs(value) < float("inf"):
                self._diverged(
                    f"loss: became {value} at epoch {self.progress.epoch}, round {index}, step {len(losses)}"
                )
            losses.append(value)
        waiting.clear()

    def _check_weights(self, index: int) -> None:
        """Raise UserError if the round left weights or running statistics that are not finite."""
        tensors = [tensor for tensor in self.network.state_dict().values() if tensor.is_floating_point()]
        if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
            self._diverged(f"weights: no longer finite after epoch {self.progress.epoch}, round {index}")

    def _diverged(self, what: str) -> None:
        last = self.checkpoints.last
        raise UserError(
            f"{what}. Expected finite numbers; {last} is from before that: --resume={last} with a lower --lr"
        )

    # -- saving and resuming -----------------------------------------------------------------------------------------

    def _save(self, path: Path) -> None:
        self.checkpoints.save(
            path,
            self.progress,
            self.recalls,
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.stepper.state_dict(),
            mode=self.mode.state_dict(),
        )

    def resume(self, path: Path) -> None:
        """Go on where the checkpoint was written; from one with weights only, start a run with these weights."""
        content = read_checkpoint(path)
        _load_weights(self.network, content, path)
        if not is_resumable(content):
            LOG.info("%s holds weights only: a new run starts from them", path)
            return
        try:
            _load_optimizer(self.optimizer, content["optimizer_state_dict"])
            self.progress = Progress(**content["progress"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: its optimiser does not fit this run ({error}). Expected the interrupted run's --optim and "
                "network"
            ) from error
        self.stepper.load_state_dict(content["scaler"])
        self.mode.load_state_dict(content["mode_state"])
        self.recalls = content["recalls"]
        if self.progress.round > self.mode.rounds_per_epoch:
            raise UserError(
                f"{path}: stands after round {self.progress.round} of an epoch. Expected at most "
                f"{self.mode.rounds_per_epoch}; keep --queries_per_epoch and --cache_refresh_rate of that run"
            )
        _warn_of_changes(content.get("options", {}), self.checkpoints.options)
        self.checkpoints.adopt(path)
        if self.progress.best_epoch >= 0 and not self.checkpoints.best.is_file():
            LOG.warning("%s lies without its best_model.pth: the best epoch is looked for anew", path)
            self.progress.best_r5 = self.progress.best_r1 = -1.0
            self.progress.best_epoch, self.progress.not_improved_num = -1, 0
        LOG.info("resumed %s at epoch %d, round %d", path, self.progress.epoch, self.progress.round)

    @contextlib.contextmanager
    def _clock(self) -> Iterator[_Clock]:
        clock = _Clock()
        yield clock
        clock.stop()
        self.progress.seconds += clock.seconds


class _Clock:
    def __init__(self) -> None:
        self._started = time.monotonic()
        self.seconds = 0.0

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._started


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take back an optimiser's state, but go on with this run's rates: they may have been changed on purpose.

    Raises:
        ValueError, KeyError: it is the state of another optimiser.
    """
    rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    if any(own.keys() != old.keys() for own, old in zip(optimizer.param_groups, state["param_groups"], strict=True)):
        raise ValueError("it is of another kind")
    optimizer.load_state_dict(dict(state))
    for group, (lr, weight_decay) in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["weight_decay"] = lr, weight_decay


def _load_weights(network: nn.Module, content: Mapping[str, Any], path: Path) -> None:
    try:
        load_state_dict(network, content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say which options differ from the interrupted run's: it will then not end as that run would have."""
    free = {"resume", "run_dir", "save_dir", "num_workers", "epochs_num", "patience", "datasets_folder"}
    for name in sorted(before.keys() & now.keys() - free):
        if before[name] != now[name]:
            LOG.warning("--%s is %s, the interrupted run had %s", name, now[name], before[name])
