"""Evaluation of a split from images to recalls."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from locations import CONFORMANCE, PHOTOGRAPHS
from numbers_by_rule import weights_of

from vgbench.data import Split, read_split
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.retrieval import EvalOptions, Evaluation, evaluate, evaluation
from vgbench.retrieval.adaptive.stage import Reranking
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.searching import exact
from vgbench.runtime import Inference

Make = Callable[..., Any]


def run(
    network: Any, split: Split, folder: Path, thresholds: tuple[float, ...] = (25.0,), **options: Any
) -> Evaluation:
    return evaluate(
        network,
        split,
        EvalOptions(**options),
        Inference((30, 40), options.get("infer_batch_size", 16)),
        folder,
        thresholds=thresholds,
    )


def test_twins_are_found_and_counted(tmp_path: Path, split: Split, make_network: Make) -> None:
    found = run(make_network(), split, tmp_path / "descriptors", recall_values=(1, 2), infer_batch_size=4)
    assert found.predictions.indices[:, 0].tolist() == [0, 1, 2, 3]
    assert found.recalls == {25.0: {1: 100.0, 2: 100.0}}
    assert found.predictions.indices.shape == (4, 2)
    assert (found.queries_without_positives, found.descriptors_dim) == (0, 6)
    assert found.images_per_s > 0
    assert set(found.seconds) == {"extract_database", "extract_queries", "search", "metrics"}
    names = [p.name.rpartition("-")[0] for p in sorted((tmp_path / "descriptors").iterdir())]
    assert names == ["tiny_city_test_database", "tiny_city_test_queries"]
    json.dumps([found.recalls, found.seconds, found.images_per_s, found.queries_without_positives])


def test_thresholds_of_one_call_and_reuse_by_the_next(tmp_path: Path, split: Split, make_network: Make) -> None:
    first = run(make_network(), split, tmp_path, thresholds=(1.0, 25.0), recall_values=(1,))
    assert first.recalls == {1.0: {1: 0.0}, 25.0: {1: 100.0}}
    assert first.queries_without_positives == 4  # at the first threshold; they are misses
    assert {t: n.counts.tolist() for t, n in first.neighbours.items()} == {1.0: [0] * 4, 25.0: [1] * 4}
    second = run(make_network(), split, tmp_path, threshold=(110.0, 3.0), recall_values=(1, 5))
    assert second.images_per_s == 0  # all descriptors were there
    assert list(second.recalls) == [110.0, 3.0]
    assert second.recalls[3.0][1] == 100.0
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.predictions.indices[:, :1], first.predictions.indices)


def test_efficient_ram_testing_reads_smaller_blocks(
    tmp_path: Path, split: Split, make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    real = Descriptors.blocks

    def spy(self: Descriptors, rows: int, *rest: Any, **named: Any) -> Any:
        used.append(rows)
        return real(self, rows, *rest, **named)

    monkeypatch.setattr(Descriptors, "blocks", spy)
    monkeypatch.setattr("vgbench.retrieval.searching.exact.fits", lambda *_: False)  # so few rows are read at once
    usual = run(make_network(), split, tmp_path)
    frugal = run(make_network(), split, tmp_path, efficient_ram_testing=True)
    row_bytes = usual.descriptors_dim * 4
    assert used == [exact.BLOCK_BYTES // row_bytes, exact.BLOCK_BYTES // 4 // row_bytes]
    np.testing.assert_array_equal(usual.predictions.indices, frugal.predictions.indices)


def test_both_backends_and_dtypes_agree(tmp_path: Path, split: Split, make_network: Make) -> None:
    pytest.importorskip("faiss")
    results = [
        run(make_network(), split, tmp_path, search_backend=backend, descriptors_dtype=dtype)
        for backend in ("torch", "faiss")
        for dtype in ("float32", "float16")
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result.predictions.indices, results[0].predictions.indices)


def with_train(split: Split) -> Split:
    """The same split, in a dataset whose train database is its test database once more."""
    train = split.root / "images" / "train" / "database"
    shutil.copytree(split.database.root, train)
    return split


def test_pca_is_fitted_to_the_train_database_once_and_reported(
    tmp_path: Path, split: Split, make_network: Make
) -> None:
    folder = tmp_path / "d"
    found = run(make_network(), with_train(split), folder, pca_dim=3, recall_values=(1, 2))
    assert found.descriptors_dim == 3
    assert found.compression["bytes_per_image"] == 12
    assert found.compression["bytes_per_image_float32"] == 24
    assert set(found.compression["recall_lost"]) == {"1", "2"}
    json.dumps(found.compression)
    [kept] = folder.glob("pca3-*.h5")
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = run(make_network(), split, folder, pca_dim=3, recall_values=(1, 2))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made
    by_file = run(make_network(), split, folder, pca_file=kept, recall_values=(1, 2))
    named = run(make_network(), split, folder, pca_dim=3, pca_dataset_folder="tiny_city/images/train/database")
    for other in (again, by_file, named):
        np.testing.assert_array_equal(other.predictions.indices[:, :2], found.predictions.indices)


def test_the_inference_form_is_made_once_for_all_tables(
    tmp_path: Path, split: Split, make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = evaluation.form_of
    monkeypatch.setattr(evaluation, "form_of", lambda *args: made.append(args) or real(*args))
    network = make_network()
    first = run(network, with_train(split), tmp_path, pca_dim=3, recall_values=(1,))
    assert len(made) == 1  # for the database, the queries and what the PCA is fitted to
    run(network, split, tmp_path, pca_dim=3, recall_values=(1,))
    assert len(made) == 1  # nothing was described
    with torch.no_grad():
        next(network.parameters()).mul_(-1)
    other = run(network, split, tmp_path, recall_values=(1,))
    assert len(made) == 2 and other.fingerprint != first.fingerprint
    assert made[1][0] is network


def test_without_a_train_database_the_folder_is_asked_for(tmp_path: Path, split: Split, make_network: Make) -> None:
    with pytest.raises(UserError, match="--pca_dataset_folder"):
        run(make_network(), split, tmp_path / "d", pca_dim=3)
    assert not (tmp_path / "d").exists()


def test_float16_is_compared_with_what_float32_gave(tmp_path: Path, split: Split, make_network: Make) -> None:
    alone = run(make_network(), split, tmp_path, descriptors_dtype="float16").compression
    assert alone["bytes_saved_percent"] == 50
    assert "recall_lost" not in alone  # nothing is there to compare with
    run(make_network(), split, tmp_path)
    compared = run(make_network(), split, tmp_path, descriptors_dtype="float16").compression
    assert compared["identical_top1_percent"] == 100
    assert compared["recall_lost"]["1"] == 0


def test_nothing_is_compared_where_nothing_is_lost(tmp_path: Path, split: Split, make_network: Make) -> None:
    assert run(make_network(), split, tmp_path).compression == {}


@pytest.mark.parametrize("method", ["nearest_crop", "maj_voting", "five_crops", "flip", "single_query"])
def test_every_method_evaluates(tmp_path: Path, split: Split, make_network: Make, method: str) -> None:
    pytest.importorskip("faiss")
    options: dict[str, Any] = {"test_method": method, "recall_values": (1, 3)}
    plain = run(make_network(), split, tmp_path, **options)
    assert plain.predictions.indices.shape == (4, 3)
    refined = run(make_network(), split, tmp_path, **options, quantise="binary", refine=11)
    np.testing.assert_array_equal(refined.predictions.indices, plain.predictions.indices)
    assert refined.compression["identical_top1_percent"] == 100


def test_an_absent_backend_is_refused_before_extraction(
    tmp_path: Path, split: Split, make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "vgbench.retrieval.searching.finder_faiss", raising=False)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match="--search_backend torch"):
        run(make_network(), split, tmp_path / "d", search_backend="faiss")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recall_values": (0, 5)}, "--recall_values"),
        ({"recall_values": ()}, "--recall_values"),
        ({"threshold": (-1.0,)}, "--threshold"),
        ({"infer_batch_size": 0}, "--infer_batch_size"),
        ({"test_method": "soft_resize"}, "test method 'soft_resize' is not known"),
        ({"search_backend": "fais"}, "Did you mean faiss"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, split: Split, make_network: Make, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(make_network(), split, tmp_path / "d", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "d").exists()


def test_no_queries(tmp_path: Path, split: Split, make_network: Make) -> None:
    empty = dataclasses.replace(split, queries=split.queries.select(np.array([], dtype=np.int64)))
    with pytest.raises(UserError, match="no queries"):
        run(make_network(), empty, tmp_path / "d")


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not here")
@pytest.mark.parametrize("dataset", ["cambridge", "gardens_point"])
@pytest.mark.parametrize(
    "method", ["hard_resize", "single_query", "central_crop", "five_crops", "nearest_crop", "maj_voting"]
)
def test_methods_agree_with_the_reference_within_two_queries(
    tmp_path_factory: pytest.TempPathFactory, dataset: str, method: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / dataset  # the database's descriptors are the same for every method
    reference = torch.load(CONFORMANCE / "network_resnet18conv4_netvlad.pt", weights_only=True)
    network = build_network(**{**reference["config"], "pretrain": None})
    network.load_state_dict(weights_of({key: value.shape for key, value in network.state_dict().items()}))
    wanted = json.loads((CONFORMANCE / f"eval_{dataset}_test.json").read_text())
    split = read_split(PHOTOGRAPHS / dataset, "test")
    found = evaluate(
        network, split, EvalOptions(recall_values=tuple(wanted["recall_values"]), test_method=method),
        Inference(tuple(wanted["resize"]), num_workers=2), folder,
    )  # fmt: skip
    recalls, expected = list(found.recalls[25.0].values()), wanted["recalls"][method]
    print(f"\n{dataset} {method}: {np.round(recalls, 1)}, reference {np.round(expected, 1)}")
    differences = np.array(recalls) - expected
    assert np.abs(differences * len(split.queries) / 100).max() < 2.01


def test_rerankers_that_search_again_have_the_searchs_backend_and_blocks(
    tmp_path: Path, split: Split, make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    asked: list[tuple[Any, int]] = []
    plain = exact.search_rows

    def watched(database: Any, queries: Any, k: int, backend: Any, runtime: Any, block_bytes: int, *rest: Any) -> Any:
        asked.append((backend, block_bytes))
        return plain(database, queries, k, "torch", runtime, block_bytes, *rest)

    monkeypatch.setattr(exact, "search_rows", watched)
    monkeypatch.setattr(exact, "search_rows", watched)
    options = EvalOptions(search_backend="faiss", efficient_ram_testing=True, recall_values=(1,))
    evaluate(
        make_network(), split, options, Inference((30, 40)), tmp_path,
        reranking=Reranking(RerankOptions(rerank=("aqe", "diffusion"), aqe_k=1)),
    )  # fmt: skip
    backends = {getattr(backend, "__name__", str(backend)).lower() for backend, _ in asked}
    assert len(asked) >= 3 and len(backends) == 1 and "faiss" in backends.pop()
    assert {block_bytes for _, block_bytes in asked} == {exact.BLOCK_BYTES // 4}
