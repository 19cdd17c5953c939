"""Where the gate of adaptive re-ranking comes from: given, or learned on val and kept beside the descriptors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

from vgbench import parallel
from vgbench.data import dataset_root
from vgbench.data.protocol import Split
from vgbench.data.splits import read_checked_split, spread
from vgbench.errors import UserError, in_short
from vgbench.files import write_text
from vgbench.retrieval.adaptive import LEARNED
from vgbench.retrieval.adaptive.gate import Gate, best_limit, certainty_of, learned_from
from vgbench.retrieval.pipeline import Pipeline
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runs.confidence import facts_of

LOG = logging.getLogger(__name__)


def with_gate(pipeline: Pipeline, folder: Path) -> Pipeline:
    """Return a pipeline that re-ranks the queries that `--rerank_when` says; the same where it says nothing.

    Args:
        folder: of descriptors, where what was learned is kept too, and found again by its fingerprint.

    Raises:
        UserError: there is no val split to learn from.
    """
    options = pipeline.reranking
    if options.rerank_when is None or not options.names:
        return pipeline
    if options.rerank_when != LEARNED and options.rerank_below is not None:
        return dataclasses.replace(pipeline, gate=Gate(options.rerank_when, options.rerank_below, "--rerank_below"))
    val = _val_of(pipeline)
    path = folder / f"gate-{_fingerprint(pipeline, val)[:12]}.json"
    gate = _kept(path)
    if gate is None:
        gate = _learn(pipeline, val, folder)
        content = json.dumps(gate.as_json(), indent=2) + "\n"
        parallel.on_main(lambda: write_text(path, content))
        LOG.info("gate: learned from %s; kept in %s", gate.source, path)
    else:
        LOG.info("gate: %s, learned from %s", path, gate.source)
    return dataclasses.replace(pipeline, gate=gate)


def _val_of(pipeline: Pipeline) -> Split:
    """Return the val split that the gate is learned on, with up to `--gate_queries` of its queries."""
    options = pipeline.reranking
    name = options.gate_dataset_name or pipeline.data.dataset_name
    data = dataclasses.replace(pipeline.data, dataset_name=name, queries_folder=("queries",))
    try:
        val = read_checked_split(data, dataset_root(data), "val", rules=pipeline.rules)
    except UserError as error:
        raise UserError(
            f"--rerank_when {options.rerank_when}: is learned on the val split of {name} ({error}). Expected "
            "--gate_dataset_name with a dataset that has one, or --rerank_below with an estimator"
        ) from error
    return dataclasses.replace(val, queries=val.queries.select(spread(len(val.queries), options.gate_queries)))


def _fingerprint(pipeline: Pipeline, val: Split) -> str:
    """Return the sha256 (hex) of everything that a gate depends on; the dataset that is tested is not."""
    # Which images val has says more than its name.
    facts = {**facts_of(pipeline), "dataset": [val.database.fingerprint(), val.queries.fingerprint()]}
    facts.pop("gate_dataset_name", None)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _learn(pipeline: Pipeline, val: Split, folder: Path) -> Gate:
    """Test val, all of its queries re-ranked where the limit is to be chosen, and learn from that."""
    options = pipeline.reranking
    estimator, below = str(options.rerank_when), options.rerank_below
    chain = options if below is None else _search_alone(options)
    LOG.info("gate: %d queries of %s are tested%s", len(val.queries), val.root, " and re-ranked" * (below is None))
    found = dataclasses.replace(pipeline, reranking=chain, gate=None).evaluate(val, folder).judged
    source = f"{val.root.name}'s val split, {len(val.queries):,} queries"
    if found is None or found.before is None or found.after is None:
        raise UserError(f"{val.root}: nobody knows which matches of val are right. Expected coordinates in the names")
    names, model = learned_from(found.scores, found.before) if estimator == LEARNED else ((), None)
    if below is not None:
        return Gate(estimator, below, source, names, model)
    limit, recalls = best_limit(certainty_of(estimator, found.scores, names, model), found.before, found.after)
    return Gate(estimator, limit, source, names, model, recalls)


def _search_alone(options: RerankOptions) -> RerankOptions:
    """Return the same estimators without re-rankers."""
    return dataclasses.replace(options, rerank=None, rerank_args=None, rerank_when=None, rerank_below=None)


def _kept(path: Path) -> Gate | None:
    """Return the gate that an earlier run kept, None where there is none."""
    try:
        return Gate.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        LOG.warning("%s: damaged (%s); the gate is learned again", path, in_short(error))
        return None
