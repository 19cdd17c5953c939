"""Where a gate comes from: given, or learned on val, kept, and taken up by whoever asks for the same."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_city import write_dataset

from vgbench.data import DataOptions, read_split
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.retrieval import EvalOptions
from vgbench.retrieval.pipeline import Pipeline
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runs.gate import with_gate
from vgbench.runtime import Runtime


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("datasets")
    write_dataset(folder / "city")
    data = DataOptions(datasets_folder=folder, dataset_name="city", resize=(64, 64), num_workers=0)
    network = build_network("efficientnet_lite0", "gem", "none")
    options = RerankOptions(rerank=("spatial",), rerank_topk=5, rerank_when="learned")
    return Pipeline(network, data, EvalOptions(recall_values=(1, 5)), options, Runtime())


def reranked_when(pipeline: Pipeline, **options: Any) -> Pipeline:
    return dataclasses.replace(pipeline, reranking=dataclasses.replace(pipeline.reranking, **options))


def test_learned_on_val_kept_and_found_again(
    pipeline: Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gated = with_gate(pipeline, tmp_path)
    gate = gated.gate
    assert gate is not None and gate.model is not None and gate.on_val is not None
    assert gate.names == ("distance", "pa", "sue")
    assert "city's val split, 16 queries" in gate.source
    [kept] = tmp_path.glob("gate-*.json")
    caplog.clear()  # what ran before in this process may have let INFO through
    with caplog.at_level(logging.INFO):
        assert with_gate(pipeline, tmp_path).gate == gate
    assert "gate: 16 queries" not in caplog.text
    named = with_gate(reranked_when(pipeline, gate_dataset_name="city"), tmp_path)
    assert named.gate == gate and len(list(tmp_path.glob("gate-*.json"))) == 1
    # What it says of val is what a test of val with it finds.
    data = pipeline.data
    val = read_split(data.datasets_folder / "city", "val")  # type: ignore[operator]
    found = gated.evaluate(val, tmp_path).judged
    assert found is not None and found.after is not None
    assert found.facts["gate"]["share"] == pytest.approx(gate.on_val["share"], abs=1e-3)
    assert 100 * np.mean(found.after) == pytest.approx(gate.on_val["recall"], abs=1e-3)
    kept.write_text("{}")
    assert with_gate(pipeline, tmp_path).gate == gate
    assert "the gate is learned again" in caplog.text
    with_gate(reranked_when(pipeline, uncertainty=("pa",)), tmp_path)
    assert len(list(tmp_path.glob("gate-*.json"))) == 2


def test_given_or_not_at_all(pipeline: Pipeline, tmp_path: Path) -> None:
    given = with_gate(reranked_when(pipeline, rerank_when="pa", rerank_below=0.25), tmp_path).gate
    assert given is not None and (given.estimator, given.below, given.model) == ("pa", 0.25, None)
    assert with_gate(reranked_when(pipeline, rerank_when=None), tmp_path).gate is None
    assert not list(tmp_path.iterdir())
    probability = with_gate(reranked_when(pipeline, rerank_below=0.5, gate_queries=7), tmp_path).gate
    assert probability is not None and probability.below == 0.5 and probability.on_val is None
    assert "7 queries" in probability.source


def test_a_dataset_without_val_needs_another(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--rerank_when learned: .*--gate_dataset_name") as caught:
        with_gate(reranked_when(pipeline, gate_dataset_name="village"), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("estimator", ["sue", "inliers"])
def test_an_estimator_alone_has_the_limit_that_is_best_on_val(
    pipeline: Pipeline, tmp_path: Path, estimator: str
) -> None:
    more: dict[str, Any] = {"uncertainty": (estimator,)}
    if estimator == "inliers":
        more |= {"local_features": ("orb",), "local_size": 128}
    gate = with_gate(reranked_when(pipeline, rerank_when=estimator, **more), tmp_path).gate
    assert gate is not None and gate.estimator == estimator and gate.model is None and gate.on_val is not None
    val = read_split(pipeline.data.datasets_folder / "city", "val")  # type: ignore[operator]
    found = reranked_when(pipeline, rerank_when=None, **more).evaluate(val, tmp_path).judged
    assert found is not None and found.before is not None and found.after is not None
    certainty = found.scores[estimator]
    # Every limit that tells queries apart, by trial.
    tried = []
    for limit in (-np.inf, *np.unique(certainty), np.inf):
        chosen = certainty < limit
        tried.append((float(np.where(chosen, found.after, found.before).mean()), -int(chosen.sum())))
    chosen = certainty < gate.below
    assert (float(np.where(chosen, found.after, found.before).mean()), -int(chosen.sum())) == max(tried)
    assert gate.on_val["recall"] == pytest.approx(100 * max(tried)[0], abs=1e-3)
