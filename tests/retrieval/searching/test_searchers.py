"""Codes and indices: against brute force where they are exact, by what they lose where they are not."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from locations import REPOSITORY

from vgbench.errors import UserError
from vgbench.retrieval import EvalOptions, Predictions, search
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.retrieval.searching.exact import PartialPredictions, make_searcher, merge_predictions, search_rows
from vgbench.runtime import Runtime

pytest.importorskip("faiss")
RUNTIME = Runtime()
K = 5


def clustered(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn((40, dim), generator=random)
    which = torch.randint(0, 40, (rows,), generator=random)
    return torch.nn.functional.normalize(centres[which] + 0.5 * torch.randn((rows, dim), generator=random), dim=1)


@pytest.fixture(params=[torch.float32, torch.float16])
def both(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Descriptors, Descriptors]:
    base = clustered(3000, 32)
    asked = torch.nn.functional.normalize(base[::60] + 0.02 * torch.randn(50, 32), dim=1)
    return (
        write_descriptors(tmp_path / "database.h5", base.to(request.param), "base"),
        write_descriptors(tmp_path / "queries.h5", asked.to(request.param), "asked"),
    )


def found(both: tuple[Descriptors, Descriptors], **options: Any) -> tuple[Predictions, Any]:
    searcher = make_searcher(both[0], EvalOptions(**options), RUNTIME)
    return searcher.search(both[1], K), searcher


def same_first(one: Predictions, other: Predictions) -> float:
    return float(np.mean(one.indices[:, 0] == other.indices[:, 0]))


@pytest.mark.parametrize(
    "options",
    [
        {"index": "ivf", "nlist": 20, "nprobe": 20},
        {"index": "hnsw", "ef_search": 3000},
        {"index": "ivfpq", "nlist": 20, "nprobe": 20, "pq_subvectors": 8, "refine": 600},
        {"index": "ivfpq", "nlist": 20, "nprobe": 20, "pq_subvectors": 8, "pq_bits": 4, "refine": 600},
        {"quantise": "pq", "refine": 600},
        {"quantise": "binary", "refine": 600},
    ],
)
def test_looking_everywhere_is_exact(both: tuple[Descriptors, Descriptors], options: dict[str, Any]) -> None:
    exact = search(*both, K)
    result, _ = found(both, **options)
    np.testing.assert_array_equal(result.indices, exact.indices)
    np.testing.assert_allclose(result.distances, exact.distances, atol=2e-3)


@pytest.mark.parametrize(
    ("options", "least", "size"),
    [
        ({"index": "ivf", "nlist": 20, "nprobe": 4}, 0.9, None),
        ({"index": "ivfpq", "nlist": 20, "nprobe": 4, "pq_subvectors": 16}, 0.9, 16 + 8),
        ({"index": "hnsw"}, 0.9, None),
        ({"quantise": "pq", "pq_subvectors": 16}, 0.8, 16),
        ({"quantise": "pq", "pq_subvectors": 16, "pq_bits": 4}, 0.5, 8),
        ({"quantise": "binary"}, 0.3, 4),
        ({"quantise": "binary", "refine": 20}, 0.9, 4),
    ],
)
def test_little_is_lost(
    both: tuple[Descriptors, Descriptors], options: dict[str, Any], least: float, size: float | None
) -> None:
    result, searcher = found(both, **options)
    assert same_first(result, search(*both, K)) >= least
    assert (np.diff(result.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == K for row in result.indices.tolist())
    if size is not None:
        assert searcher.bytes_per_image == size


def test_a_second_search_finds_what_the_first_one_built(both: tuple[Descriptors, Descriptors], tmp_path: Path) -> None:
    for options in (
        {"index": "ivf", "nlist": 20},
        {"index": "ivfpq", "nlist": 8},
        {"index": "hnsw"},
        {"quantise": "pq"},
    ):
        first, _ = found(both, **options)
        built = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        second, _ = found(both, **{**options, **({"nprobe": 32} if "index" in options else {})})
        assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == built
        np.testing.assert_array_equal(first.indices, second.indices)
    found(both, index="ivf", nlist=10)
    # Another index stands beside the first: its structure, its lists, and the checksum of both.
    assert len(list(tmp_path.iterdir())) == len(built) + 3


def test_cells_with_too_few_rows_are_made_up_for(both: tuple[Descriptors, Descriptors]) -> None:
    result, _ = found(both, index="ivf", nlist=1000, nprobe=1)
    assert (result.indices >= 0).all()
    assert np.isfinite(result.distances).all()


def test_codes_stream_in_blocks(both: tuple[Descriptors, Descriptors], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: found(both, quantise=name)[0] for name in ("pq", "binary")}
    monkeypatch.setattr(sys.modules["vgbench.retrieval.searching.codes"], "BLOCK_BYTES", 999)
    for name, result in whole.items():
        blocks, _ = found(both, quantise=name)
        np.testing.assert_array_equal(blocks.distances, result.distances)
        if name == "pq":  # Hamming distances are so often equal that which one is kept may differ
            np.testing.assert_array_equal(blocks.indices, result.indices)


def test_bits_tell_apart_what_is_nowhere_negative(tmp_path: Path) -> None:
    base = torch.rand(500, 37, generator=torch.Generator().manual_seed(0))
    with write_descriptors(tmp_path / "b.h5", base, "b") as database:
        result, searcher = found((database, InMemory(base[:20], tmp_path)), quantise="binary")
    assert searcher.bytes_per_image == 5
    assert result.indices[:, 0].tolist() == list(range(20))
    assert (result.distances[:, 0] == 0).all()


@pytest.mark.parametrize("edges", [[0, 3000], [0, 1, 2999, 3000], [0, 1000, 2000, 3000]])
@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_parts_of_the_database_merge_to_the_whole(
    both: tuple[Descriptors, Descriptors], edges: list[int], backend: str
) -> None:
    parts = [search_rows(*both, K, backend, rows=(start, stop)) for start, stop in itertools.pairwise(edges)]
    whole, merged = search(*both, K), merge_predictions(parts, K)
    np.testing.assert_array_equal(merged.indices, whole.indices)
    np.testing.assert_array_equal(merged.distances, whole.distances)


def test_merging_keeps_equal_distances_in_order_of_row() -> None:
    parts = [
        PartialPredictions(np.array([[7, 9]]), np.array([[1.0, 2.0]])),
        PartialPredictions(np.array([[3, 1]]), np.array([[1.0, 1.0 + 1e-12]])),
    ]
    assert merge_predictions(parts, 3).indices.tolist() == [[3, 7, 1]]


def test_rows_that_are_not_there(both: tuple[Descriptors, Descriptors]) -> None:
    for rows in ((5, 5), (-1, 3), (2990, 3001)):
        with pytest.raises(UserError, match="has no rows"):
            search_rows(*both, K, rows=rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": "tree"}, "--index tree"),
        ({"index": "ivf", "quantise": "pq"}, "--index ivf: brings its own codes"),
        ({"nprobe": 0}, "--nprobe 0"),
        ({"refine": -1}, "--refine -1"),
        ({"quantise": "ternary"}, "--quantise ternary"),
        ({"pq_bits": 5}, "--pq_bits 5"),
        ({"pca_dim": 0}, "--pca_dim 0"),
        ({"pca_file": Path("nowhere.h5")}, "--pca_file nowhere.h5"),
        ({"pca_dataset_folder": "x"}, "--pca_dataset_folder"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        EvalOptions(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": "ivf", "nlist": 4000}, "--nlist 4000: there are 3000"),
        ({"quantise": "pq", "pq_subvectors": 5}, "--pq_subvectors 5: does not divide the descriptors' 32 dimensions"),
        ({"index": "ivfpq", "pq_subvectors": 64}, "Expected a divisor, such as 8, 16, 32"),
    ],
)
def test_what_does_not_fit_the_database_is_refused(
    both: tuple[Descriptors, Descriptors], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        found(both, **options)


def test_too_few_images_for_a_codebook(tmp_path: Path) -> None:
    few = write_descriptors(tmp_path / "few.h5", clustered(100, 32), "few")
    with pytest.raises(UserError, match="--pq_bits 8: 100 database images are fewer than its 256 centroids"):
        make_searcher(few, EvalOptions(quantise="pq"), RUNTIME)
    make_searcher(few, EvalOptions(quantise="pq", pq_bits=4), RUNTIME)


def test_rows_and_samples_of_a_file(both: tuple[Descriptors, Descriptors]) -> None:
    database, rows = both[0], np.array([7, 2999, 0, 7])
    assert torch.equal(database.rows(rows), database.read()[rows])
    assert database.sample(10).shape == (10, 32)
    assert torch.equal(database.sample(9999), database.read().float())
    part = InMemory.of(database, rows)
    assert torch.equal(part.read(1, 3), database.read()[[2999, 0]])
    assert [block.shape for _, block in part.blocks(3)] == [(3, 32), (1, 32)]


def test_without_faiss_it_is_named(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["faiss"] = None
from vgbench.errors import UserError
from vgbench.retrieval import EvalOptions
from vgbench.retrieval.searching.exact import searcher_type
searcher_type(EvalOptions())
for options in ({"index": "ivf"}, {"quantise": "pq"}, {"quantise": "binary"}):
    try:
        searcher_type(EvalOptions(**options))
    except UserError as error:
        print("--index exact" in str(error) and chr(10) not in str(error))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"] * 3, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{"index": "ivf", "nlist": 20, "nprobe": 20}, {"search_backend": "faiss"}])
def test_a_gpu_gives_the_same(both: tuple[Descriptors, Descriptors], options: dict[str, Any]) -> None:
    searcher = make_searcher(both[0], EvalOptions(**options), dataclasses.replace(RUNTIME, device=torch.device("cuda")))
    np.testing.assert_array_equal(searcher.search(both[1], K).indices, search(*both, K).indices)


@pytest.mark.parametrize(
    "options",
    [
        {"index": "ivf", "refine": 4, "nlist": 7, "compare_queries": 5},
        {"index": "ivfpq", "pq_bits": 4, "pq_subvectors": 2},
        {"index": "hnsw", "hnsw_m": 8},
        {"quantise": "pq", "pq_bits": 4, "descriptors_dtype": "float16"},
        {"pca_dim": 8, "pca_whiten": False, "pca_dataset_folder": "a/images/train/database"},
        {"pca_dim": 8, "search_backend": "faiss", "efficient_ram_testing": True, "compare_queries": 5},
    ],
)
def test_the_same_options_search_all_descriptors_on_several_ranks(options):
    lossy = EvalOptions(infer_batch_size=3, recall_values=(1, 2), **options)
    plain = lossy.searching_all()
    assert lossy.searches_otherwise and not plain.searches_otherwise
    kept = ("descriptors_dtype", "search_backend", "efficient_ram_testing")
    wanted = {name: value for name, value in options.items() if name in kept}
    assert plain == EvalOptions(infer_batch_size=3, recall_values=(1, 2), **wanted)
    assert plain.searching_all() is plain


@pytest.mark.parametrize("lossy", [{"pca_dim": 8}, {"quantise": "binary"}, {"index": "hnsw"},
                                   {"descriptors_dtype": "float16"}])  # fmt: skip
def test_comparing_is_refused_where_nothing_is_lossy(lossy):
    with pytest.raises(UserError, match="--compare_queries 5: nothing is lossy"):
        EvalOptions(compare_queries=5)
    assert EvalOptions(compare_queries=5, **lossy).is_lossy


@pytest.mark.parametrize("options", [{"index": "ivf", "nlist": 20}, {"quantise": "binary"}, {"quantise": "pq"}])
def test_an_index_that_cannot_be_finished_leaves_nothing(
    both: tuple[Descriptors, Descriptors], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(index: Any, path: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def full_too(self: Any, descriptors: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vgbench.retrieval.searching.index.faiss.write_index", full)
    monkeypatch.setattr("vgbench.retrieval.searching.codes.BinaryCodes.encode", full_too)
    monkeypatch.setattr("vgbench.retrieval.searching.product.ProductCodes.encode", full_too)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        found(both, **options)
    assert not list(both[0].path.parent.glob("*.partial"))


def test_lists_that_the_disk_cannot_hold_are_refused(
    both: tuple[Descriptors, Descriptors], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vgbench.files.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"ivfdata: needs .* Expected space .* choose another --index"):
        found(both, index="ivf", nlist=10)
