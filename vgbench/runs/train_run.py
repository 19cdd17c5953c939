"""A whole training: from settings to a tested checkpoint. The script, the notebook and the benchmark all run it."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from vgbench import parallel
from vgbench.data import Split, dataset_root
from vgbench.data.options import DataOptions
from vgbench.data.splits import read_checked_split
from vgbench.errors import Interrupted, UserError
from vgbench.invocation import command
from vgbench.models import Network, load_state_dict
from vgbench.models.weights import read_checkpoint
from vgbench.options import Mark, marked
from vgbench.randomness import seed_everything
from vgbench.report.history import read_history
from vgbench.report.summary import evaluation_command, training_summary
from vgbench.runs import frozen
from vgbench.runs.clusters import initialise_clusters
from vgbench.runs.confidence import learn_on_val
from vgbench.runs.facts import say_what_runs
from vgbench.runs.folder import folder_to_continue, open_run_folder, write_config
from vgbench.runs.gate import with_gate
from vgbench.runs.networks import network_to_train
from vgbench.runs.results import TrainResult
from vgbench.runs.settings import TrainSettings, flat
from vgbench.runs.space import check_space_of_training
from vgbench.runs.testing import Record, pipeline_of, test_and_report, write_results
from vgbench.runs.training import recipe_of, run_training
from vgbench.runs.trial import try_own_parts
from vgbench.runtime import Runtime, peak_memory, resolve_runtime
from vgbench.signals import answering
from vgbench.training import LoopResult
from vgbench.training.checkpoint import BEST, LAST, METRICS
from vgbench.training.modes.base import TrainingMode
from vgbench.training.tracker import Tracker, check_tracker, tracked

LOG = logging.getLogger("vgbench")

# What eval.py need not be told: the checkpoint brings it, or only training asks for it.
CARRIED = marked(Mark.TAKEN_OVER | Mark.TRAINING, DataOptions)


def train(settings: TrainSettings) -> TrainResult:
    """Train a network, test its best checkpoint, and leave a run's folder.

    Args:
        settings: of `vgbench.train_settings`.

    Raises:
        UserError: what a person can mend: no such dataset, weights that cannot be had, a loss that is not finite.
        Interrupted: Ctrl-C; the message says how to go on.
    """
    check_tracker(settings.training.wandb)
    runtime = resolve_runtime(settings.runtime)
    parallel.start(runtime.device)
    root, few = dataset_root(settings.data), settings.training.dry_run
    rules = settings.sequence_rules
    val = read_checked_split(settings.data, root, "val", few=few, rules=rules)
    if len(settings.data.queries_folder) > 1:
        raise UserError(
            f"--queries_folder {' '.join(settings.data.queries_folder)}: several are for eval.py. Expected one, for "
            "the test that ends the training"
        )
    test = read_checked_split(settings.data, root, "test", settings.data.queries_folder[0], few=few, rules=rules)
    # The set-up's draws; each round of training seeds again by its place in the run.
    seed_everything(settings.run.seed, "set-up")
    network = network_to_train(settings)
    try_own_parts(network, settings.data.resize)
    runtime.prepare(network)
    mode = frozen.mode_of(settings, network, recipe_of(settings, network, runtime), runtime)
    continued = folder_to_continue(settings.run.resume)
    with open_run_folder(settings.run, continued, unless=(LAST, BEST)) as folder:
        try:
            note = f"SIGUSR1: {folder / LAST} has everything up to the last round; going on"
            with answering(note, LOG.info), tracked(settings.training.wandb, folder, flat(settings)) as tracker:
                return _train_and_test(settings, network, mode, (val, test), runtime, folder, tracker)
        except KeyboardInterrupt as stop:
            raise Interrupted(_going_on(folder)) from stop


def _train_and_test(
    settings: TrainSettings,
    network: Network,
    mode: TrainingMode[Any],
    splits: tuple[Split, Split],
    runtime: Runtime,
    folder: Path,
    tracker: Tracker,
) -> TrainResult:
    val, test = splits
    write_config(folder, flat(settings))
    say_what_runs(settings, network, runtime, folder)
    pipeline_of(network, settings, runtime).check(test)  # rather than after the hours of training
    frozen.place(mode, settings, folder)
    parallel.on_main(lambda: check_space_of_training(settings, network, mode, splits, folder))
    if settings.run.resume is None and settings.training.start_from is None:
        initialise_clusters(network, mode.images, settings.data, settings.run.seed, runtime)
    result = run_training(settings, network, mode, val, runtime, folder, tracker)
    frozen.clear(settings.training, folder)

    LOG.info("best checkpoint: epoch %d, val R@5 %.1f", result.best_epoch, result.best_r5)
    best = read_checkpoint(result.best)
    load_state_dict(network, best)
    pipeline = with_gate(pipeline_of(network, settings, runtime), folder / "descriptors")
    confidence = learn_on_val(pipeline, val, settings, folder)
    record = Record(folder, folder / "descriptors", flat(settings))
    tested = test_and_report(pipeline, test, settings, record, confidence)
    parallel.on_main(lambda: write_results(folder, {**tested.facts, "train_seconds": round(result.seconds, 3)}))
    tracker.summary(
        {f"test/R@{value}": recall for value, recall in next(iter(tested.facts["recalls"].values())).items()}
    )
    LOG.info("%s", _summary(settings, result, best["recalls"], tested.facts, runtime, folder))
    if settings.training.dry_run:
        LOG.info("dry run: every step works; recalls of %d queries after one step say nothing", len(test.queries))
    return TrainResult(
        folder=folder,
        best=result.best,
        best_epoch=result.best_epoch,
        val=best["recalls"],
        epochs=result.epochs,
        steps=result.steps,
        stopped_early=result.stopped_early,
        seconds=result.seconds,
        test=tested,
    )


def _summary(settings: TrainSettings, result: LoopResult, val: Any, test: Any, runtime: Runtime, folder: Path) -> str:
    groups = settings.data, settings.evaluation, settings.rerank, settings.runtime
    return training_summary(
        result, folder, val, test, read_history(folder / METRICS), peak_memory(runtime.device),
        evaluation_command(result.best, groups, CARRIED, settings.run.own_code or ()),
    )  # fmt: skip


def _going_on(folder: Path) -> str:
    """Say how an interrupted training goes on."""
    if not (folder / LAST).is_file():
        return "nothing was saved yet, the same command starts again"
    return f"to go on: {command('train')} --resume={shlex.quote(str(folder))}"
