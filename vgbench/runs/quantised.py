"""8 bits on request: which images calibrate, and what the recall loses by it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vgbench import parallel
from vgbench.data import Split, neighbours_within, train_root
from vgbench.data.decode import decode_image
from vgbench.data.loader import stack_images
from vgbench.data.splits import read_checked_split, spread
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.backends.openvino import check_int8
from vgbench.retrieval.extraction.extract import describe_rows
from vgbench.retrieval.extraction.store import InMemory
from vgbench.retrieval.metrics.recall import hits
from vgbench.retrieval.searching.exact import search
from vgbench.runs.settings import EvalSettings
from vgbench.runs.training import inference_of
from vgbench.runtime import Runtime

LOG = logging.getLogger("vgbench")

QUERIES, DATABASE = 200, 2000  # what recalls are compared on, at most


def with_calibration(settings: EvalSettings, runtime: Runtime) -> Runtime:
    """Return the runtime with images that calibrate, where 8 bits are asked for: of the train split's database.

    Raises:
        UserError: there is no train split, or what quantises is not installed.
    """
    if not settings.quantisation.openvino_int8:
        return runtime
    check_int8()
    root = train_root(settings.data)
    try:
        database = read_checked_split(settings.data, root, "train").database
    except UserError as error:
        raise UserError(f"--openvino_int8: calibrates on {root.name}'s train database ({error})") from error
    chosen = spread(len(database), settings.quantisation.calibration_images)
    images = stack_images([decode_image(database.path(int(row)), settings.data.resize) for row in chosen])
    LOG.info("int8: calibrates on %d database images of %s", len(images), database.root)
    return dataclasses.replace(runtime, calibration=images)


def what_is_lost(network: Network, split: Split, settings: EvalSettings, runtime: Runtime) -> dict[str, Any]:
    """Log R@1 and R@5 in 8 bits beside those without, on up to 200 queries among up to 2,000 database images.

    Returns:
        the same for results.json, recalls in percent; {} where nothing is in 8 bits.
    """
    if runtime.calibration is None or not parallel.is_main():
        return {}
    near = float(settings.data.val_positive_dist_threshold)
    queries = split.queries.select(spread(len(split.queries), QUERIES))
    positives = neighbours_within(queries.utm, split.database.utm, near).indices
    others = spread(len(split.database), DATABASE)
    database = split.database.select(np.union1d(positives, others))
    small = dataclasses.replace(split, queries=queries, database=database)
    exact = _recalls(network, small, settings, dataclasses.replace(runtime, calibration=None), near)
    coded = _recalls(network, small, settings, runtime, near)
    LOG.info(
        "int8: R@1 %.1f -> %.1f (%+.1f), R@5 %.1f -> %.1f (%+.1f) on %d queries among %d database images",
        exact[0], coded[0], coded[0] - exact[0], exact[1], coded[1], coded[1] - exact[1], len(queries), len(database),
    )  # fmt: skip
    without, with_int8 = (dict(zip(("1", "5"), (round(r, 3) for r in one), strict=True)) for one in (exact, coded))
    return {"recalls": with_int8, "without": without, "queries": len(queries), "database": len(database)}


def _recalls(
    network: Network, split: Split, settings: EvalSettings, runtime: Runtime, near: float
) -> tuple[float, float]:
    """Return R@1 and R@5 in percent of the queries with a positive."""
    inference = inference_of(settings, runtime)
    queries, database = (
        describe_rows(network, table, np.arange(len(table), dtype=np.int64), inference)
        for table in (split.queries, split.database)
    )
    return recalls_at_1_and_5(queries, database, split, near)


def recalls_at_1_and_5(queries: Tensor, database: Tensor, split: Split, near: float) -> tuple[float, float]:
    """Return R@1 and R@5, percent, of descriptors float32 [Q,D] and [N,D]; queries without a positive are left out."""
    truth = neighbours_within(split.queries.utm, split.database.utm, near)
    nearest = search(InMemory(database, Path("database")), InMemory(queries, Path("queries")), 5).indices
    found = hits(nearest, truth)[truth.counts > 0]
    return (100 * float(found[:, 0].mean()), 100 * float(found.any(axis=1).mean())) if len(found) else (0.0, 0.0)
