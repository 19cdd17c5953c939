"""The training loop: rounds, validation, early stopping, checkpoints; the same for every way to train."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor
from tqdm import tqdm

from vgbench import parallel
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.randomness import seed_everything, torch_stream
from vgbench.runtime import Runtime
from vgbench.signals import between_steps
from vgbench.training.agreement import Agreement
from vgbench.training.ahead import ahead
from vgbench.training.checkpoint import Progress, States
from vgbench.training.metrics_logger import MetricsLogger
from vgbench.training.modes.base import BatchT, LearnsPart, Round, Tells, TrainingMode, rest
from vgbench.training.optimisation.ema import Ema
from vgbench.training.optimisation.optim import build_optimizer, optimizer_line
from vgbench.training.optimisation.schedule import Schedule
from vgbench.training.optimisation.step import Memory, Stepper, forget_gradients, set_training
from vgbench.training.optimisation.synced_norm import synchronise_norms
from vgbench.training.options import TrainOptions
from vgbench.training.part_round import PartRound, every_generators, part_content, part_of
from vgbench.training.pictures import Shows
from vgbench.training.remaining import Clock, Remaining, first_steps_line
from vgbench.training.resume import Resumed, read_resumed
from vgbench.training.run import LoopResult, Run, Validate

LOG = logging.getLogger(__name__)

# Losses are read back from the device this often: reading each would make the host wait for every step.
_STEPS_BETWEEN_CHECKS = 10


def train(
    network: Network,
    mode: TrainingMode[BatchT],
    validate: Validate,
    options: TrainOptions,
    runtime: Runtime,
    run: Run,
) -> LoopResult:
    """Train until R@5 on val has not improved for `patience` epochs, or for `epochs_num` epochs.

    The run is saved before its first round, after every round and after every validation; resumed from its
    last_model.pth it ends, on a CPU, with bit for bit the weights of an uninterrupted run.

    Args:
        network: trained in place; at the end it has the last weights, not the best and not their average.
        mode: dataset, sampler and loss.
        validate: (network, epoch) -> recalls on val; the network has the averaged weights where there are such.
        options: how long and how fast.
        runtime: where.
        run: where the run is written, what it starts from, and its seed.

    Raises:
        UserError: the loss or the weights are no longer finite (the last good checkpoint stays); the checkpoint is of
            another network or run; nothing to train on; a file cannot be written.
    """
    loop = _Loop(network, mode, validate, options, runtime, run)
    if run.resume is not None:
        loop.resume(run.resume)
    run.watch.start(loop.progress)
    return loop.run(run.watch)


class _Loop(Generic[BatchT]):
    def __init__(
        self,
        network: Network,
        mode: TrainingMode[BatchT],
        validate: Validate,
        options: TrainOptions,
        runtime: Runtime,
        run: Run,
    ) -> None:
        runtime.prepare(network)
        self.network = network
        self.mode, self.validate, self.options = mode, validate, options
        self.runtime, self.checkpoints, self.seed = runtime, run.checkpoints, run.seed
        parallel.broadcast_module(network)
        if not options.freeze_bn:
            synchronise_norms(network)
        self.optimizer = build_optimizer(network, options)
        self.schedule = Schedule(options, options.epochs_num)
        apart = bool(getattr(mode, "calls_apart", False))
        memory = Memory(options.checkpoint_activations, options.grad_cache_chunk, apart)
        learner = mode.learner(network) if isinstance(mode, LearnsPart) else network
        self.stepper = Stepper(learner, runtime, options.clip_grad_norm, memory)
        self.ema = None if options.ema_decay is None else Ema(network, options.ema_decay)
        self.progress = Progress()
        self.recalls: Mapping[int, float] = {}
        self.saved = self.checkpoints.last  # the run's last checkpoint
        self.part: PartRound | None = None  # what the checkpoint that it goes on from had trained of its round
        self.remaining, self.said_pace = Remaining(self.epochs_num, 0), False

    # -- the story ---------------------------------------------------------------------------------------------------

    def run(self, watch: MetricsLogger) -> LoopResult:
        progress = self.progress
        LOG.info("%s", self.mode.summary())
        LOG.info("%s", optimizer_line(self.optimizer, self.options))
        if progress == Progress():
            self._save(self.checkpoints.last)
        self.remaining = Remaining(self.epochs_num, progress.epoch + progress.round / self.rounds_per_epoch)
        if self.epochs_num == 0:
            self._untrained()
        while not self._is_over():
            while progress.round < self.rounds_per_epoch:
                self._round(watch)
            self._validation(watch)
        stopped_early = progress.epoch < self.epochs_num
        if stopped_early:
            LOG.info("R@5 did not improve for %d epochs: training stops", progress.not_improved_num)
        return LoopResult(
            self.checkpoints.best,
            progress.best_epoch,
            progress.best_r5,
            progress.epoch,
            progress.steps,
            stopped_early,
            progress.seconds,
        )

    def _untrained(self) -> None:
        """Keep the network as it begins as the best: what a run without epochs leaves."""
        found = self.validate(self.network, 0)
        progress = self.progress
        progress.best_epoch, progress.best_r5, progress.best_r1 = 0, found.r5, found.r1
        self.recalls = found.recalls
        LOG.info("nothing is trained; val %s", ", ".join(f"R@{n} {recall:.1f}" for n, recall in found.recalls.items()))
        for path in (self.checkpoints.best, self.checkpoints.last):
            self._save(path)

    def _is_over(self) -> bool:
        progress = self.progress
        return progress.epoch >= self.epochs_num or (
            progress.round == 0 and progress.not_improved_num >= self.options.patience
        )

    @property
    def epochs_num(self) -> int:
        return 1 if self.options.dry_run else self.options.epochs_num

    @property
    def rounds_per_epoch(self) -> int:
        return 1 if self.options.dry_run else self.mode.rounds_per_epoch

    def _round(self, watch: MetricsLogger) -> None:
        progress, index = self.progress, self.progress.round
        with self._clock() as mining:
            batches = self._mined(index)
        images = self.stepper.images - (self.part.images if self.part else 0)
        with between_steps() as own:
            agreement = Agreement(own)
            with agreement.leaving_with_others(), self._clock() as training:
                losses = self._steps(batches, index, images, agreement)
            self._check_weights(index)
            values = {"seconds_mining": mining.seconds, "seconds_training": training.seconds}
            self._end_round(watch, losses, {**values, "images": self.stepper.images - images})
        if agreement.meet().any:
            self._answer(agreement)
        if watch.shows_pictures and isinstance(self.mode, Shows):
            watch.pictures(progress, self.mode.pictures())

    def _mined(self, index: int) -> Round[BatchT]:
        """Return the batches of a round; of one that an interrupted run had begun, as it had found them."""
        with contextlib.ExitStack() as stack:
            if self.part is not None:
                stack.enter_context(self.part.as_it_began(self.network, self.mode))
            seed_everything(self.seed, "round", self.progress.epoch, index)
            return self.mode.round(self.network, self.progress.epoch, index)

    def _end_round(self, watch: MetricsLogger, losses: list[float], values: dict[str, float]) -> None:
        """Count a round in, write its numbers, and save."""
        progress, index = self.progress, self.progress.round
        progress.epoch_loss += sum(losses)
        progress.epoch_steps += len(losses)
        progress.round += 1
        loss = sum(losses) / len(losses)
        LOG.info(
            "epoch %d, round %d of %d: loss %.4f, mining %.1f s, %d batches in %.1f s",
            progress.epoch, progress.round, self.rounds_per_epoch, loss, values["seconds_mining"], len(losses),
            values["seconds_training"],
        )  # fmt: skip
        own = self.mode.numbers() if isinstance(self.mode, Tells) else {}
        if own:
            LOG.info("%s", ", ".join(f"{name.replace('_', ' ', 1)} {value:.4f}" for name, value in own.items()))
        values = {"loss": loss, **own, **values}
        for optimizer in (self.optimizer, *self.mode.optimizers(progress.epoch)):
            values |= {f"lr_{group.get('part', 'other')}": group["lr"] for group in optimizer.param_groups}
        watch.round(progress, index, values)
        self._save(self.checkpoints.last)

    def _validation(self, watch: MetricsLogger) -> None:
        progress = self.progress
        with self._clock() as clock:
            seed_everything(self.seed, "validation", progress.epoch)
            found = self.validate(self.ema.network if self.ema else self.network, progress.epoch)
        # On a small val split many epochs share one R@5; then R@1 decides. An epoch whose own best checkpoint was
        # resumed is validated again, and is still the best.
        improved = progress.best_epoch == progress.epoch or (found.r5, found.r1) > (progress.best_r5, progress.best_r1)
        if improved:
            progress.best_r5, progress.best_r1 = found.r5, found.r1
            progress.best_epoch, progress.not_improved_num = progress.epoch, 0
        else:
            progress.not_improved_num += 1
            if self.options.schedule == "plateau":
                progress.plateaus += progress.not_improved_num % self.options.patience_of_plateau == 0
        self.recalls = found.recalls
        loss = progress.epoch_loss / max(progress.epoch_steps, 1)
        LOG.info(
            "epoch %d: loss %.4f, val %s%s (%.1f s); left: %s",
            progress.epoch, loss, ", ".join(f"R@{value} {recall:.1f}" for value, recall in found.recalls.items()),
            ", the best so far" if improved else f", best R@5 {progress.best_r5:.1f} of epoch {progress.best_epoch}",
            clock.seconds, self.remaining.text(progress.epoch + 1),
        )  # fmt: skip
        watch.epoch(progress, loss, found.recalls)
        if improved:
            # Before last_model.pth moves on: an interruption in between only validates this epoch again.
            self._save(self.checkpoints.best)
        progress.epoch, progress.round = progress.epoch + 1, 0
        progress.epoch_loss, progress.epoch_steps = 0.0, 0
        self._save(self.checkpoints.last)

    # -- one step ----------------------------------------------------------------------------------------------------

    def _steps(self, batches: Round[BatchT], index: int, images: int, agreement: Agreement) -> list[float]:
        """Train on a round's batches; returns the loss of each.

        Args:
            images: that had gone forward when the round began.
            agreement: on whether to save or to end, looked at after each step.
        """
        epoch, together = self.progress.epoch, self.options.accumulate_steps
        set_training(self.network, self.options.freeze_bn)
        optimizers = [self.optimizer, *self.mode.optimizers(epoch)]
        forget_gradients(optimizers)
        total = min(len(batches), together) if self.options.dry_run else len(batches)
        part, self.part = self.part, None
        losses = list(part.losses) if part else []
        done = len(losses)
        waiting: list[Tensor] = []
        seed_everything(self.seed, "steps", epoch, index)
        title = f"epoch {epoch}, round {index + 1}/{self.rounds_per_epoch}"
        with tqdm(total=total, initial=done, desc=title, unit="batch", leave=False, disable=None) as bar:
            following = islice(rest(batches, done), max(total - done, 0))
            for number, batch in enumerate(ahead(following, self.runtime.device), done):
                if part is not None and number == done:
                    part.restore_generators()
                first = number - number % together  # of those that share a step; the round's last may be fewer
                last = min(first + together, total) - 1
                generator = torch_stream(self.seed, "step", epoch, index, number, *parallel.own_stream())
                share, ends = 1 / (last - first + 1), number == last
                waiting.append(self.stepper.backward(self.mode, batch, generator, share, ends, add=agreement.sum))
                if ends:
                    self._update(optimizers, epoch + (index + first / total) / self.rounds_per_epoch)
                if len(waiting) == _STEPS_BETWEEN_CHECKS:
                    self._read(waiting, losses, index)
                    position = epoch + (index + (number + 1) / total) / self.rounds_per_epoch
                    bar.set_postfix(loss=f"{losses[-1]:.4f}", left=self.remaining.text(position), refresh=False)
                    if not self.said_pace:
                        self.said_pace = True
                        kept = [self.network, *([self.ema.network] if self.ema else [])]
                        left = self.remaining.text(position)
                        LOG.info("%s", first_steps_line(len(losses), left, kept, self.optimizer))
                bar.update()
                if agreement.asked.any and number == last and number + 1 < total:
                    self._read(waiting, losses, index)
                    self._save(self.checkpoints.last, (losses, self.stepper.images - images))
                    self._answer(agreement)
        self._read(waiting, losses, index)
        if not losses:
            raise UserError(
                f"epoch {epoch}, round {index}: no batch to train on. Expected at least one; "
                "lower --train_batch_size or raise --cache_refresh_rate"
            )
        return losses

    def _answer(self, agreement: Agreement) -> None:
        """Say that all is saved, and end the run where that was asked."""
        if agreement.asked.save:
            LOG.info("SIGUSR1: %s has everything up to step %d; going on", self.saved, self.progress.steps)
        agreement.answered()

    def _update(self, optimizers: list[torch.optim.Optimizer], position: float) -> None:
        """Take one optimiser step, at the rates of a position in the run, in epochs."""
        self.schedule.apply(optimizers, position, self.progress.plateaus, self.progress.steps)
        self.stepper.update(optimizers)
        if self.ema:
            self.ema.update()
        self.progress.steps += 1

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

    def _save(self, path: Path, part: tuple[list[float], int] | None = None) -> None:
        """Write a checkpoint; the best one's weights are those that were validated.

        Args:
            part: losses and number of images of the batches so far, where a round is not over.
        """
        kept = None
        if part is not None:
            generators = every_generators()
            kept = part_content(self.saved, *part, generators) if parallel.is_main() else None
        trained, averaged = self.network.state_dict(), self.ema.state_dict() if self.ema else None
        shown = averaged["averaged"] if averaged and path == self.checkpoints.best else trained
        states = States(
            network=shown,
            # Tensors that are in a file twice take their bytes once.
            ema=averaged and {**averaged, "trained": trained},
            optimizer=self.optimizer.state_dict(),
            scaler=self.stepper.state_dict(),
            mode=self.mode.state_dict(),
            part=kept,
        )
        self.checkpoints.save(path, self.progress, self.recalls, states)
        if path == self.checkpoints.last:
            self.saved = path

    def resume(self, path: Path) -> None:
        """Go on where the checkpoint was written; from one with weights only, start a run with these weights."""
        found = read_resumed(path, self.network, self.ema)
        if isinstance(found, Resumed):
            self.saved, self.part = path, part_of(path, found.content)
            self.progress, self.recalls = found.restore(
                self.optimizer, self.stepper, self.mode, self.checkpoints, self.rounds_per_epoch
            )

    @contextlib.contextmanager
    def _clock(self) -> Iterator[Clock]:
        clock = Clock()
        yield clock
        clock.stop()
        self.progress.seconds += clock.seconds
