"""A training: what it is made from, and the epoch loop with val tested after each epoch."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from vgbench import parallel
from vgbench.data import Split, train_root, train_roots
from vgbench.models import Network
from vgbench.models.geowarp import NAME as GEOWARP
from vgbench.models.options import PLACED_BY_L2
from vgbench.models.releases import aggregation_of
from vgbench.retrieval.pipeline import Pipeline
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runs.settings import Settings, TrainSettings, flat
from vgbench.runtime import Inference, Runtime
from vgbench.training import Checkpoints, EpochRecalls, LoopResult, MetricsLogger, Run, train
from vgbench.training.losses.pairs import PAIR_LOSSES
from vgbench.training.modes.base import TrainingMode
from vgbench.training.modes.pairs_options import ALONE
from vgbench.training.modes.table import Recipe
from vgbench.training.tracker import Tracker


def own_reranker(options: dict[str, Any]) -> dict[str, Any]:
    """What trains a re-ranker alone is validated and tested with it, unless told otherwise."""
    if options.get("rerank"):
        return {}
    if options.get("train_mode") == GEOWARP:
        return {"rerank": (GEOWARP,)}
    method = options.get("method")
    name = options.get("aggregation") if method is None else aggregation_of(str(method))
    return {"rerank": (name,)} if options.get("train_pairs") == ALONE and name in PAIR_LOSSES else {}


def inference_of(settings: Settings, runtime: Runtime) -> Inference:
    """How the settings describe images."""
    data = settings.data
    return Inference(data.resize, settings.evaluation.infer_batch_size, data.workers, runtime)


def own_codes(options: dict[str, Any]) -> dict[str, Any]:
    """A network with codes is tested by them, unless told to search otherwise."""
    searched = ("quantise", "index", "pca_dim", "pca_file", "search_backend", "efficient_ram_testing", "scale_pooling")
    if not options.get("hash_bits") or any(options.get(name) for name in searched):
        return {}
    return {"quantise": "hash"}


def unit_length(options: dict[str, Any]) -> dict[str, Any]:
    """Poolings are normalised after they pool where places or a teacher train them, unless told otherwise.

    Both compare by cosine and the test by Euclidean distance: both agree on descriptors of unit length. Those of GeM,
    MAC, SPoC and R-MAC are not, as in the Deep VG Benchmark; GSV-Cities normalises them so.
    """
    pooling = options.get("aggregation") in PLACED_BY_L2 and not options.get("fc_output_dim")
    modes = options.get("train_modes") or (options.get("train_mode"),)
    if not {"places", "distill"} & set(modes) or not pooling or "l2" in options:
        return {}
    return {"l2": "after_pool"}


def recipe_of(settings: TrainSettings, network: Network, runtime: Runtime) -> Recipe:
    """What the way to train is made from."""
    return Recipe(
        root=train_root(settings.data),
        data=settings.data,
        training=settings.training,
        places=settings.places,
        classes=settings.classes,
        augmentation=settings.augmentation,
        inference=inference_of(settings, runtime),
        descriptors_dim=network.descriptors_dim,
        seed=settings.run.seed,
        geowarp=settings.geowarp,
        network=network,
        roots=train_roots(settings.data),
        rules=settings.sequence_rules,
        distill=settings.distill,
        own_code=settings.run.own_code or (),
    )


def run_training(
    settings: TrainSettings,
    network: Network,
    mode: TrainingMode[Any],
    val: Split,
    runtime: Runtime,
    folder: Path,
    tracker: Tracker,
) -> LoopResult:
    """The epoch loop, with val tested after each epoch; its numbers go into the folder, and to the tracker."""
    # Early stopping watches R@5, whatever values are reported; and epochs are compared by a plain test, as in the
    # reference: PCA, crops and indices are of the test at the end.
    options = settings.evaluation.plain(sorted({*settings.evaluation.recall_values, 5}))

    same = settings.training.train_mode == GEOWARP
    chain = settings.rerank if same or settings.pairs.train_pairs == ALONE else RerankOptions()
    pipeline = Pipeline(network, settings.data, options, chain, runtime, rules=settings.sequence_rules)

    def validate(network: Network, epoch: int) -> EpochRecalls:
        described = folder / "descriptors" / "val"
        found = dataclasses.replace(pipeline, network=network).evaluate(val, described)
        if not same:
            parallel.on_main(lambda: shutil.rmtree(described))  # of weights that the next step changes
        return EpochRecalls(next(iter(found.recalls.values())))

    checkpoints = Checkpoints(folder, network.config, flat(settings))
    with MetricsLogger(folder, tracker=tracker) as watch:
        run = Run(checkpoints, watch, settings.run.seed, settings.run.resume)
        result = train(network, mode, validate, settings.training, runtime, run)
        watch.outcome(flat(settings), {"best R@5": result.best_r5, "train seconds": result.seconds})
        return result
