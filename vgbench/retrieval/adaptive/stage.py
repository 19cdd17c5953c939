"""Re-ranking as a stage of a test: how sure the search is, which queries are re-ranked, and what that did."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError, in_short
from vgbench.models.network import Network
from vgbench.retrieval.adaptive import ESTIMATORS
from vgbench.retrieval.adaptive.estimators import SUE_NEIGHBOURS
from vgbench.retrieval.adaptive.gate import Gate, Scores
from vgbench.retrieval.adaptive.judged import uncertainty_facts
from vgbench.retrieval.metrics.recall import NeighbourRows, hits
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.chain import RerankStep, check_rerankers, predictions_needed, rerank
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.sequence.reranker import SequenceReranker
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reranking:
    """What a test does to the search's predictions.

    Attributes:
        options: the re-rankers, and the estimators of how sure the search is.
        gate: which queries are re-ranked; None for all.
    """

    options: RerankOptions
    gate: Gate | None = None

    def predictions_needed(self, recall_values: Sequence[int]) -> int:
        """How many predictions per query the search must return; `kept` of them are handed on."""
        return max(self.kept(recall_values), SUE_NEIGHBOURS if "sue" in self.options.estimators else 1)

    def kept(self, recall_values: Sequence[int]) -> int:
        """How many predictions per query are left in the end."""
        return predictions_needed(recall_values, self.options)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the stage ends with.

    Attributes:
        predictions: the last re-ranker's.
        steps: of the chain.
        scores: estimator -> certainty of the search's best match, float64 [Q].
        before, after: bool [Q], whether the best match is right without and with the chain; None where nobody knows.
        facts: what results.json holds of how sure the search was, and of the gate.
    """

    predictions: Predictions
    steps: tuple[RerankStep, ...] = ()
    scores: Scores = field(default_factory=dict)
    before: NDArray[np.bool_] | None = None
    after: NDArray[np.bool_] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def check_stage(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
    """Raise UserError for an estimator or a re-ranker that cannot run, before anything is extracted."""
    check_rerankers(network, options, runtime)
    if options.sequence:
        SequenceReranker.check(network, options, runtime)
    ESTIMATORS.keywords_of_each("uncertainty", options.estimators, options.uncertainty_args)
    for name in options.estimators:
        ESTIMATORS.resolve(name)
    if "inliers" in options.estimators:
        from vgbench.retrieval.rerank.local.reranker import plans_of  # needs OpenCV

        plans_of(options, runtime)


def run(
    predictions: Predictions,
    context: RerankContext,
    reranking: Reranking,
    neighbours: Mapping[float, NeighbourRows],
    recall_values: Sequence[int],
) -> Outcome:
    """Find queries as frames, judge how sure the search is of each, and re-rank those that the gate lets through.

    Args:
        predictions: as many as `Reranking.predictions_needed`.
        neighbours: threshold -> positives, the one that counts first; empty where nobody knows.

    Raises:
        UserError: an estimator or a re-ranker cannot run.
    """
    steps: list[RerankStep] = []
    options = reranking.options
    if options.sequence:
        as_frames = [(f"{options.sequence} of {options.seq_length} frames", SequenceReranker())]
        predictions, steps = rerank(predictions, context, neighbours, recall_values, methods=as_frames)
    started = time.perf_counter()
    scores = {name: _scores(name, predictions, context) for name in options.estimators}
    judging_s = time.perf_counter() - started
    predictions = predictions.first(reranking.kept(recall_values))
    gate = reranking.gate
    certainty = None if gate is None else gate.certainty(scores)
    chosen = None if gate is None or certainty is None else np.flatnonzero(certainty < gate.below)
    before = _right(predictions, neighbours)
    chain: list[RerankStep] = []
    if options.names:
        predictions, chain = rerank(predictions, context, neighbours, recall_values, chosen)
    after = _right(predictions, neighbours)
    facts = uncertainty_facts(scores, before, after if chain and chosen is None else None, gate)
    if gate is not None and chosen is not None:
        facts["gate"] = _gate_facts(gate, len(chosen), len(predictions), chain, judging_s)
        if before is not None and after is not None:
            facts["gate"] |= {"recall_at_1": [round(100 * float(one.mean()), 3) for one in (before, after)]}
        LOG.info("%s", gate_line(facts["gate"]))
    return Outcome(predictions, (*steps, *chain), scores, before, after, facts)


def _scores(name: str, predictions: Predictions, context: RerankContext) -> NDArray[np.float64]:
    options = context.options
    keywords = ESTIMATORS.keywords_of_each("uncertainty", options.estimators, options.uncertainty_args)[name]
    estimator = ESTIMATORS.resolve(name)
    try:
        found = np.asarray(estimator(predictions, context, **keywords), np.float64)
    except UserError:
        raise
    except Exception as error:
        if ":" not in name:
            raise
        raise UserError(
            f"--uncertainty {name}: fails ({in_short(error)}). Expected a function of (predictions, context)"
        ) from error
    if found.shape != (len(predictions),):
        raise UserError(
            f"--uncertainty {name}: returned {list(found.shape)} for {len(predictions)} queries. Expected a number each"
        )
    return found


def _right(predictions: Predictions, neighbours: Mapping[float, NeighbourRows]) -> NDArray[np.bool_] | None:
    if not neighbours:
        return None
    return hits(predictions.indices[:, :1], next(iter(neighbours.values())))[:, 0]


def _gate_facts(gate: Gate, chosen: int, queries: int, steps: Sequence[RerankStep], judging_s: float) -> dict[str, Any]:
    """What results.json holds of a gate: seconds of the re-rankers, and what the queries left out would have taken."""
    ms = sum(step.ms_per_query for step in steps)
    return {
        "estimator": gate.estimator,
        "below": gate.below,
        "source": gate.source,
        "queries": queries,
        "reranked": chosen,
        "share": round(100 * chosen / max(queries, 1), 3),
        "judging_s": round(judging_s, 3),
        "seconds": round(ms * chosen / 1e3, 3),
        # Nothing was re-ranked: nobody knows what a query takes.
        "seconds_saved": round(ms * (queries - chosen) / 1e3, 3) if chosen else None,
        "on_val": None if gate.on_val is None else dict(gate.on_val),
    }


def gate_line(facts: Mapping[str, Any]) -> str:
    """One line on what a gate did."""
    line = (
        f"re-ranked {facts['reranked']} of {facts['queries']} queries ({facts['share']:.1f}%): those whose certainty "
        f"by {facts['estimator']} is below {facts['below']:.4g} ({facts['source']}); {facts['seconds']:.1f} s"
    )
    if facts["seconds_saved"] is not None:
        line += f", {facts['seconds_saved']:.1f} s saved"
    if "recall_at_1" in facts:
        line += ", R@1 {:.1f} -> {:.1f}".format(*facts["recall_at_1"])
    if facts["on_val"]:
        val = facts["on_val"]
        line += (
            f" (on val {val['recall_none']:.1f} without, {val['recall_all']:.1f} with all, {val['recall']:.1f} with "
            f"{val['share']:.1f}%)"
        )
    return line
