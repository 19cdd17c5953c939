"""Search against a float64 brute force."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import REPOSITORY

from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.retrieval.searching import candidates, distinct, exact
from vgbench.retrieval.searching.candidates import _row_sums, squared_distances
from vgbench.retrieval.searching.distinct import distinct_rows
from vgbench.retrieval.searching.exact import search, search_rows
from vgbench.retrieval.searching.finder_torch import QueryBlock, Tile, TorchFinder, score_error, score_into
from vgbench.runtime import Runtime

BACKENDS = ["torch", "faiss"]


def brute_force(database: torch.Tensor, queries: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every pair in float64; np.argsort(stable) puts equal distances in the order of their index."""
    base, asked = database.double().numpy(), queries.double().numpy()
    squared = np.stack([((base - query) ** 2).sum(axis=1) for query in asked])
    indices = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return indices, np.sqrt(np.take_along_axis(squared, indices, axis=1))


def stored(folder: Path, name: str, values: torch.Tensor) -> Descriptors:
    return write_descriptors(folder / f"{name}.h5", values, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 300),
    queries=st.integers(1, 9),
    dim=st.integers(1, 20),
    k=st.integers(1, 40),
    block_bytes=st.sampled_from([1, 700, 5_000, 10**6]),
    dtype=st.sampled_from([torch.float16, torch.float32]),
    kind=st.sampled_from(["few integers", "normal", "one cluster", "duplicates", "constant"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_same_indices_as_float64_brute_force(
    folder: Path, backend: str, rows: int, queries: int, dim: int, k: int,
    block_bytes: int, dtype: torch.dtype, kind: str, seed: int,
) -> None:  # fmt: skip
    if backend == "faiss":
        pytest.importorskip("faiss")
    random = torch.Generator().manual_seed(seed)

    def draw(count: int) -> torch.Tensor:
        if kind == "few integers":  # many exact ties between different vectors
            return torch.randint(-1, 2, (count, dim), generator=random).to(dtype)
        if kind == "constant":
            return torch.full((count, dim), 0.3).to(dtype)
        values = torch.randn((count, dim), generator=random)
        if kind == "one cluster":  # float32 scores cannot tell these apart
            values = 1 + values * 1e-4
        if kind == "duplicates":
            values = values[torch.randint(0, max(1, count // 10), (count,), generator=random)]
        return torch.nn.functional.normalize(values, dim=1).to(dtype)

    base, asked = draw(rows), draw(queries)
    with stored(folder, "database", base) as database, stored(folder, "queries", asked) as query_file:
        found = search(database, query_file, k, backend, block_bytes=block_bytes)
    indices, distances = brute_force(base, asked, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6, atol=1e-7)
    assert found.indices.dtype == np.int64
    assert found.distances.dtype == np.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("spread", [1.0, 0.1, 0.0])
def test_few_rows_are_searched_to_the_same_bits_as_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, spread: float
) -> None:
    random = torch.Generator().manual_seed(1)
    base, asked = (1 + spread * torch.randn((count, 96), generator=random) for count in (500, 40))
    answered: list[bool] = []

    def noting(*arguments: Any) -> Any:
        found = candidates.nearest_of_few(*arguments)
        answered.append(found is not None)
        return found

    monkeypatch.setattr(exact, "nearest_of_few", noting)
    with stored(tmp_path, "few", base.to(dtype)) as database, stored(tmp_path, "few_q", asked.to(dtype)) as queries:
        at_once = search_rows(database, queries, 20, rows=(100, 500))
        monkeypatch.setattr(exact, "fits", lambda *_: False)
        streamed = search_rows(database, queries, 20, rows=(100, 500))
    assert answered == [spread > 0]  # equal rows are left to the search that streams
    np.testing.assert_array_equal(at_once.indices, streamed.indices)
    np.testing.assert_array_equal(at_once.squared, streamed.squared)


def test_few_rows_with_more_ties_than_predictions_are_searched_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(1)
    base, asked = torch.randn((5, 96), generator=random).repeat(100, 1), torch.randn((40, 96), generator=random)
    monkeypatch.setattr(exact, "_stream", lambda *_: pytest.fail("not at once"))
    with stored(tmp_path, "few", base) as database, stored(tmp_path, "few_q", asked) as queries:
        found = search(database, queries, 20)  # each query's nearest has 100 copies
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 20)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_enough_to_stream(tmp_path: Path, backend: str) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    random = torch.Generator().manual_seed(0)
    base = torch.nn.functional.normalize(torch.randn((20_000, 64), generator=random), dim=1).half()
    # Geographic order: the right rows come late and close together, as in a drive through a city.
    asked = torch.nn.functional.normalize(base[19_000:19_050].float() + 0.05 * torch.randn((50, 64)), dim=1).half()
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 20, backend, block_bytes=100_000)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 20)[0])


def test_memory_does_not_grow_with_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block_bytes = 64 * 1024
    reads: dict[int, list[int]] = {}
    buffers: dict[int, set[int]] = {}
    tiles: dict[int, list[int]] = {}
    again: dict[int, list[int]] = {}
    count = 0
    read_into, rows, pairs = Descriptors.read_into, Descriptors.rows, TorchFinder.pairs

    def counting_read(self: Descriptors, start: int, out: torch.Tensor) -> None:
        reads.setdefault(count, []).append(out.numel() * out.element_size())
        buffers.setdefault(count, set()).add(out.data_ptr())
        read_into(self, start, out)

    def counting_rows(self: Descriptors, wanted: Any, *rest: Any) -> torch.Tensor:
        again.setdefault(count, []).append(len(wanted) * self.row_bytes)
        return rows(self, wanted, *rest)

    def counting_pairs(self: TorchFinder, tile: Tile, *limits: torch.Tensor) -> Any:
        tiles.setdefault(count, []).append(4 * (tile.vectors.numel() + self._scores.numel()))
        return pairs(self, tile, *limits)

    monkeypatch.setattr(Descriptors, "read_into", counting_read)
    monkeypatch.setattr(Descriptors, "rows", counting_rows)
    monkeypatch.setattr(TorchFinder, "pairs", counting_pairs)
    asked = torch.randn(30, 32)
    for count in (2_000, 20_000):
        base = torch.randn(count, 32, generator=torch.Generator().manual_seed(1)).half()
        with stored(tmp_path, f"database{count}", base) as database, stored(tmp_path, f"q{count}", asked) as queries:
            search(database, queries, 5, block_bytes=block_bytes)
        assert max(reads[count]) <= block_bytes
        assert sum(reads[count]) == count * 64 + 30 * 128  # every byte once
        assert sum(again[count]) < 2 * 30 * 5 * 64  # little more than the predictions once more
        assert max(tiles[count]) <= 3 * block_bytes
    # Two reused database buffers and the queries' own, for ten times the database too.
    assert len(buffers[2_000]) == len(buffers[20_000]) == 3
    assert max(tiles[2_000]) == max(tiles[20_000])


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of pairs whose distances are computed in float64."""
    counts: list[int] = []

    def counting(queries: QueryBlock, query: torch.Tensor, *rest: Any) -> torch.Tensor:
        counts.append(len(query))
        return squared_distances(queries, query, *rest)

    monkeypatch.setattr(candidates, "squared_distances", counting)
    return counts


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-5])
def test_a_collapsed_network_does_not_score_every_pair(
    tmp_path: Path, backend: str, spread: float, compared: list[int]
) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    random = torch.Generator().manual_seed(0)
    centre = torch.randn(64, generator=random)
    base, asked = (centre + spread * torch.randn((n, 64), generator=random) for n in (5_000, 20))
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 5, backend)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 5)[0])
    assert sum(compared) < 0.05 * 5_000 * 20


def test_nearly_equal_distances_in_many_dimensions_are_told_apart_in_float32(
    tmp_path: Path, compared: list[int]
) -> None:
    """Random directions in 16,384 dimensions: distances spread by under 1%."""
    base, asked = (torch.nn.functional.normalize(torch.randn(n, 16_384), dim=1).half() for n in (400, 20))
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 10)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 10)[0])
    assert compared[-1] < 1.3 * 10 * 20


def test_many_equal_images_and_a_query_among_them(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    places = torch.nn.functional.normalize(torch.randn((7, 24), generator=random), dim=1)
    base = places[torch.randint(0, 7, (4_000,), generator=random)]
    asked = torch.cat([places, places + 1e-6 * torch.randn((7, 24), generator=random)])
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 30, block_bytes=20_000)
    indices, distances = brute_force(base, asked, 30)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)


def test_descriptors_in_memory_are_searched_as_those_of_a_file(tmp_path: Path) -> None:
    base, asked = torch.randn(300, 8), torch.randn(5, 8)
    for dtype in (torch.float32, torch.float16):
        database, queries = (InMemory(values.to(dtype), tmp_path / "x.h5") for values in (base, asked))
        found = search(database, queries, 3, block_bytes=2_000)
        np.testing.assert_array_equal(found.indices, brute_force(base.to(dtype), asked.to(dtype), 3)[0])


def test_many_queries_are_taken_in_blocks(tmp_path: Path) -> None:
    base, asked = torch.randn(300, 8), torch.randn(500, 8)
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 3, block_bytes=2_000)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 3)[0])


def test_low_matmul_precision_elsewhere_does_not_leak_in(tmp_path: Path) -> None:
    base = torch.nn.functional.normalize(1 + 1e-3 * torch.randn(3_000, 64), dim=1)
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", base[:20].clone()) as queries:
        torch.set_float32_matmul_precision("medium")
        try:
            found = search(database, queries, 5)
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(found.indices, brute_force(base, base[:20], 5)[0])


def test_row_sums_do_not_depend_on_position() -> None:
    values = torch.rand(37, 513, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole = _row_sums(values.clone())
    torch.testing.assert_close(whole, values.sum(1))
    for row in range(37):
        assert _row_sums(values[row : row + 1].clone())[0] == whole[row]


@settings(max_examples=40, deadline=None)
@given(
    dim=st.sampled_from([1, 3, 64, 1023, 1024, 1025, 3000]),
    rows=st.integers(1, 9),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_scores_err_less_than_their_bound(dim: int, rows: int, scale: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    vectors, asked = (scale * torch.randn((n, dim), generator=random) for n in (rows, 5))
    norms = vectors.double().norm(dim=1)
    tile = Tile(vectors, norms.square() / 2, float(norms.max()))
    queries = QueryBlock.of(asked)
    found = score_into(torch.empty(rows, 5), tile, queries)
    exact = vectors.double() @ asked.double().T - tile.half_squares[:, None]
    assert ((found - exact).abs() <= score_error(dim, queries.norms, tile.radius)).all()


@settings(max_examples=40, deadline=None)
@given(
    dim=st.sampled_from([1, 5, 64, 1500, 9000]),
    spread=st.sampled_from([0.0, 1e-7, 1e-4, 1e-2, 1.0]),
    work_bytes=st.sampled_from([1, 10_000, 10**7]),
    dtype=st.sampled_from([torch.float16, torch.float32]),
    seed=st.integers(0, 2**32 - 1),
)
def test_distances_of_chosen_pairs(
    folder: Path, dim: int, spread: float, work_bytes: int, dtype: torch.dtype, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    centre = torch.randn(dim, generator=random)
    base, asked = ((centre + spread * torch.randn((n, dim), generator=random)).to(dtype) for n in (30, 7))
    pair = torch.randperm(7 * 30, generator=random)[:100]
    query, row = pair // 30, pair % 30
    found = squared_distances(QueryBlock.of(asked), query, InMemory(base, folder), row, work_bytes)
    exact = (asked.double()[query] - base.double()[row]).square().sum(1)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0.0)
    # A function of the pair alone: the same in another order, and in other company.
    other = torch.randperm(100, generator=random)[:60]
    again = squared_distances(QueryBlock.of(asked), query[other], InMemory(base, folder), row[other], 5_000)
    assert torch.equal(found[other], again)


def test_equal_rows_are_found_even_if_every_hash_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.tensor([[1.0, 2], [0, 5], [1, 2], [7, 7], [0, 5]])
    for hashes in ("as they are", "all alike"):
        if hashes == "all alike":
            monkeypatch.setattr(distinct, "_hashes", lambda bits: torch.zeros(len(bits), dtype=torch.int64))
        first, which = distinct_rows(values)
        assert sorted(first.tolist()) == [0, 1, 3]
        assert torch.equal(values[first[which]], values)


@pytest.mark.parametrize(
    ("base", "asked", "k", "message"),
    [
        (torch.ones(4, 3), torch.ones(2, 5), 1, "queries.h5: descriptors have 5 dimensions"),
        (torch.ones(4, 3), torch.ones(0, 3), 1, "queries.h5: no queries"),
        (torch.ones(0, 3), torch.ones(2, 3), 1, "database.h5: no database images"),
        (torch.ones(4, 3), torch.ones(2, 3), 0, "--recall_values"),
        (torch.tensor([[1.0], [torch.nan], [2.0]]), torch.ones(2, 1), 1, "database.h5: descriptor 1 is not finite"),
        (torch.ones(3, 1), torch.tensor([[1.0], [torch.inf]]), 1, "queries.h5: descriptor 1 is not finite"),
    ],
)
def test_user_errors(tmp_path: Path, base: torch.Tensor, asked: torch.Tensor, k: int, message: str) -> None:
    import h5py

    for name, values in (("database", base), ("queries", asked)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["descriptors"] = values.numpy()
    with (
        Descriptors(tmp_path / "database.h5") as database,
        Descriptors(tmp_path / "queries.h5") as queries,
        pytest.raises(UserError, match=message) as caught,
    ):
        search(database, queries, k)
    assert "\n" not in str(caught.value)


def test_everything_runs_without_faiss(tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules["faiss"] = None  # any import of it now raises ImportError
import torch
from pathlib import Path
from typing import Any
from vgbench.errors import UserError
from vgbench.retrieval import search, write_descriptors
base = torch.eye(5)
database = write_descriptors(Path({str(tmp_path)!r}) / "d.h5", base, "")
queries = write_descriptors(Path({str(tmp_path)!r}) / "q.h5", base[2:4].clone(), "")
assert search(database, queries, 1).indices.tolist() == [[2], [3]]
try:
    search(database, queries, 1, "faiss")
except UserError as error:
    assert "--search_backend torch" in str(error) and "\\n" not in str(error), error
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "refused", done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 1.0])
def test_a_gpu_gives_the_same_indices(tmp_path: Path, dtype: torch.dtype, spread: float) -> None:
    random = torch.Generator().manual_seed(0)
    centre = torch.randn(128, generator=random)
    base, asked = ((centre + spread * torch.randn((n, 128), generator=random)).to(dtype) for n in (30_000, 60))
    with stored(tmp_path, "database", base) as database, stored(tmp_path, "queries", asked) as queries:
        found = search(database, queries, 20, runtime=Runtime(torch.device("cuda")), block_bytes=10**6)
    np.testing.assert_array_equal(found.indices, brute_force(base, asked, 20)[0])
