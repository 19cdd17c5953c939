"""Train a network for visual geo-localization, then test its best checkpoint.

python3 train.py --dataset_name=pitts30k
python3 train.py --dataset_name=synthetic_city --backbone=efficientnet_lite0 --aggregation=gem --resize 240 320
python3 train.py --resume=logs/default/<run>/last_model.pth        # go on after an interruption
"""

from __future__ import annotations

import logging

import commons
import parser
from vgbench import parallel
from vgbench.data import dataset_root
from vgbench.data.splits import read_checked_split
from vgbench.errors import UserError
from vgbench.models import load_state_dict
from vgbench.models.weights import read_checkpoint
from vgbench.report.history import read_history
from vgbench.report.summary import evaluation_command, training_summary
from vgbench.runs.clusters import initialise_clusters
from vgbench.runs.confidence import learn_on_val
from vgbench.runs.facts import machine_line, network_line
from vgbench.runs.networks import method_defaults, network_to_train, options_to_resume
from vgbench.runs.testing import test_and_report
from vgbench.runs.training import own_reranker, recipe_of, run_training
from vgbench.runtime import peak_memory, resolve_runtime
from vgbench.training.checkpoint import METRICS
from vgbench.training.modes.domain import with_domain
from vgbench.training.modes.table import build_mode
from vgbench.training.start import start_options

LOG = logging.getLogger("vgbench")

# What eval.py need not be told: the checkpoint brings it, or only training asks for it.
CARRIED = (
    "dataset_name", "resize", "val_positive_dist_threshold", "train_positives_dist_threshold", "train_dataset_name",
)  # fmt: skip


def main() -> None:
    commons.log_to_console()
    given = commons.after_restart(parser.read_command_line(parser.TrainSettings, __doc__ or ""))
    stored = options_to_resume(given.get("resume"))
    started = start_options(given)
    known = stored | method_defaults(given) | started
    settings = parser.resolve(parser.TrainSettings, given, known | own_reranker(known | given))
    if stored and settings.training.dry_run:
        raise UserError(f"--dry_run: {settings.run.resume} is a whole run. Expected no --resume of one; leave it out")
    runtime = resolve_runtime(settings.runtime)
    parallel.start(runtime.device)
    root, few = dataset_root(settings.data), settings.training.dry_run
    val = read_checked_split(settings.data, root, "val", few=few)
    test = read_checked_split(settings.data, root, "test", settings.data.queries_folder, few=few)
    commons.seed(settings.run.seed)
    network = network_to_train(settings)
    recipe = recipe_of(settings, network, runtime)
    mode = with_domain(build_mode(recipe), settings.domain, recipe)
    runtime.prepare(network)

    folder = commons.open_run_folder(settings.run, commons.folder_to_continue(settings.run.resume))
    commons.write_config(folder, parser.flat(settings))
    LOG.info("run folder: %s", folder)
    LOG.info("machine: %s", machine_line(runtime))
    LOG.info("network: %s", network_line(network, settings.data.resize))
    if settings.run.resume is None and settings.training.start_from is None:
        initialise_clusters(network, mode.images, settings.data, settings.run.seed, runtime)
    result = run_training(settings, network, mode, val, runtime, folder)

    LOG.info("best checkpoint: epoch %d, val R@5 %.1f", result.best_epoch, result.best_r5)
    best = read_checkpoint(result.best)
    load_state_dict(network, best)
    confidence = learn_on_val(network, val, settings, runtime, folder)
    tested = test_and_report(
        network, test, settings, parser.flat(settings), runtime, folder, folder / "descriptors", confidence
    )
    LOG.info("%s", training_summary(
        result, folder, best["recalls"], tested, read_history(folder / METRICS), peak_memory(runtime.device),
        evaluation_command(
            result.best, (settings.data, settings.evaluation, settings.rerank, settings.runtime), CARRIED
        ),
    ))  # fmt: skip
    if settings.training.dry_run:
        LOG.info("dry run: every step works; recalls of %d queries after one step say nothing", len(test.queries))


if __name__ == "__main__":
    commons.run_door(main)
