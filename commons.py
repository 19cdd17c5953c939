"""What the doors share: the run folder, logging, seeding, and the end of every run (test, write, report)."""

from __future__ import annotations

import datetime
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

import vgbench
from vgbench import parallel
from vgbench.data import DataOptions, ImageTable, Split, image_loader, read_folder
from vgbench.data.verify import check_images
from vgbench.errors import UserError
from vgbench.files import write_text
from vgbench.models import Network, initialise_netvlad
from vgbench.models.aggregation.netvlad_init import IMAGES as CLUSTERING_IMAGES
from vgbench.models.aggregation.netvlad_init import netvlad_of
from vgbench.models.flops import count_flops
from vgbench.models.releases import release_of
from vgbench.options import option
from vgbench.randomness import numpy_stream, seed_everything
from vgbench.report.history import read_history
from vgbench.report.markdown import recall_table
from vgbench.report.outputs import Tested, check_report, findings_lines, write_outputs
from vgbench.retrieval import Evaluation, calibrated
from vgbench.retrieval.findings import Calibrated, find
from vgbench.retrieval.pipeline import Pipeline
from vgbench.retrieval.rerank.chain import predictions_needed, steps_table
from vgbench.runtime import Runtime
from vgbench.training.checkpoint import METRICS

LOG = logging.getLogger("vgbench")

# What says where this one run is; a configuration that is used again must not write over it.
THIS_RUN = ("run_dir", "resume")


@dataclass(frozen=True)
class RunOptions:
    """Where a run is written, what it starts from, and its randomness."""

    save_dir: str = option("default", "the run is written to logs/<save_dir>/<date and time>", metavar="NAME")
    run_dir: Path | None = option(None, "write the run to exactly this folder instead")
    resume: Path | None = option(
        None, "a checkpoint: train.py goes on from it, eval.py tests it; its own options become the defaults"
    )
    seed: int = option(0, "the seed of every random choice")


def run_door(main: Callable[[], None]) -> None:
    """Run a door's main; what a person can mend ends as one line on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        LOG.debug("stopped", exc_info=True)
        print(f"error: {parallel.who()}{error}", file=sys.stderr, flush=True)
        parallel.leave(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    parallel.stop()


class _AboveProgressBars(logging.Handler):
    """Prints records through tqdm, so that they do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)


def log_to_console() -> None:
    """Send INFO and above to the console, without breaking progress bars."""
    console = _AboveProgressBars()
    console.setFormatter(logging.Formatter("%(message)s"))
    console.setLevel(logging.INFO if parallel.is_main() else logging.ERROR)  # ranks would all say the same
    LOG.handlers = [console]
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False


def open_run_folder(options: RunOptions, default: Path | None = None) -> Path:
    """Make the run's folder and log into it (info.log, debug.log).

    Args:
        default: the folder where --run_dir names none; a new one below logs/ if not given.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = options.run_dir or default
    if folder is None:
        folder = parallel.tell(_fresh_folder(Path("logs") / options.save_dir))
    if not parallel.is_main():
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if parallel.launched():
            _restart_file().parent.mkdir(exist_ok=True)
            write_text(_restart_file(), str(folder.resolve()))
        for name, level in (("info.log", logging.INFO), ("debug.log", logging.DEBUG)):
            handler = logging.FileHandler(folder / name)
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
            handler.setLevel(level)
            LOG.addHandler(handler)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with --run_dir") from error
    return folder


def folder_to_continue(resume: Path | None) -> Path | None:
    """A run's own last_model.pth goes on in the run's folder; any other checkpoint starts a new run."""
    if resume is not None and resume.name == "last_model.pth" and (resume.parent / "config.yaml").is_file():
        return resume.parent
    return None


def after_restart(given: dict[str, Any]) -> dict[str, Any]:
    """Where torchrun started this program again, go on from the checkpoint that it had written, whatever was given."""
    file = _restart_file()
    if not (parallel.launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and file.is_file()):
        return given
    checkpoint = Path(file.read_text()) / "last_model.pth"
    if not checkpoint.is_file():
        return given
    return {name: value for name, value in given.items() if name != "start_from"} | {"resume": checkpoint}


def _restart_file() -> Path:
    """Remembers the run folder from one start by torchrun to the next: its job's id, or else its process's."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return Path("logs") / f".torchrun-{job if job != 'none' else os.getppid()}"


def _fresh_folder(parent: Path) -> Path:
    """Name a folder by the second; two runs started in the same second get different names."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, count = parent / stamp, 1
    while folder.exists():
        folder, count = parent / f"{stamp}-{count}", count + 1
    return folder


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write every resolved option to config.yaml, which `--config` reads back; not those that name this very run."""
    kept = {name: value for name, value in values.items() if name not in THIS_RUN}
    if parallel.is_main():
        write_text(folder / "config.yaml", yaml.safe_dump(kept, sort_keys=False))


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json."""
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")


def code_version() -> str:
    """The version, with the commit when the code runs from a git checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # there is no git on this machine
        commit = ""
    return f"{vgbench.__version__}+{commit}" if commit else vgbench.__version__


def seed(value: int) -> None:
    """Seed every global generator for the set-up; each round of training seeds again by its place in the run."""
    seed_everything(value, "set-up")


def describe_machine(runtime: Runtime) -> str:
    """One line on the hardware and software that produced the figures."""
    device = torch.cuda.get_device_name() if runtime.device.type == "cuda" else platform.processor() or "CPU"
    precision = str(runtime.amp_dtype).removeprefix("torch.") if runtime.amp_dtype else "float32"
    memory = "channels_last" if runtime.channels_last else "contiguous"
    return f"{device}, {torch.get_num_threads()} threads, {precision}, {memory}, torch {torch.__version__}"


def describe_network(network: Network, size: tuple[int, int]) -> str:
    """One line on what a network is and costs: parameters, FLOPs of one image at `size`, descriptor dimensions."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return (
        f"{network.name}, {parameters / 1e6:.2f} M parameters "
        f"({trained / 1e6:.2f} M trained), {count_flops(network, size) / 1e9:.2f} GFLOPs an image of "
        f"{size[0]}x{size[1]}, {network.descriptors_dim} descriptor dimensions"
    )


def database_for_clusters(root: Path, test_split: Split, options: DataOptions) -> ImageTable:
    """The images that NetVLAD's clusters are computed on: train's, and the test database's where there is no train."""
    folder = root / "images" / "train" / "database"
    if not folder.is_dir():
        LOG.warning("%s has no train split: NetVLAD's clusters come from the test database", root)
        return test_split.database
    return check_images(read_folder(folder), options.on_bad_image, options.num_workers)


def method_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The image size that a released network wants, as defaults; nothing where none was asked for."""
    method = given.get("method")
    return {} if method is None else {"resize": release_of(method).size}


def initialise_clusters(network: Network, table: ImageTable, options: DataOptions, seed: int, runtime: Runtime) -> None:
    """Put the clusters of a NetVLAD layer, where the network has one, on local features of images of `table`."""
    if netvlad_of(network) is None or "method" in network.config:
        return
    parallel.on_main(lambda: _cluster(network, table, options, seed, runtime))
    parallel.copy_from_main(network)


def _cluster(network: Network, table: ImageTable, options: DataOptions, seed: int, runtime: Runtime) -> None:
    LOG.info("NetVLAD: k-means over local features of %d images", min(CLUSTERING_IMAGES, len(table)))
    rows = numpy_stream(seed, "clusters").permutation(len(table))[:CLUSTERING_IMAGES].astype(np.int64)
    loader = image_loader(table, rows, size=options.resize, batch_size=16, num_workers=options.num_workers)
    initialise_netvlad(network, (images for images, _ in loader), seed, runtime)


def test(
    network: Network,
    split: Split,
    settings: Any,
    options: Mapping[str, Any],
    runtime: Runtime,
    folder: Path,
    descriptors: Path | None = None,
    confidence: Calibrated | None = None,
) -> dict[str, Any]:
    """The end of every run: test the network, print the recalls, write results (returned), predictions and report."""
    descriptors = descriptors or folder / "descriptors"
    check_report(settings.report, predictions_needed(settings.evaluation.recall_values, settings.rerank))
    found = pipeline_of(network, settings, runtime).evaluate(split, descriptors)
    started = time.perf_counter()
    findings = find(
        split, found.predictions, found.neighbours, settings.evaluation, found.threshold, confidence
    )  # fmt: skip
    results = results_of(found, network, split, options) | findings.facts
    if not parallel.is_main():
        return results
    found.predictions.save(folder / "predictions.h5", found.fingerprint)
    history = read_history(folder / METRICS)
    tested = Tested(network, settings.data.resize, runtime, split, found, findings, results, history)
    report = write_outputs(folder, tested, settings.report, descriptors)
    results["seconds"]["report"] = round(time.perf_counter() - started, 3)
    write_results(folder, results)
    if found.recalls:
        LOG.info("%s", recall_table(results))
    if found.rerank and found.recalls:
        LOG.info("%s", steps_table(found.rerank))
    for line in findings_lines(findings.facts):
        LOG.info("%s", line)
    LOG.info("report: %s", report)
    return results


def pipeline_of(network: Network, settings: Any, runtime: Runtime) -> Pipeline:
    """How the settings make predictions with a network."""
    return Pipeline(network, settings.data, settings.evaluation, settings.rerank, runtime)


def learn_confidence(network: Network, val: Split, settings: Any, runtime: Runtime, folder: Path) -> Calibrated | None:
    """Learn on val how likely a match is right, keep it in the run's folder and return it; None for other queries."""
    pipeline = pipeline_of(network, settings, runtime)
    described = folder / "descriptors" / "confidence"
    learned = calibrated.learn(pipeline, val, described, "the val split")
    parallel.on_main(lambda: shutil.rmtree(described, ignore_errors=True))
    if learned is not None and parallel.is_main():
        calibrated.save(folder / calibrated.FILE, learned, pipeline)
    return learned if settings.data.queries_folder == "queries" else None


def results_of(found: Evaluation, network: Network, split: Split, options: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json holds."""
    return {
        "dataset": split.root.name,
        "split": split.name,
        "queries_folder": split.queries.root.name,
        "network": network.config,
        "descriptors_dim": found.descriptors_dim,
        "recalls": {
            f"{threshold:g}": {str(n): round(percent, 3) for n, percent in recalls.items()}
            for threshold, recalls in found.recalls.items()
        },
        "rerank": [step.as_json() for step in found.rerank],
        "compression": found.compression,
        "queries": len(split.queries),
        "database": len(split.database),
        "queries_without_positives": found.queries_without_positives,
        "seconds": {stage: round(seconds, 3) for stage, seconds in found.seconds.items()},
        "images_per_second": round(found.images_per_s, 1),
        "options": dict(options),
        "version": code_version(),
    }
