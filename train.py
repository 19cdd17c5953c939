"""Train a network for visual geo-localization, then test its best checkpoint.

python3 train.py --dataset_name=pitts30k
python3 train.py --dataset_name=synthetic_city --backbone=efficientnet_lite0 --aggregation=gem --resize 240 320
python3 train.py --resume=logs/default/<run>/last_model.pth        # go on after an interruption
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import commons
import parser
from vgbench import parallel
from vgbench.data import Split, dataset_root, train_root
from vgbench.data.splits import read_checked_split
from vgbench.errors import UserError
from vgbench.models import Network, load_state_dict, network_from_options
from vgbench.models.geowarp import NAME as GEOWARP
from vgbench.models.weights import read_checkpoint
from vgbench.report.history import read_history
from vgbench.report.summary import evaluation_command, training_summary
from vgbench.retrieval.pipeline import Pipeline
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Runtime, peak_memory, resolve_runtime
from vgbench.training import Checkpoints, EpochRecalls, TrainResult, Watch, is_resumable, train
from vgbench.training.checkpoint import METRICS
from vgbench.training.domain_mode import with_domain
from vgbench.training.mode import TrainingMode
from vgbench.training.modes import Recipe, build_mode
from vgbench.training.start import start_network, start_options

LOG = logging.getLogger("vgbench")

# What eval.py need not be told: the checkpoint brings it, or only training asks for it.
CARRIED = (
    "dataset_name", "resize", "val_positive_dist_threshold", "train_positives_dist_threshold", "train_dataset_name",
)  # fmt: skip


def main() -> None:
    commons.log_to_console()
    given = commons.after_restart(parser.read_command_line(parser.TrainSettings, __doc__ or ""))
    stored = stored_options(given.get("resume"))
    started = start_options(given)
    known = stored | commons.method_defaults(given) | started
    settings = parser.resolve(parser.TrainSettings, given, known | own_reranker(known | given))
    if stored and settings.training.dry_run:
        raise UserError(f"--dry_run: {settings.run.resume} is a whole run. Expected no --resume of one; leave it out")
    runtime = resolve_runtime(settings.runtime)
    parallel.start(runtime.device)
    root, few = dataset_root(settings.data), settings.training.dry_run
    val = read_checked_split(settings.data, root, "val", few=few)
    test = read_checked_split(settings.data, root, "test", settings.data.queries_folder, few=few)
    commons.seed(settings.run.seed)
    network = build_network(settings)
    mode = with_domain(
        build_mode(recipe_of(settings, network, runtime)),
        settings.domain, network.descriptors_dim, settings.data, runtime, seed=settings.run.seed,
    )  # fmt: skip
    runtime.place(network)

    folder = commons.open_run_folder(settings.run, commons.folder_to_continue(settings.run.resume))
    commons.write_config(folder, parser.flat(settings))
    LOG.info("run folder: %s", folder)
    LOG.info("machine: %s", commons.describe_machine(runtime))
    LOG.info("network: %s", commons.describe_network(network, settings.data.resize))
    if settings.run.resume is None and settings.training.start_from is None:
        commons.initialise_clusters(network, mode.images, settings.data, settings.run.seed, runtime)
    result = run_training(settings, network, mode, val, runtime, folder)

    LOG.info("best checkpoint: epoch %d, val R@5 %.1f", result.best_epoch, result.best_r5)
    best = read_checkpoint(result.best)
    load_state_dict(network, best)
    confidence = commons.learn_confidence(network, val, settings, runtime, folder)
    tested = commons.test(network, test, settings, parser.flat(settings), runtime, folder, confidence=confidence)
    LOG.info("%s", training_summary(
        result, folder, best["recalls"], tested, read_history(folder / METRICS), peak_memory(runtime.device),
        evaluation_command(
            result.best, (settings.data, settings.evaluation, settings.rerank, settings.runtime), CARRIED
        ),
    ))  # fmt: skip
    if settings.training.dry_run:
        LOG.info("dry run: every step works; recalls of %d queries after one step say nothing", len(test.queries))


def stored_options(resume: Path | None) -> dict[str, Any]:
    """The interrupted run's options, so that `--resume` alone goes on with it; none for weights from elsewhere."""
    if resume is None:
        return {}
    content = read_checkpoint(resume)
    if not is_resumable(content):
        return {}
    return {name: value for name, value in content["options"].items() if name not in ("resume", "run_dir", "dry_run")}


def build_network(settings: parser.TrainSettings) -> Network:
    """The network to train; a resumed run's is not fetched again, since the checkpoint replaces every weight."""
    if settings.training.start_from is not None:
        return start_network(settings.run.resume or settings.training.start_from)
    if settings.run.resume is None:
        return network_from_options(settings.network, settings.data.resize)
    fresh = dataclasses.replace(settings.network, pretrain="none")
    network = network_from_options(fresh, settings.data.resize)
    network.config["pretrain"] = settings.network.pretrain
    return network


def recipe_of(settings: parser.TrainSettings, network: Network, runtime: Runtime) -> Recipe:
    """What the way to train is made from."""
    return Recipe(
        root=train_root(settings.data),
        data=settings.data,
        training=settings.training,
        places=settings.places,
        classes=settings.classes,
        augmentation=settings.augmentation,
        runtime=runtime,
        descriptors_dim=network.descriptors_dim,
        infer_batch_size=settings.evaluation.infer_batch_size,
        seed=settings.run.seed,
        geowarp=settings.geowarp,
        network=network,
    )


def own_reranker(options: dict[str, Any]) -> dict[str, Any]:
    """What trains a re-ranker is validated and tested with it, unless told otherwise."""
    if options.get("train_mode") != GEOWARP or options.get("rerank"):
        return {}
    return {"rerank": (GEOWARP,)}


def run_training(
    settings: parser.TrainSettings,
    network: Network,
    mode: TrainingMode[Any],
    val: Split,
    runtime: Runtime,
    folder: Path,
) -> TrainResult:
    """The epoch loop, with val tested after each epoch."""
    # Early stopping watches R@5, whatever values are reported.
    values = tuple(sorted({*settings.evaluation.recall_values, 5}))
    options = dataclasses.replace(settings.evaluation, recall_values=values, threshold=None)

    reranks = settings.training.train_mode == GEOWARP
    chain = settings.rerank if reranks else RerankOptions()
    pipeline = Pipeline(network, settings.data, options, chain, runtime)

    def validate(network: Network, epoch: int) -> EpochRecalls:
        described = folder / "descriptors" / "val"
        found = dataclasses.replace(pipeline, network=network).evaluate(val, described)
        if not reranks:
            parallel.on_main(lambda: shutil.rmtree(described))  # of weights that the next step changes
        return EpochRecalls(next(iter(found.recalls.values())))

    checkpoints = Checkpoints(folder, network.config, parser.flat(settings))
    with Watch(folder) as watch:
        return train(
            network, mode, validate, settings.training, runtime, checkpoints, watch, settings.run.seed,
            resume=settings.run.resume,
        )  # fmt: skip


if __name__ == "__main__":
    commons.run_door(main)
