"""What a training and a test hand back to whoever called them from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgbench.data import Neighbours, Split
from vgbench.models import Network
from vgbench.retrieval import Predictions


@dataclass(frozen=True)
class EvalResult:
    """What a test found.

    Attributes:
        folder: the run's folder, with results.json, predictions.h5 and report.html.
        recalls: threshold in metres -> N -> R@N in percent; empty where the queries have no coordinates.
        threshold: the one that counts, metres.
        predictions: `indices` int64 [Q,K] and `distances` float32 [Q,K], best first, after re-ranking.
        neighbours: threshold in metres -> each query's positives; empty as `recalls` is.
        split: the database and the queries, whose rows `predictions` is about.
        network: in its last state, on the run's device.
        facts: everything that results.json holds.
        query_sets: of several `--queries_folder` the result of each, the first of which this one repeats.
    """

    folder: Path
    recalls: Mapping[float, Mapping[int, float]]
    threshold: float
    predictions: Predictions
    neighbours: Mapping[float, Neighbours]
    split: Split
    network: Network
    facts: Mapping[str, Any]
    query_sets: tuple[EvalResult, ...] = ()

    def recall(self, n: int = 1) -> float:
        """Return R@n within the threshold that counts, percent; raises KeyError if n is none of `recall_values`."""
        return self.recalls[self.threshold][n]


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        folder: the run's folder.
        best: the checkpoint of the best epoch, best_model.pth.
        best_epoch: that epoch, from 0.
        val: N -> R@N on the val split in that epoch, percent.
        epochs: epochs that were trained.
        steps: optimiser steps.
        stopped_early: whether R@5 on val stopped improving before `epochs_num`.
        seconds: time spent, over all the run's interruptions.
        test: the best checkpoint, tested on the test split.
    """

    folder: Path
    best: Path
    best_epoch: int
    val: Mapping[int, float]
    epochs: int
    steps: int
    stopped_early: bool
    seconds: float
    test: EvalResult
